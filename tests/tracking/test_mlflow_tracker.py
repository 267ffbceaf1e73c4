from __future__ import annotations

import math
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from mgstudy.config.study import Tracking
from mgstudy.study.definition.cell import Cell
from mgstudy.study.search.events import TrialRequest
from mgstudy.study.search.state import State
from mgstudy.tracking.mlflow_tracker import MlflowTracker, StudyDescription
from mgstudy.tracking.spool import Spool
from mgstudy.tracking.store import TrackingStore
from mgstudy.workspace import Workspace

LEVELS = {"dataset": "a", "model": "BPR", "gradient": "plain"}
CELL = Cell(LEVELS, "a", "BPR", "plain", (), "adam", 1, {})
OTHER = Cell({**LEVELS, "gradient": "sam"}, "a", "BPR", "sam", (), "adam", 1, {})


def trial(number: int, cell: Cell = CELL, **parameters: float) -> TrialRequest:
    return TrialRequest(cell, number, number, parameters)


@pytest.fixture
def client(home: Path, study: str) -> MlflowClient:
    return MlflowClient(f"sqlite:///{home}/mlflow.db")


@pytest.fixture
def open_tracker(home: Path, study: str, tmp_path: Path) -> Callable[..., MlflowTracker]:
    """Open a tracker of the same study, as every launch does."""

    def open_one(uri: str | None = None) -> MlflowTracker:
        store = TrackingStore(Workspace(home), Tracking(uri=uri), study)
        description = StudyDescription(study, "why?", {"study.json": "{}"}, {}, ("gradient",))
        return MlflowTracker(store, description, Spool(tmp_path / "events.jsonl"))

    return open_one


@pytest.fixture
def runs_by_name(client: MlflowClient, study: str) -> Callable[[], dict[str, Run]]:
    """The study's runs; its own is called ``study`` here."""

    def read() -> dict[str, Run]:
        experiment = client.get_experiment_by_name(study)
        assert experiment is not None
        found = client.search_runs([experiment.experiment_id])
        by_name = {run.info.run_name.replace(study, "study"): run for run in found}
        assert len(by_name) == len(found)
        return by_name

    return read


def complete(tracker: MlflowTracker, which: TrialRequest, value: float, checkpoint: Path) -> None:
    tracker.trial_started(which)
    for step in (1, 2):
        tracker.trial_reported(which, step, value, {"validation/x": value * step})
    checkpoint.write_text(str(value))
    outcome = {
        "reason": "epochs",
        "epochs": 2,
        "best_metrics": {"x@5": value, "y@5": math.nan},
        "checkpoint": str(checkpoint),
    }
    tracker.trial_finished(which, State.COMPLETE, value, outcome)


def test_the_mark_of_the_best_run_moves_with_it_over_launches(
    open_tracker, runs_by_name, client, tmp_path
) -> None:
    first, second, third = (tmp_path / f"{number}.pt" for number in range(3))
    tracker = open_tracker()
    complete(tracker, trial(0), 0.3, first)
    complete(tracker, trial(0, OTHER), 0.2, second)
    tracker.finish(True, {"a/BPR/plain/0": str(first), "a/BPR/sam/0": str(second)})

    def marked() -> set[str]:
        runs = runs_by_name()
        return {name for name, run in runs.items() if "mgstudy.best_of_cell" in run.data.tags}

    def kept(cell: str) -> str:
        parent = runs_by_name()["study"]
        path = client.download_artifacts(
            parent.info.run_id, f"checkpoints/{cell}/{'0.pt' if cell == 'a/BPR/plain' else ''}"
        )
        return Path(path).read_text()

    assert marked() == {"plain #0", "sam #0"}
    assert kept("a/BPR/plain") == "0.3"

    # Nothing runs: nothing changes. A worse trial runs: its weights are gone, and nobody asks.
    open_tracker().finish(True, {"a/BPR/plain/0": str(first), "a/BPR/sam/0": str(second)})
    assert marked() == {"plain #0", "sam #0"}
    tracker = open_tracker()
    complete(tracker, trial(1, OTHER), 0.5, third)
    complete(tracker, trial(1), 0.1, tmp_path / "gone.pt")
    (tmp_path / "gone.pt").unlink()
    tracker.finish(True, {"a/BPR/plain/0": str(first), "a/BPR/sam/1": str(third)})
    assert tracker.undelivered == 0
    assert marked() == {"plain #0", "sam #1"}

    # The best trial's weights could not be written: it is the best all the same.
    open_tracker().finish(True, {"a/BPR/plain/1": None, "a/BPR/sam/1": str(third)})
    assert marked() == {"plain #1", "sam #1"}


