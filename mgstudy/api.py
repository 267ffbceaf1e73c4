"""The library: prepare a dataset, read a study, launch it. The command line calls these functions.

The glue between the rooms; it decides nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from mgstudy.config.document import Document
from mgstudy.config.study import Robustness, Tracking
from mgstudy.data import loading
from mgstudy.data.dataset import Dataset
from mgstudy.data.files import Progress, no_progress
from mgstudy.data.manifest import Manifest
from mgstudy.data.prepare import prepare_file
from mgstudy.data.workspace import Workspace
from mgstudy.environment import describe_environment, installed_packages
from mgstudy.report.live import LiveDisplay
from mgstudy.report.page.content import report_content
from mgstudy.report.page.render import render, save_report
from mgstudy.report.results import StudyResults
from mgstudy.report.robustness import (
    RobustnessTables,
    measurements,
    robustness_tables,
    write_tables,
)
from mgstudy.report.robustness_plots import write_plots
from mgstudy.report.robustness_progress import RobustnessProgress
from mgstudy.study.definition import Study, check_study, read_study
from mgstudy.study.driver import (
    KeepBestCheckpoint,
    ray_session,
    run_trials,
)
from mgstudy.study.events import StudyListener
from mgstudy.study.exclusive import only_driver, refuse_local_file
from mgstudy.study.folder import StudyFolder
from mgstudy.study.interrupts import terminated_like_interrupt
from mgstudy.study.placement import alive_nodes, trial_resources
from mgstudy.study.record import StudyRecord, cell_study_name
from mgstudy.study.robustness_driver import remaining_tasks, run_robustness
from mgstudy.study.robustness_plan import plan_robustness
from mgstudy.study.robustness_results import RobustnessResults
from mgstudy.study.storage import expand_url, open_driven_storage, recorded_url, shown_url
from mgstudy.study.summary import StudySummary, summarize
from mgstudy.tracking import sync as tracking_sync
from mgstudy.tracking.attachments import attach
from mgstudy.tracking.description import describe_study
from mgstudy.tracking.mlflow_tracker import MlflowTracker
from mgstudy.tracking.models import register_models
from mgstudy.tracking.robustness import record_robustness
from mgstudy.tracking.spool import Spool
from mgstudy.tracking.store import TrackingStore
from mgstudy.tracking.sync import Synced, add_missing

__all__ = [
    "Launched",
    "Synced",
    "launch",
    "load_dataset",
    "load_study",
    "measure_robustness",
    "prepare",
    "read_launched_study",
    "read_study",
    "resume",
    "sync",
    "write_report",
]

logger = logging.getLogger(__name__)
REPORT_FILE = "report.html"


@dataclass(frozen=True)
class Launched:
    """How a launch ended.

    Attributes:
        summary: What the study has come to.
        finished: Whether all trials have run; false after an interruption.
        undelivered: Records that MLflow did not take.
    """

    summary: StudySummary
    finished: bool
    undelivered: int


def prepare(
    path: Path,
    overrides: Iterable[str] = (),
    home: Path | str | None = None,
    progress: Progress = no_progress,
) -> Manifest:
    """Make the dataset that a pipeline file describes.

    Args:
        path: The pipeline file.
        overrides: ``a.b=value`` changes to it.
        home: The workspace, a folder or URL; ``MGSTUDY_HOME`` or the
            current directory when not given.
        progress: Told what is being done.

    Raises:
        InputError: For a wrong setting, with file and line, or wrong raw data, with file and row.
    """
    return prepare_file(path, overrides, Workspace.resolve(home), progress)


def load_dataset(name: str, home: Path | str | None = None) -> Dataset:
    """Load a prepared dataset.

    Args:
        name: The name it was prepared under.
        home: The workspace, a folder or URL; ``MGSTUDY_HOME`` or the
            current directory when not given.

    Raises:
        InputError: If there is no such dataset, naming the nearest.
    """
    return loading.load_dataset(Workspace.resolve(home), name)


def load_study(name: str, home: Path | str | None = None) -> StudyResults:
    """What a launched study has come to, as pandas tables, also while it runs.

    >>> mgstudy.load_study("tiktok").comparison()  # doctest: +SKIP

    Args:
        name: The study's name.
        home: The workspace; ``MGSTUDY_HOME`` or the current directory when not given.

    Raises:
        InputError: If the workspace has no study of that name.
    """
    return StudyResults.load(Workspace.resolve(home), name)


def write_report(study: str, path: Path, home: Path | str | None = None) -> bool:
    """Write a study as one HTML page, and keep a copy in its MLflow run.

    Args:
        study: The study's name.
        path: The file to write.
        home: The workspace, a folder or URL; ``MGSTUDY_HOME`` or the current directory when not
            given.

    Returns:
        Whether MLflow took the copy.

    Raises:
        InputError: If the workspace has no study of that name, or ``path`` is a folder.
        MgstudyError: If the study cannot be read or the file cannot be written.
    """
    workspace = Workspace.resolve(home)
    document = render(report_content(workspace, study))
    save_report(document, path)
    settings = StudyFolder.existing(workspace, study).read_manifest()["config"]["tracking"]
    return _keep_report(
        TrackingStore(workspace, Tracking(**settings), study), study, lambda: document
    )


def _keep_report(store: TrackingStore, study: str, document: Callable[[], str]) -> bool:
    try:
        return attach(store, study, REPORT_FILE, document())
    except Exception as error:  # Whatever goes wrong here, the study has its results.
        first_line = str(error).partition("\n")[0]
        logger.warning("no report is kept in MLflow at %s: %s", store.shown_uri, first_line)
        return False


def _register_models(store: TrackingStore, study: Study, summary: StudySummary) -> None:
    try:
        register_models(store, study, summary)
    except Exception as error:  # Whatever goes wrong here, the study has its results.
        first_line = shown_url(str(error).partition("\n")[0])
        logger.warning(
            "no models are registered in MLflow at %s: %s; launching again tries again",
            store.shown_uri,
            first_line,
        )


def launch(
    study: Study,
    console: Console | None = None,
    listeners: Iterable[StudyListener] = (),
    on_record: Callable[[StudyRecord], None] | None = None,
    retry_failed: bool = False,
) -> Launched:
    """Run what is left of a study, here or on the cluster of ``RAY_ADDRESS``.

    A study that was launched before goes on: finished trials stay, missing ones run. When all have
    run, the robustness of the trained models is measured, if the study file asks for it.

    Args:
        study: The study.
        console: Where to show progress; nowhere when not given.
        listeners: Told of every event besides the display and MLflow.
        on_record: Called with the record before the first trial.
        retry_failed: Whether trials that failed run again, under new numbers, with the same
            parameters and seeds; the record of the failures stays.

    Raises:
        InputError: If the study was begun with another space or protocol.
        MgstudyError: If another process drives the study, or storage or Ray cannot be reached.
    """
    config, folder = study.config, study.folder
    storage_url = folder.storage_url(config)
    database = expand_url(storage_url)
    with (
        terminated_like_interrupt(),
        folder.driver_lock(),
        only_driver(database, config.name) as hold,
        ExitStack() as ending,
    ):
        store = TrackingStore(study.workspace, config.tracking, config.name)
        told: list[StudyListener] = list(listeners)
        storage = open_driven_storage(database)
        ending.callback(storage.close)
        hold.tell(storage.give_up)
        record = StudyRecord(config, study.plan.cells, study.datasets, storage, told)
        if retry_failed:
            record.retry_failed()
        manifest = _manifest(study, storage_url, store)
        folder.write_manifest(manifest)
        best = {
            key: (trial.number, float(trial.value or 0.0))
            for key, entry in record.cells.items()
            if (trial := record.best(entry.cell)) is not None
        }
        policy = config.checkpoints
        keeps_states = policy.keep_last or policy.keep_every is not None
        checkpoints = KeepBestCheckpoint(folder.trial_files, best, keeps_states)
        checkpoints.sweep(record)
        told.append(checkpoints)
        spool = Spool(folder.events)
        add_missing(spool, summarize(study.workspace, config.name))
        description = describe_study(manifest, installed_packages())
        tracker = MlflowTracker(store, description, spool)
        told.append(tracker)
        finished = False
        try:
            if on_record is not None:
                on_record(record)
            finished = _run(study, record, told, console)
        finally:
            checkpoints.sweep(record)
            tracker.finish(finished, record.best_checkpoints())
    summary = StudyResults.load(study.workspace, config.name).summary
    if finished and tracker.undelivered == 0:
        _register_models(store, study, summary)
    if finished and config.robustness is not None and any(cell.best for cell in summary.cells):
        try:
            _measure(study.workspace, config.name, console)
        except KeyboardInterrupt:
            finished = False
    if finished:
        _keep_report(
            store, config.name, lambda: render(report_content(study.workspace, config.name))
        )
    return Launched(summary, finished, tracker.undelivered)


def resume(
    name: str,
    console: Console | None = None,
    home: Path | str | None = None,
    **parts: Any,
) -> Launched:
    """Go on with a study that was launched before, as its study file was then.

    Args:
        name: The study's name.
        console: Where to show progress; nowhere when not given.
        home: The workspace; ``MGSTUDY_HOME`` or the current directory when not given.
        **parts: As in ``launch``.

    Raises:
        InputError: If there is no such study, or its datasets are no longer there.
        MgstudyError: As in ``launch``.
    """
    return launch(read_launched_study(name, home), console, **parts)


def read_launched_study(name: str, home: Path | str | None = None) -> Study:
    """Read a study as it was launched last, from the workspace.

    Raises:
        InputError: If there is no such study, or its datasets are no longer there.
        MgstudyError: If what is kept of it is damaged.
    """
    workspace = Workspace.resolve(home)
    folder = StudyFolder.existing(workspace, name)
    return check_study(Document(str(folder.manifest), folder.read_manifest()["config"]), workspace)


def sync(
    name: str,
    home: Path | str | None = None,
    rebuild: bool = False,
    progress: Progress = no_progress,
) -> Synced:
    """Deliver to MLflow what it has not taken of a study, and register a finished one's models.

    Args:
        name: The study's name.
        home: The workspace; ``MGSTUDY_HOME`` or the current directory when not given.
        rebuild: Whether everything is delivered again, the report among it, for a store that was
            lost. What is still there is left as it is.
        progress: Told how far it is.

    Raises:
        InputError: If there is no such study, or its tracking server's password is not kept.
        MgstudyError: If another process drives the study, or MLflow cannot be reached.
    """
    workspace = Workspace.resolve(home)
    synced = tracking_sync.sync(workspace, name, rebuild, progress)
    if rebuild and StudyResults.load(workspace, name).summary.finished:
        _keep_report(synced.store, name, lambda: render(report_content(workspace, name)))
    return synced


def _run(
    study: Study, record: StudyRecord, told: list[StudyListener], console: Console | None
) -> bool:
    """Run what is left, if anything is; whether all of it ran."""
    config = study.config
    if record.remaining() == 0:
        return True
    with ray_session():
        database = expand_url(study.folder.storage_url(config))
        refuse_local_file(database, len(alive_nodes()))
        resources = trial_resources(config.resources, alive_nodes())
        display = None
        if console is not None:
            display = LiveDisplay(
                record,
                study.varying_factors,
                config.training.objective,
                resources.slots,
                console,
            )
            told.append(display)
            display.start()
        try:
            return run_trials(record, resources, study.folder)
        finally:
            if display is not None:
                display.close()


def measure_robustness(
    name: str,
    home: Path | str | None = None,
    console: Console | None = None,
    settings: Robustness | None = None,
    cells: Sequence[str] = (),
    risks: Sequence[str] = (),
) -> RobustnessTables:
    """Measure what is not yet measured of a study's trained models, and write tables and plots.

    Confirmed models are measured on the test split; of a cell without, the best trial is, on the
    validation split.

    Args:
        name: The study's name.
        home: The workspace; ``MGSTUDY_HOME`` or the current directory when not given.
        console: Where to show progress; nowhere when not given.
        settings: What to measure; what the study file says, or the defaults, when not given.
        cells: Parts of cell keys, to measure only some.
        risks: Labels of risks, ``flatness`` among them, to measure only some.

    Returns:
        The tables of everything measured so far, also in the study's folder under ``robustness``.

    Raises:
        InputError: If there is no such study, cell or risk, or nothing is trained yet.
        MgstudyError: If another process measures the study, or a measurement fails.
        KeyboardInterrupt: After Ctrl-C; what was measured is kept.
    """
    return _measure(Workspace.resolve(home), name, console, settings, cells, risks)


def _measure(
    workspace: Workspace,
    name: str,
    console: Console | None,
    settings: Robustness | None = None,
    cells: Sequence[str] = (),
    risks: Sequence[str] = (),
) -> RobustnessTables:
    plan = plan_robustness(workspace, name, settings, cells, risks)
    results = RobustnessResults(plan.study.folder)
    progress = RobustnessProgress(
        remaining_tasks(plan, results),
        plan.summary.varying_factors(),
        plan.summary.objective,
        console or Console(quiet=True),
    )
    with results.writing():
        if progress.total:
            with ray_session(), progress.shown() as on_result:
                resources = trial_resources(plan.study.config.resources, alive_nodes())
                run_robustness(plan, results, resources, on_result)
        # What was measured before belongs into the tables too.
        everything = plan_robustness(workspace, name, settings) if cells or risks else plan
        tables = robustness_tables(everything, results)
        files = write_tables(tables, everything, results)
        risk_names = {risk.label: risk.name for risk in everything.settings.risks}
        objective = everything.summary.objective
        files += write_plots(tables, objective, results.path / "plots", risk_names)
        config = everything.study.config
        store = TrackingStore(workspace, config.tracking, config.name)
        try:
            record_robustness(store, config.name, measurements(everything, results), files)
        except Exception as error:  # Whatever the server does, the measurements are on disk.
            first_line = str(error).partition("\n")[0]
            logger.warning("MLflow at %s does not take records: %s", store.shown_uri, first_line)
    return tables


def _manifest(study: Study, storage_url: str, store: TrackingStore) -> dict[str, Any]:
    return {
        "name": study.config.name,
        "config": _config_without_passwords(study),
        "storage": recorded_url(storage_url),
        "tracking": {"uri": store.recorded_uri, "experiment": store.experiment},
        "cells": [
            {
                "key": cell.key,
                "levels": dict(cell.levels),
                "study": cell_study_name(study.config.name, cell),
                "budget": study.budgets[cell.key],
                "fixed": cell.fixed,
                "spaces": cell.describe()["spaces"],
            }
            for cell in study.plan.cells
        ],
        "left_out": [
            {"levels": dict(entry.levels), "reason": entry.reason} for entry in study.plan.left_out
        ],
        "datasets": {
            name: {
                "interactions": dataset.fingerprint,
                "features": dict(dataset.feature_fingerprints),
            }
            for name, dataset in study.datasets.items()
        },
        "launched": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": describe_environment(),
    }


def _config_without_passwords(study: Study) -> dict[str, Any]:
    content = study.config.model_dump(mode="json")
    if content["storage"] is not None:
        content["storage"] = recorded_url(content["storage"])
    if content["tracking"]["uri"] is not None:
        content["tracking"]["uri"] = recorded_url(content["tracking"]["uri"])
    return content
