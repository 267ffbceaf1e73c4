"""Bring MLflow up to what a study's Optuna storage, spool and folder hold."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mgstudy.config.study import Tracking
from mgstudy.errors import InputError, MgstudyError
from mgstudy.files import Progress, no_progress
from mgstudy.study.definition.manifest import StudyManifest, as_launched
from mgstudy.study.results.summary import StudySummary, summarize
from mgstudy.study.search.state import CellState, RecordedTrial, State
from mgstudy.study.storage.layout import StudyFolder
from mgstudy.study.storage.lease import lease
from mgstudy.tracking.description import describe_study
from mgstudy.tracking.mlflow_tracker import deliver_pending
from mgstudy.tracking.models import cells_without_model, register_models
from mgstudy.tracking.run_writer import RunWriter
from mgstudy.tracking.spool import Spool
from mgstudy.tracking.store import TRACKING_VARIABLE, TrackingStore
from mgstudy.urls import PASSWORD_MASK, expand_url, first_line
from mgstudy.workspace import Workspace

_ENDED = (State.COMPLETE, State.PRUNED, State.FAILED)


@dataclass(frozen=True)
class Synced:
    """What MLflow was brought.

    Attributes:
        delivered: Events.
        models: URIs of the registered models, also of those that were there before; none of a
            study that has not finished.
        problem: Why cells have no registered model; empty if all have.
        store: Where that is.
    """

    delivered: int
    models: Sequence[str]
    problem: str
    store: TrackingStore


def sync(
    workspace: Workspace, name: str, rebuild: bool = False, progress: Progress = no_progress
) -> Synced:
    """Deliver to MLflow what it has not taken, and register the models of a finished study.

    Args:
        workspace: The workspace.
        name: The study's name.
        rebuild: Whether everything is delivered again, for a store that was lost. What is still
            there is left as it is.
        progress: Told how far it is.

    Raises:
        InputError: If there is no such study, or its tracking server's password is not kept.
        MgstudyError: If another process drives the study, or MLflow cannot be reached.
    """
    folder = StudyFolder.existing(workspace, name)
    manifest = StudyManifest.read(folder)
    with lease(folder.path, expand_url(manifest.storage), name):
        summary = summarize(workspace, name)
        spool = Spool(folder.path / "events.jsonl")
        add_missing(spool, summary)
        if rebuild:
            spool.rewind()
        waiting = spool.appended - spool.delivered
        store = TrackingStore(workspace, _tracking(manifest), name)
        writer = RunWriter(store, describe_study(manifest), spool.known.trials)
        try:
            deliver_pending(spool, writer, progress)
            writer.finish_study(summary.finished, best_checkpoints(summary.cells))
            models, problem = _register(workspace, store, summary, progress)
        except Exception as error:  # A server fails in any way.
            raise MgstudyError(
                f"MLflow at {store.shown_uri} does not take records: {first_line(error)}; "
                "nothing is lost, try again when it does"
            ) from error
    return Synced(waiting, models, problem, store)


def _register(
    workspace: Workspace, store: TrackingStore, summary: StudySummary, progress: Progress
) -> tuple[list[str], str]:
    """Register the models of a study that has finished, and say why some are missing."""
    if not summary.finished:
        return [], ""
    models, reason = [], "their weights are no longer in the study's folder"
    try:
        study = as_launched(summary.manifest, summary.folder, workspace)
    except (InputError, MgstudyError) as error:  # A dataset is gone, or is another one now.
        reason = str(error)
    else:
        models = register_models(store, study, summary, progress)
    missing = cells_without_model(store, summary)
    return models, f"no model is registered of {', '.join(missing)}: {reason}" if missing else ""


def add_missing(spool: Spool, summary: StudySummary) -> None:
    """Add to the spool what the study's storage knows of ended trials and the spool does not: a
    driver was killed between the two, or the study is older than its spool. Of epochs the storage
    knows the objective."""
    objective = f"validation/{summary.objective.replace('@', '_at_')}"
    for cell in summary.cells:
        for trial in cell.every_trial():
            _add_trial(spool, trial.key, _describe(cell, trial), trial, objective)


def _add_trial(
    spool: Spool,
    key: str,
    description: Mapping[str, Any],
    trial: RecordedTrial,
    objective: str,
) -> None:
    if trial.state not in _ENDED or key in spool.known.finished:
        return
    spool.start(key, description)
    for step, value in sorted(trial.values.items()):
        spool.report(key, step, {objective: value})
    spool.finish(key, trial.state.value, trial.outcome)


def _describe(cell: CellState, trial: RecordedTrial) -> dict[str, Any]:
    return {
        "cell": cell.key,
        "levels": dict(cell.levels),
        "number": trial.number,
        "stage": trial.stage.value,
        "seed": trial.seed,
        "parameters": dict(trial.parameters),
    }


def _tracking(manifest: StudyManifest) -> Tracking:
    tracking = Tracking(**manifest.tracking.model_dump())
    if PASSWORD_MASK in str(tracking.uri) and TRACKING_VARIABLE in os.environ:
        return Tracking(experiment=tracking.experiment)
    return tracking


def best_checkpoints(cells: Sequence[CellState]) -> dict[str, str | None]:
    """Keys of the cells' best trials, with their weights' files."""
    return {
        cell.best.key: cell.best.outcome.get("checkpoint")
        for cell in cells
        if cell.best is not None
    }
