"""Launched studies: which there are, and where they and their trials stand."""

from __future__ import annotations

from pathlib import Path

from mgstudy.config.factors import name_fault
from mgstudy.errors import MgstudyError
from mgstudy.study.definition.manifest import StudyManifest
from mgstudy.study.results.summary import StudySummary, summarize
from mgstudy.study.search.trials import RecordedTrial
from mgstudy.study.storage.layout import StudyFolder
from mgstudy.tracking.store import STUDY_TAG, TRIAL_TAG, TrackingStore, using_mlflow
from mgstudy.urls import first_line
from mgstudy.workspace import Workspace


def read_summary(name: str, home: Path | str | None = None) -> StudySummary:
    """Where a launched study stands, also while it runs.

    Raises:
        InputError: If the workspace has no study of that name.
        MgstudyError: If its manifest or storage cannot be read.
    """
    return summarize(Workspace.resolve(home), name)


def list_studies(home: Path | str | None = None) -> dict[str, StudySummary | MgstudyError]:
    """Every launched study of a workspace by its name, the newest first; the error of one that
    cannot be read.

    Raises:
        MgstudyError: If the workspace cannot be listed.
    """
    workspace = Workspace.resolve(home)
    found: dict[str, StudySummary | MgstudyError] = {}
    for name in workspace.names(workspace.studies):
        if name_fault(name):
            continue
        try:
            if StudyFolder.of(workspace, name).is_launched():
                found[name] = summarize(workspace, name)
        except MgstudyError as error:
            found[name] = error
    newest = sorted(found, key=lambda name: _launched(found[name]), reverse=True)
    return {name: found[name] for name in newest}


def _launched(found: StudySummary | MgstudyError) -> str:
    return found.manifest.launched if isinstance(found, StudySummary) else ""


def find_trial(study: str, trial: str, home: Path | str | None = None) -> RecordedTrial:
    """A trial of a study.

    Args:
        study: The study's name.
        trial: Its key, or what ``StudySummary.trial_of`` takes for it.
        home: The workspace; ``MGSTUDY_HOME`` or the current directory when not given.

    Raises:
        InputError: If there is none, or more than one.
        MgstudyError: If the study cannot be read.
    """
    return summarize(Workspace.resolve(home), study).trial_of(trial)


@using_mlflow()
def trial_address(study: str, key: str, home: Path | str | None = None) -> str:
    """Where a browser finds a trial's run in MLflow, on its server or on the one that `mgstudy ui`
    opens; why there is none, in words, where it is not found.

    Args:
        study: The study's name.
        key: The trial's key.
        home: The workspace; ``MGSTUDY_HOME`` or the current directory when not given.
    """
    workspace = Workspace.resolve(home)
    manifest = StudyManifest.read(StudyFolder.existing(workspace, study))
    try:
        store = TrackingStore(workspace, manifest.config.tracking, study)
        experiment = store.find_experiment()
        run = None
        if experiment is not None:
            store.experiment_id = experiment.experiment_id
            run = store.find_run({STUDY_TAG: study, TRIAL_TAG: key})
    except Exception as error:  # A server fails in any way.
        return f"unknown: {first_line(error)}"
    if experiment is None or run is None:
        return f"none; `mgstudy sync {study}` brings MLflow what it lacks"
    server = (
        store.shown_uri.rstrip("/") if store.uri.startswith("http") else "http://127.0.0.1:5000"
    )
    return f"{server}/#/experiments/{experiment.experiment_id}/runs/{run}"
