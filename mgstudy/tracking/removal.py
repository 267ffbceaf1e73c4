"""Take a study out of MLflow: its runs, models and artifacts."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mgstudy.errors import MgstudyError
from mgstudy.files import listed, remove_all
from mgstudy.study.results.summary import StudySummary
from mgstudy.tracking.store import STUDY_TAG, TrackingStore, using_mlflow
from mgstudy.urls import redacted

if TYPE_CHECKING:
    from mlflow.entities import RunInfo

_MOST_EXPERIMENTS = 50_000
"""As many as MLflow lists at once."""
_RUNS_AT_ONCE = 1_000
_CLEANED_UP_HERE = "sqlite:"
"""How the address of a store begins that `mlflow gc` is run on here."""


@dataclass(frozen=True)
class InMlflow:
    """What MLflow has of a study.

    Attributes:
        runs: Ids of its runs.
        models: Versions of its registered model, which is called like the study, that are of its
            runs.
        experiment: Id of its experiment, if that has no other runs.
    """

    runs: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    experiment: str | None = None


@using_mlflow()
def found_in_mlflow(store: TrackingStore, summary: StudySummary) -> InMlflow:
    """What MLflow has of a study.

    Raises:
        MgstudyError: If what MLflow would remove of a run is not the run's own folder.
        Exception: Whatever the tracking server does.
    """
    experiment = store.client.get_experiment_by_name(store.experiment)
    if experiment is None:
        return InMlflow()
    store.experiment_id = experiment.experiment_id
    infos = [run.info for run in store.runs({STUDY_TAG: summary.name}, deleted=True)]
    runs = [info.run_id for info in infos]
    if store.uri.startswith(_CLEANED_UP_HERE):
        for info in infos:
            _refuse_what_is_not_its_own(info, store)
    is_own = len(store.runs({}, deleted=True)) == len(runs)
    # Another's model may have the name, as may a study of another workspace with this server.
    versions = store.client.search_model_versions(f"name = '{summary.name}'")
    models = [str(version.version) for version in versions if version.run_id in set(runs)]
    return InMlflow(tuple(runs), tuple(models), experiment.experiment_id if is_own else None)


def _refuse_what_is_not_its_own(run: RunInfo, store: TrackingStore) -> None:
    """`mlflow gc` removes whatever the store says, the current folder where it says nothing."""
    if not str(run.artifact_uri).rstrip("/").endswith(f"/{run.run_id}/artifacts"):
        raise MgstudyError(
            f"MLflow at {redacted(store.uri)} says that run {run.run_id} has its artifacts in "
            f"{run.artifact_uri!r}, which is not that run's own folder; nothing is removed"
        )


@using_mlflow()
def remove_from_mlflow(store: TrackingStore, found: InMlflow) -> bool:
    """Delete what was found; whether its artifacts are gone, too: a server keeps what was deleted
    until `mlflow gc` is given there.

    Raises:
        MgstudyError: If artifacts cannot be removed, or MLflow's own clean-up fails.
        Exception: Whatever the tracking server does.
    """
    _remove_models(store, found)
    for run in found.runs:
        if store.client.get_run(run).info.lifecycle_stage == "active":
            store.client.delete_run(run)
    whole = found.experiment
    if whole and store.client.get_experiment(whole).lifecycle_stage == "active":
        store.client.delete_experiment(whole)
    if not store.uri.startswith(_CLEANED_UP_HERE):
        return False
    if whole:  # First, for what cannot be removed can be tried again as long as MLflow has runs.
        remove_artifacts(store)
    for which in cleaned_up(found):
        done = subprocess.run(
            [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", store.uri, *which],
            env={**os.environ, "MLFLOW_TRACKING_URI": store.uri},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            said = done.stderr.strip() or f"it ended with {done.returncode}"
            raise MgstudyError(f"MLflow cannot clean up: {said.splitlines()[-1]}")
    return True


def _remove_models(store: TrackingStore, found: InMlflow) -> None:
    """Delete the versions, and the registered model that a study made, once it has no other."""
    for version in found.models:
        store.client.delete_model_version(store.study, version)
    for model in store.client.search_registered_models(f"name = '{store.study}'", max_results=1):
        is_empty = not store.client.search_model_versions(f"name = '{store.study}'")
        if is_empty and STUDY_TAG in model.tags:
            store.client.delete_registered_model(store.study)


def cleaned_up(found: InMlflow) -> list[tuple[str, str]]:
    """What `mlflow gc` is told to clean up, each time: no system takes a word of any length."""
    if found.experiment is not None:
        return [("--experiment-ids", found.experiment)]
    starts = range(0, len(found.runs), _RUNS_AT_ONCE)
    return [("--run-ids", ",".join(found.runs[s : s + _RUNS_AT_ONCE])) for s in starts]


def remove_artifacts(store: TrackingStore) -> None:
    """Remove what lies in an experiment's folder, but for folders of other experiments in there.

    Raises:
        MgstudyError: If something cannot be removed.
    """
    from mlflow.entities import ViewType  # noqa: PLC0415

    inside = f"{store.experiment.strip('/')}/"
    found = store.client.search_experiments(ViewType.ALL, max_results=_MOST_EXPERIMENTS)
    others = [f"{e.name.strip('/')}/" for e in found if e.name != store.experiment]
    kept = {name.removeprefix(inside).split("/")[0] for name in others if name.startswith(inside)}
    # One of the same name, but for a slash, has the same folder.
    remove_all(path for path in listed(store.artifacts) if not kept & {"", path.name})
    with suppress(OSError):
        store.artifacts.rmdir()
