"""A new study that begins with what another one has found: its trials, or where it trains
otherwise, its best configurations."""

from __future__ import annotations

import json
from collections.abc import Iterator

import optuna
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState

from mgstudy.config.parameters import Value
from mgstudy.errors import InputError, MgstudyError
from mgstudy.study.definition.cell import Cell
from mgstudy.study.definition.manifest import CellEntry, StudyManifest
from mgstudy.study.definition.study import Study
from mgstudy.study.results.summary import StudySummary
from mgstudy.study.search.cell_record import search_settings
from mgstudy.study.search.confirmation import search_of
from mgstudy.study.search.hidden import CONFIGURATIONS_ATTRIBUTE, PARENT_ATTRIBUTE
from mgstudy.study.search.samplers import queue_published_defaults
from mgstudy.study.search.stored_trials import Line, store_lines, stored_lines, stored_whole
from mgstudy.study.storage.epoch_metrics import EpochMetrics
from mgstudy.study.storage.optuna_storage import opened_storage, quiet_optuna

_MOST = 3
"""Configurations that a cell begins with which cannot begin with trials."""


def fork(parent: StudySummary, study: Study, manifest: StudyManifest) -> list[str]:
    """Begin a study with the trials of another: those of every cell that has the same levels,
    spaces and training protocol on the same data, with their confirmation. A cell that has the same
    levels alone tries the other's best configurations first that its space holds. That it did is in
    its record from then on, with the names of all cells that the other had.

    Args:
        parent: The other study.
        study: The new one, whose name no other has.
        manifest: The new one, as it will be launched.

    Returns:
        Keys of the cells that begin with trials.

    Raises:
        InputError: If no cell agrees in either way.
        MgstudyError: If either storage cannot be reached, or the files not be copied.
    """
    folder, name = study.folder, study.config.name
    began = [cell.key for cell in parent.cells if cell.every_trial()]
    family = {"study": parent.name, "cells": began}
    if parent.parent is not None:
        earlier = [key for key in parent.parent.cells if key not in began]
        family = {"study": f"{parent.name}, {parent.parent.study}", "cells": [*began, *earlier]}
    url = parent.folder.database(parent.manifest.config)
    with opened_storage(url, create=False) as source:
        lines = list(stored_lines(source, parent.name))
    alike = _alike(study, lines)
    configurations = _configurations(study, lines, alike)
    if not alike and not configurations:
        raise InputError(
            f"no cell of study {parent.name!r} has the levels of one of {name!r} and parameters "
            "that it can try: there is nothing to begin with; `mgstudy launch` begins anew"
        )
    try:
        folder.path.mkdir(parents=True)
        place = folder.database(study.config)
        with folder.kept_if_launched(is_new=True), stored_whole(place, name):
            with opened_storage(place) as target:
                store_lines(target, name, _kept(lines, alike, family), folder.trial_files)
                for cell in study.plan.cells:
                    if cell.key in configurations:
                        _queue(study, cell, target, configurations[cell.key], family)
            EpochMetrics(folder.epoch_metrics).put(
                epoch
                for epoch, _ in EpochMetrics.of(parent.folder).read()
                if search_of(epoch.trial.rpartition("/")[0]) in alike
            )
            folder.publish(folder.epoch_metrics)
            for key in alike:
                folder.trial_files.adopt(parent.folder.trial_files, key)
            manifest.write(folder)
    except OSError as error:  # Of a full disk, for example, or of the other's checkpoints.
        raise MgstudyError(f"study {name!r} cannot be made of {parent.name!r}: {error}") from error
    return [key for key in began if key in alike]


def _alike(study: Study, lines: list[Line]) -> set[str]:
    """Keys of the cells whose trials may be those of cells of the new study."""
    wanted = {
        cell.key: search_settings(study.config, cell, study.datasets[cell.dataset])
        for cell in study.plan.cells
    }
    return {
        line["study"]
        for line in lines
        if line.get("study") in wanted
        and all(
            line["user"].get(attribute) == json.loads(json.dumps(content))
            for attribute, content in wanted[line["study"]].items()
        )
    }


def _configurations(
    study: Study, lines: list[Line], alike: set[str]
) -> dict[str, list[dict[str, Value]]]:
    """The best configurations of the other study's cells, best first, by the keys of those cells
    that do not begin with its trials and whose spaces hold them."""
    if study.config.search.paired:  # Which draws its own, the same for cells that share them.
        return {}
    cells = {cell.key: cell for cell in study.plan.cells if cell.key not in alike}
    found: dict[str, list[tuple[float, dict[str, Value]]]] = {}
    cell: Cell | None = None
    for line in lines:
        if "study" in line:
            cell = cells.get(line["study"])
        elif cell is not None and line["state"] == TrialState.COMPLETE.name:
            known = {n: x for n, x in line["params"].items() if n in cell.searched}
            if known and all(cell.searched[name].holds(x) for name, x in known.items()):
                found.setdefault(cell.key, []).append((line["values"][0], known))
    best = {key: sorted(of, key=lambda entry: -entry[0])[:_MOST] for key, of in found.items()}
    return {key: [parameters for _, parameters in of] for key, of in best.items()}


@quiet_optuna()
def _queue(
    study: Study,
    cell: Cell,
    storage: BaseStorage,
    configurations: list[dict[str, Value]],
    family: Line,
) -> None:
    """Begin a cell's search with published defaults, where it is to, and these configurations."""
    config = study.config
    name = CellEntry.of(config.name, cell, 0).study
    directions = [StudyDirection.MAXIMIZE for _ in config.training.objectives]
    made = optuna.create_study(storage=storage, study_name=name, directions=directions)
    settings = search_settings(config, cell, study.datasets[cell.dataset])
    told = {PARENT_ATTRIBUTE: family, CONFIGURATIONS_ATTRIBUTE: len(configurations)}
    for attribute, value in {**settings, **told}.items():
        made.set_user_attr(attribute, value)
    if config.start_with_defaults:
        queue_published_defaults(made, cell)
    for parameters in configurations:
        made.enqueue_trial(parameters, skip_if_exists=True)


def _kept(lines: list[Line], cells: set[str], family: Line) -> Iterator[Line]:
    is_kept = False
    for line in lines:
        if "study" not in line:
            if is_kept:
                yield line
            continue
        is_kept = search_of(line["study"]) in cells
        if line["study"] in cells:
            yield {**line, "user": {**line["user"], PARENT_ATTRIBUTE: family}}
        elif is_kept:
            yield line
