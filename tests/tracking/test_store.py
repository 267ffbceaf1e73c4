from __future__ import annotations

from pathlib import Path

import mlflow
import pytest

from mgstudy.config.study import Tracking
from mgstudy.errors import InputError
from mgstudy.tracking.removal import InMlflow, cleaned_up, remove_artifacts
from mgstudy.tracking.store import TrackingStore, tracking_uri
from mgstudy.workspace import Workspace


@pytest.fixture
def workspace(home: Path, study: str) -> Workspace:
    return Workspace(home)


@pytest.fixture
def store(workspace: Workspace, study: str) -> TrackingStore:
    return TrackingStore(workspace, Tracking(), study)


def test_the_study_file_wins_over_the_environment_and_that_over_the_workspace(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tracking_uri(workspace) == f"sqlite:///{workspace.home}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://from-environment")
    assert tracking_uri(workspace) == "http://from-environment"
    monkeypatch.setenv("TRACKING_PASSWORD", "secret")
    store = TrackingStore(
        workspace, Tracking(uri="https://me:${TRACKING_PASSWORD}@from-file", experiment="e"), "s"
    )
    assert store.uri == "https://me:secret@from-file"
    assert store.shown_uri == "https://me:***@from-file"
    assert store.experiment == "e"
    monkeypatch.delenv("TRACKING_PASSWORD")
    with pytest.raises(InputError, match=r"\$\{TRACKING_PASSWORD\} is not set"):
        tracking_uri(workspace, "https://me:${TRACKING_PASSWORD}@from-file")


def test_mlflow_typed_in_the_workspace_opens_the_same_store(
    store: TrackingStore, study: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert store.experiment_id
    home = store.workspace.home
    monkeypatch.chdir(home)
    assert mlflow.get_tracking_uri() == store.uri
    experiment = mlflow.get_experiment_by_name(study)
    assert experiment is not None
    assert experiment.experiment_id == store.experiment_id
    assert experiment.artifact_location == (home / "mlruns" / study).as_uri()


def test_any_number_of_params_and_runs_is_written_and_found(store: TrackingStore) -> None:
    parent = store.client.create_run(store.experiment_id, tags={"role": "study"}).info.run_id
    params = {f"p{number}": "x" * 100 for number in range(250)}
    store.log(parent, params)
    assert store.client.get_run(parent).data.params == params
    assert store.find_run({"role": "study"}) == parent
    assert store.find_run({"role": "trial"}) is None
    children = {
        store.client.create_run(
            store.experiment_id, tags={"mlflow.parentRunId": parent}
        ).info.run_id
        for _ in range(3)
    }
    assert {run.info.run_id for run in store.runs({"mlflow.parentRunId": parent})} == children


def test_any_number_of_runs_is_cleaned_up_with_words_that_a_system_takes() -> None:
    runs = tuple(f"{number:032}" for number in range(10_001))
    words = cleaned_up(InMlflow(runs))
    assert {option for option, _ in words} == {"--run-ids"}
    assert [run for _, word in words for run in word.split(",")] == list(runs)
    assert max(len(word) for _, word in words) < 1 << 17
    assert cleaned_up(InMlflow(runs, experiment="7")) == [("--experiment-ids", "7")]
    assert cleaned_up(InMlflow()) == []


def test_artifacts_are_removed_in_the_workspace_only_and_not_those_of_others(
    workspace: Workspace, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "mine").mkdir(parents=True)
    store = TrackingStore(workspace, Tracking(experiment=str(elsewhere)), "s")
    own = workspace.home / "mlruns" / str(elsewhere).strip("/")
    found = store.client.get_experiment(store.open_experiment({}))
    assert found.artifact_location == own.as_uri()
    store.client.create_experiment(f"{elsewhere}/inside")
    for run in ("run", "inside/run"):
        (own / run).mkdir(parents=True)
    remove_artifacts(store)
    assert [path.name for path in own.rglob("*")] == ["inside", "run"]
    remove_artifacts(TrackingStore(workspace, Tracking(experiment=f"{elsewhere}/inside"), "s"))
    assert not own.joinpath("inside").exists()
    assert (elsewhere / "mine").is_dir()


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        ("./mlruns", "in folders any more"),
        ("/home/me/mlruns", "in folders any more"),
        ("file:///home/me/mlruns", "in folders any more"),
        ("htp://host:5000", "in htp:"),
        ("ftp://me:secret@host", "in ftp:"),
    ],
)
def test_what_can_never_take_records_is_refused_before_anything_starts(
    workspace: Workspace, uri: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = f": MLflow does not record {problem}; use sqlite:///mlflow.db, or "
    shown = uri.replace("me:secret", "me:***")
    with pytest.raises(InputError) as refused:
        TrackingStore(workspace, Tracking(uri=uri), "s")
    assert str(refused.value) == f"tracking.uri: {shown}{told}leave it out"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(InputError) as refused:
        tracking_uri(workspace)
    assert str(refused.value) == f"MLFLOW_TRACKING_URI={shown}{told}unset it"


@pytest.mark.parametrize(
    "uri", ["https://host", "postgresql+psycopg2://host/m", "sqlite:///m.db", "databricks"]
)
def test_what_mlflow_records_in_is_taken(workspace: Workspace, uri: str) -> None:
    assert tracking_uri(workspace, uri) == uri
