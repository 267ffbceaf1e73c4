"""What a study would be, before anything of it runs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from mgstudy.errors import InputError
from mgstudy.files import is_there
from mgstudy.robustness.objectives import risk_of
from mgstudy.study.definition.manifest import StudyManifest
from mgstudy.study.definition.study import Study
from mgstudy.study.results.carried import with_carried_parameters
from mgstudy.study.running.placement import this_machine, trial_resources
from mgstudy.study.search.cell_record import CellRecord
from mgstudy.study.search.rehearsal import rehearse
from mgstudy.study.storage.optuna_storage import opened_storage
from mgstudy.study.storage.write_behind import frozen_studies
from mgstudy.tracking.store import TrackingStore

_MAY_CHANGE = (
    "budget", "sampler", "search", "start_with_defaults", "pruner", "confirmation", "trials"
)  # fmt: skip
"""What a study may go on with another of; the last is said last."""


def plan(
    study: Study,
    measure: bool = False,
    nodes: Sequence[Mapping[str, float]] | None = None,
    detect: float | None = None,
) -> dict[str, Any]:
    """What a study would run, as JSON-like data: cells, trials, parameters, time, and which
    differences it would see. Runs nothing.

    Args:
        study: The study.
        measure: Whether to train two epochs of every cell, to time one.
        nodes: What each machine of a cluster has, as ``ray.nodes()`` names it; this machine when
            not given.
        detect: The relative difference that it is to see: how many seeds that takes is said.

    Raises:
        InputError: If not even one trial fits, MLflow can never record where it is to, or the study
            was begun with another space or protocol.
    """
    from mgstudy.report.console.plan import plan_content  # noqa: PLC0415 - no launch waits for it.

    if nodes is None:
        open_stores(study)
    study, waits_for = with_carried_parameters(study)
    if not waits_for:
        _refuse_what_was_begun_otherwise(study)
    content = plan_content(study, measure, nodes, detect)
    content["notes"] = [*content["notes"], *changed_settings(study)]
    return {**content, "waits_for": waits_for}


def changed_settings(study: Study) -> list[str]:
    """What a study that was launched before was launched with otherwise and goes on without, a line
    for each setting; and what stands in it for something else.

    Args:
        study: The study as it would be launched now.
    """
    seeds = study.config.factors.seed
    notes = []
    if len(seeds) > 1:
        notes.append(
            f"factors.seed: a search for each of {len(seeds)} seeds, compared seed by seed; "
            f"`confirmation: {{seeds: {len(seeds)}}}` trains one search's winner under so many, "
            "and compares their means"
        )
    objectives = study.config.training.objectives
    if len(objectives) > 1:
        notes.append(
            f"{' and '.join(objectives)} are searched for together: nothing is pruned, a cell's "
            f"winner is its best trial by {objectives[0]}, and the report draws the fronts"
        )
    notes += [
        f"{name}: each validation ranks once more, after {risk.name} of severity "
        f"{risk.severity:g} (seed {risk.seed}) to the features; graphs between items stay"
        for name in objectives
        if (risk := risk_of(name)) is not None
    ]
    if not is_there(study.folder.manifest):
        return notes
    before = StudyManifest.read(study.folder).config.model_dump(mode="json")
    now = study.config.model_dump(mode="json")
    for name in _MAY_CHANGE:
        if before[name] != now[name]:
            was, is_now = (json.dumps(of[name]) for of in (before, now))
            notes.append(f"{name}: was {was}, is {is_now}; what has run stays as it is")
    if now["trials"] < before["trials"]:
        notes[-1] += ", and a cell that has as many begins no more"
    return notes


def _refuse_what_was_begun_otherwise(study: Study) -> None:
    """Refuse what a launch would: other spaces or training than trials were begun with.

    Raises:
        InputError: If a cell has such trials.
    """
    if not is_there(study.folder.manifest):
        return
    config, checkpoints = study.config, study.folder.checkpoints
    with opened_storage(study.folder.database(config), create=False) as storage:
        known = [stored.study_name for stored in frozen_studies(storage)]
        for cell in study.plan.cells:
            dataset = study.datasets[cell.dataset]
            CellRecord(config, cell, dataset, storage, known, checkpoints).is_outdated()


def open_stores(study: Study) -> TrackingStore:
    """Try all that can be tried without starting anything; where MLflow is to record the study.

    Raises:
        InputError: If something that the study file names cannot be used; with its place.
        MgstudyError: If the storage cannot be reached.
    """
    rehearse(study)
    # Where Ray runs, it is imported; else a plan does not wait for it.
    ray = sys.modules.get("ray")
    is_known = is_there(study.folder.manifest) or (ray is not None and ray.is_initialized())
    if not (is_known or os.environ.get("RAY_ADDRESS")):
        trial_resources(study.config.resources, [this_machine()])
    tracking = study.config.tracking
    try:
        return TrackingStore(study.workspace, tracking, study.config.name)
    except InputError as error:
        if tracking.uri is None:
            raise
        told = str(error).removeprefix("tracking.uri: ")
        raise study.document.error(("tracking", "uri"), told) from error
