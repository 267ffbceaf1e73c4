"""What a study would be, before anything of it runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from mgstudy.errors import InputError
from mgstudy.files import is_there
from mgstudy.report.console.plan import plan_content
from mgstudy.study.definition.study import Study
from mgstudy.study.results.carried import with_carried_parameters
from mgstudy.study.running.placement import this_machine, trial_resources
from mgstudy.study.search.rehearsal import rehearse
from mgstudy.tracking.store import TrackingStore


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
        InputError: If not even one trial fits, or MLflow can never record where it is to.
    """
    if nodes is None:
        open_stores(study)
    study, waits_for = with_carried_parameters(study)
    return {**plan_content(study, measure, nodes, detect), "waits_for": waits_for}


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
