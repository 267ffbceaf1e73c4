"""A new study that begins with the trials of another one."""

from __future__ import annotations

import json
from collections.abc import Iterator

from mgstudy.errors import InputError, MgstudyError
from mgstudy.study.definition.manifest import StudyManifest
from mgstudy.study.definition.study import Study
from mgstudy.study.results.summary import StudySummary
from mgstudy.study.search.cell_record import search_settings
from mgstudy.study.search.confirmation import search_of
from mgstudy.study.search.hidden import PARENT_ATTRIBUTE
from mgstudy.study.search.stored_trials import Line, store_lines, stored_lines
from mgstudy.study.storage.epoch_metrics import EpochMetrics
from mgstudy.study.storage.optuna_storage import opened_storage


def fork(parent: StudySummary, study: Study, manifest: StudyManifest) -> list[str]:
    """Begin a study with the trials of another: those of every cell that has the same levels,
    spaces and training protocol on the same data, with their confirmation. That it did is in its
    record from then on, with the names of all cells that the other had.

    Args:
        parent: The other study.
        study: The new one, whose name no other has.
        manifest: The new one, as it will be launched.

    Returns:
        Keys of the cells that begin with trials.

    Raises:
        InputError: If no cell agrees.
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
    if not alike:
        raise InputError(
            f"no cell of study {parent.name!r} has the levels, spaces, training and data of one of "
            f"{name!r}: there is nothing to begin with; `mgstudy launch` begins anew"
        )
    try:
        with folder.kept_if_launched():
            folder.path.mkdir(parents=True)
            with opened_storage(folder.database(study.config)) as target:
                store_lines(target, name, _kept(lines, alike, family), folder.trial_files)
            EpochMetrics(folder.epoch_metrics).put(
                epoch
                for epoch, _ in EpochMetrics(parent.folder.epoch_metrics).read()
                if search_of(epoch.trial.rpartition("/")[0]) in alike
            )
            for cell in alike:
                folder.trial_files.adopt(parent.folder.trial_files, cell)
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
