"""A real MLflow server that is killed and comes back."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient
from waiting import WITHOUT_JOBS, answers, free_port, wait_until

from mgstudy.config.study import Tracking
from mgstudy.study.definition.cell import Cell
from mgstudy.study.search.events import TrialRequest
from mgstudy.study.search.state import State
from mgstudy.tracking.mlflow_tracker import MlflowTracker, StudyDescription
from mgstudy.tracking.spool import Spool
from mgstudy.tracking.store import TrackingStore
from mgstudy.workspace import Workspace

pytestmark = pytest.mark.integration

CELL = Cell({"dataset": "a", "model": "BPR"}, "a", "BPR", "plain", (), "adam", 1, {})
DEADLINE = 300.0


class MlflowServer:
    """A tracking server of our own on this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1",
             "--port", str(self.port), "--workers", "1",
             "--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db",
             "--artifacts-destination", str(self.folder / "artifacts")],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            env={**os.environ, **WITHOUT_JOBS},
        )  # fmt: skip
        wait_until(lambda: answers(f"{self.uri}/health"), process=self.process)

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(timeout=60)
            self.process = None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MlflowServer]:
    made = MlflowServer(tmp_path)
    yield made
    made.kill()


def trial(number: int) -> TrialRequest:
    return TrialRequest(CELL, number, number, {"rate": 0.1 * number})


def run_trial(tracker: MlflowTracker, number: int) -> None:
    which = trial(number)
    tracker.trial_started(which)
    for step in range(1, 21):
        metrics = {f"m{column}": number + step / (column + 1) for column in range(5)}
        tracker.trial_reported(which, step, 0.5, metrics)
    outcome = {"reason": "epochs", "epochs": 20, "best_metrics": {"ndcg@5": 0.5}}
    tracker.trial_finished(which, State.COMPLETE, 0.5, outcome)


def content(client: MlflowClient) -> dict[str, Any]:
    """All that MLflow holds of the study's trials, but its own ids."""
    experiment = client.get_experiment_by_name("s")
    assert experiment is not None
    found: dict[str, Any] = {}
    for run in client.search_runs([experiment.experiment_id]):
        assert run.info.run_name not in found
        found[run.info.run_name] = (
            run.info.status,
            run.info.start_time if run.info.run_name != "s" else None,
            run.data.params,
            {key: tag for key, tag in run.data.tags.items() if key.startswith("mgstudy.")},
            {
                name: [
                    (point.step, point.value, point.timestamp)
                    for point in client.get_metric_history(run.info.run_id, name)
                ]
                for name in run.data.metrics
            },
        )
    return found


def test_records_wait_for_a_killed_server_and_a_lost_store_is_made_again(
    server: MlflowServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    description = StudyDescription("s", "why?", {"study.json": "{}"}, {}, ())
    path = tmp_path / "events.jsonl"

    def launch() -> MlflowTracker:
        store = TrackingStore(Workspace(tmp_path), Tracking(uri=server.uri), "s")
        return MlflowTracker(store, description, Spool(path))

    # It is not there, and nobody waits for it.
    tracker = launch()
    run_trial(tracker, 0)
    tracker.finish(False)
    assert tracker.undelivered == 22 + 1

    # It comes, and is killed while it takes records; the study goes on, and so does it later.
    server.start()
    tracker = launch()
    wait_until(lambda: tracker.spool.delivered >= 22)
    run_trial(tracker, 1)
    server.kill()
    run_trial(tracker, 2)
    coming = threading.Thread(target=server.start)
    coming.start()
    run_trial(tracker, 3)
    coming.join()
    tracker.finish(True, seconds=DEADLINE)
    assert tracker.undelivered == 0
    client = MlflowClient(server.uri)
    before = content(client)
    assert set(before) == {"s", "#0", "#1", "#2", "#3"}
    for number in range(4):
        status, _, params, tags, metrics = before[f"#{number}"]
        assert (status, tags["mgstudy.state"]) == ("FINISHED", "complete")
        assert float(params["rate"]) == pytest.approx(0.1 * number)
        for column in range(5):
            assert [point[:2] for point in metrics[f"m{column}"]] == [
                (step, number + step / (column + 1)) for step in range(1, 21)
            ]

    # Its store is lost, and made again from the study; what is there is left as it is.
    server.kill()
    (tmp_path / "mlflow.db").unlink()
    server.start()
    for _ in range(2):
        spool = Spool(path)
        spool.rewind()
        store = TrackingStore(Workspace(tmp_path), Tracking(uri=server.uri), "s")
        tracker = MlflowTracker(store, description, spool)
        tracker.finish(True, seconds=DEADLINE)
        assert tracker.undelivered == 0
        assert content(client) == before
    warnings = [text for text in caplog.messages if "does not take records" in text]
    assert len(warnings) <= 4


def test_a_server_that_swallows_everything_does_not_hold_up_the_end(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)  # It takes connections, and never answers.
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        store = TrackingStore(Workspace(tmp_path), Tracking(uri=uri), "s")
        description = StudyDescription("s", "", {}, {}, ())
        tracker = MlflowTracker(store, description, Spool(tmp_path / "events.jsonl"))
        run_trial(tracker, 0)
        began = time.monotonic()
        tracker.finish(True, seconds=0.5)
        assert tracker.undelivered == 23
        # MLflow's own request would have waited for 30 s, four times over.
        assert time.monotonic() - began < 15