def test_a_trial_that_runs_again_goes_on_in_its_run_without_doubled_steps(
    open_tracker, runs_by_name, client
) -> None:
    tracker = open_tracker()
    tracker.trial_started(trial(0, rate=0.1))
    for step in (1, 2):
        tracker.trial_reported(trial(0, rate=0.1), step, 0.5, {"x": step, "y": -step})
    tracker.finish(False)
    assert runs_by_name()["study"].info.status == "KILLED"

    tracker = open_tracker()
    tracker.trial_started(trial(0, rate=0.1))
    for step in (1, 2, 3):
        tracker.trial_reported(trial(0, rate=0.1), step, 0.5, {"x": step, "y": -step})
    outcome = {"reason": "training diverged", "traceback": "line 1\nline 2"}
    tracker.trial_finished(trial(0, rate=0.1), State.FAILED, None, outcome)
    tracker.finish(True)
    runs = runs_by_name()
    assert set(runs) == {"study", "plain #0"}
    run = runs["plain #0"]
    assert run.data.params == {**LEVELS, "rate": "0.1"}
    for name, sign in (("x", 1), ("y", -1)):
        history = client.get_metric_history(run.info.run_id, name)
        assert [(point.step, point.value) for point in history] == [
            (step, sign * step) for step in (1, 2, 3)
        ]
    assert run.info.status == "FAILED"
    assert run.data.tags["mgstudy.reason"] == "training diverged"
    assert runs["study"].info.status == "FINISHED"
    trace = client.download_artifacts(run.info.run_id, "traceback.txt")
    assert Path(trace).read_text() == "line 1\nline 2"


def test_more_metrics_than_a_request_takes_are_all_written(
    open_tracker, runs_by_name, client
) -> None:
    tracker = open_tracker()
    metrics = {f"m{number}": float(number) for number in range(60)}
    for step in range(1, 41):
        tracker.trial_reported(trial(0), step, 0.5, metrics)
    tracker.finish(False)
    assert tracker.undelivered == 0
    run = runs_by_name()["plain #0"]
    assert run.data.metrics == metrics
    assert len(client.get_metric_history(run.info.run_id, "m59")) == 40


def test_what_waits_of_a_trial_goes_in_one_request(
    open_tracker, runs_by_name, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = open_tracker()
    tracker.close()  # It records what comes from now on, and delivers nothing.
    numbers = range(8)
    for number in numbers:
        tracker.trial_started(trial(number, rate=0.1))
    for step in (1, 2, 3):
        for number in numbers:
            tracker.trial_reported(trial(number), step, 0.5, {"x": step})
    for number in (0, 1):
        tracker.trial_finished(trial(number), State.COMPLETE, 0.5, {"epochs": 3})
    requests: list[str] = []
    log_batch = MlflowClient.log_batch

    def counted(self, run_id, *arguments, **named) -> None:
        requests.append(run_id)
        log_batch(self, run_id, *arguments, **named)

    monkeypatch.setattr(MlflowClient, "log_batch", counted)
    tracker = open_tracker()
    tracker.close()
    assert tracker.undelivered == 0
    assert len(requests) == len(set(requests)) == 8
    for name, run in runs_by_name().items():
        if name != "study":
            assert run.data.params == {**LEVELS, "rate": "0.1"}
            assert run.data.metrics["x"] == 3


def test_a_server_that_is_not_there_costs_its_records_and_nothing_else(
    open_tracker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # Nobody listens on it.
        port = taken.getsockname()[1]
        tracker = open_tracker(f"http://me:secret@127.0.0.1:{port}")
        for number in range(50):
            complete(tracker, trial(number), 0.1, tmp_path / "weights")
        tracker.finish(True)
    assert tracker.undelivered >= 50
    (warning,) = [message for message in caplog.messages if "does not take records" in message]
    assert "secret" not in warning.partition(": API request")[0]
