"""MLflow while a study runs, and after: on servers that are slow, away or silent, that lose answers
or all they have; and with syncs that are killed, or come beside a launch."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from driven import content, steps
from mlflow.tracking import MlflowClient
from mlflow_server import MlflowServer, Proxy
from programs import MGSTUDY, started
from syncing import sync_in_process
from waiting import wait_until

from mgstudy import api
from mgstudy.errors import InputError, MgstudyError

pytestmark = pytest.mark.integration

PIPELINE = "name: tiny\nsource: {kind: synthetic, users: 30, items: 40, interactions_per_user: 8}\n"
STUDY = """\
name: beside
factors: {{dataset: [tiny], model: [BPR], gradient: [plain, mirror_gradient]}}
space: {{optimizer: {{learning_rate: {{log_float: [1.0e-3, 1.0e-1]}}}}}}
trials: 2
confirmation: {{seeds: 2}}
training: {{epochs: 2, batch_size: 64, objective: ndcg@5, measures: [ndcg], cutoffs: [5]}}
resources: {{max_concurrent: 1}}
tracking: {{uri: "{uri}"}}
"""

PLAIN, MIRROR = "plain #0", "MG #0"
DEADLINE = 300.0


def no_thread_is_left() -> bool:
    return "mlflow-tracker" not in {thread.name for thread in threading.enumerate()}


@pytest.fixture
def client(server: MlflowServer) -> MlflowClient:
    return MlflowClient(server.uri)


def the_curves(client: MlflowClient, experiment: str) -> dict[str, list[int]]:
    found = content(client, experiment, files=False)
    trials = [name for name, run in found.items() if "mgstudy.trial" in run["tags"]]
    return {name: steps(found, name) for name in trials}


CURVES = {
    PLAIN: [1, 2, 3],
    MIRROR: [1, 2],
    "plain #1": [1, 2, 3, 4],
    "MG #1": [1],
}


def test_curves_are_there_within_five_seconds_of_their_epoch(
    driven, proxy: Proxy, client: MlflowClient, study: str
) -> None:
    proxy.delay = 0.05
    made = driven(uri=proxy.uri, trials=1)
    tracker = made.tracker()
    trials = [made.begin(), made.begin()]

    def are_there(step: int) -> bool:
        experiment = client.get_experiment_by_name(study)
        runs = client.search_runs([experiment.experiment_id]) if experiment else []
        return [run.data.metrics.get("x") for run in runs].count(step) == len(trials)

    for step in range(1, 4):
        for trial in trials:
            made.report(trial, range(step, step + 1))
        began = time.monotonic()
        wait_until(lambda step=step: are_there(step))
        # The first finds MLflow being imported, and the study's run being made.
        assert step == 1 or time.monotonic() - began < 5
    tracker.finish(False)
    assert tracker.undelivered == 0
    assert the_curves(client, study) == {PLAIN: [1, 2, 3], MIRROR: [1, 2, 3]}


def test_a_slow_store_is_not_waited_for_and_gets_the_rest_later(
    driven, proxy: Proxy, client: MlflowClient, study: str
) -> None:
    proxy.delay = 2.0
    made = driven(uri=proxy.uri, trials=1)
    tracker = made.tracker()
    began = time.monotonic()
    first, second = made.begin(), made.begin()
    made.report(first, range(1, 51))
    made.complete(second, 50)
    assert time.monotonic() - began < 20  # A hundred epochs; MLflow would have taken minutes.
    wait_until(lambda: any("log-batch" in request for request in proxy.requests))
    began = time.monotonic()
    tracker.finish(False, seconds=3)
    assert time.monotonic() - began < 8
    assert no_thread_is_left()
    assert tracker.undelivered > 0
    # Fifty epochs in one request.
    assert sum("log-batch" in request for request in proxy.requests) <= 3
    asked = len(proxy.requests)
    proxy.delay = 0.0
    api.sync(study, made.home)
    assert len(proxy.requests) > asked
    assert the_curves(client, study) == {PLAIN: [*range(1, 51)], MIRROR: [*range(1, 51)]}


def test_a_store_that_was_away_for_the_whole_study_has_it_all_after_a_sync(
    driven, proxy: Proxy, client: MlflowClient, study: str, caplog
) -> None:
    proxy.is_away = True
    made = driven(uri=proxy.uri.replace("//", "//me:secret@"), trials=1)
    tracker = made.tracker()
    made.complete(made.begin(), 20)
    made.complete(made.begin(), 20)
    tracker.finish(True)
    assert tracker.undelivered == 2 * 22 + 1
    assert no_thread_is_left()
    (warning,) = [text for text in caplog.messages if "does not take records" in text]
    assert "secret" not in warning

    with pytest.raises(MgstudyError, match=r"does not take records.*nothing is lost"):
        api.sync(study, made.home)
    # It comes back, is away again after a few requests, and then there for good.
    proxy.is_away = False
    proxy.before = lambda number: setattr(proxy, "is_away", number >= 9)
    with pytest.raises(MgstudyError, match="does not take records") as refused:
        api.sync(study, made.home)
    assert "secret" not in str(refused.value)
    proxy.is_away, proxy.before = False, lambda number: None
    api.sync(study, made.home)
    assert api.sync(study, made.home).delivered == 0
    assert the_curves(client, study) == {PLAIN: [*range(1, 21)], MIRROR: [*range(1, 21)]}


def test_answers_that_are_lost_make_nothing_twice(
    driven, proxy: Proxy, client: MlflowClient, study: str
) -> None:
    lost: set[str] = set()

    def lose_the_first_of_each_kind(number: int) -> bool:
        kind = proxy.requests[number].partition("?")[0].rpartition("/")[2]
        is_first = kind not in lost
        lost.add(kind)
        return not is_first

    made = driven(uri=proxy.uri, trials=1)
    proxy.after = lose_the_first_of_each_kind
    tracker = made.tracker()
    made.complete(made.begin())
    made.complete(made.begin())
    tracker.finish(True, seconds=DEADLINE)
    # The study's end is tried once more, not again and again.
    while tracker.undelivered:
        tracker = made.tracker()
        tracker.finish(True, seconds=DEADLINE)
    assert {"create", "search", "log-batch", "update", "best.pt"} <= lost
    assert the_curves(client, study) == {PLAIN: [1, 2, 3], MIRROR: [1, 2, 3]}


def test_a_server_that_swallows_everything_does_not_hold_up_the_end(driven, monkeypatch) -> None:
    monkeypatch.setattr("mgstudy.tracking.tracker.REQUEST_SECONDS", 2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)  # It takes connections, and never answers.
        made = driven(uri=f"http://127.0.0.1:{silent.getsockname()[1]}", trials=1)
        tracker = made.tracker()
        made.complete(made.begin(), 20)
        began = time.monotonic()
        tracker.finish(True, seconds=0.5)
        assert time.monotonic() - began < 10
    assert tracker.undelivered == 23
    assert no_thread_is_left()


def test_a_sync_that_is_killed_at_any_request_is_made_good_by_the_next(
    driven, server: MlflowServer, proxy: Proxy, study: str
) -> None:
    made = driven(uri=proxy.uri, trials=2)
    made.complete(made.begin(), 2)
    failed, waiting = made.begin(), made.begin()
    made.report(failed, range(1, 3))
    made.record.fail(failed, {"reason": "diverged", "epochs": 2, "traceback": "line 1"})
    made.report(waiting, range(1, 2))
    client = MlflowClient(f"sqlite:///{server.folder}/mlflow.db")

    def record_in(experiment: str) -> None:
        tracking = made.config.tracking.model_copy(update={"experiment": experiment})
        config = made.config.model_copy(update={"tracking": tracking})
        made.manifest.model_copy(update={"config": config}).write(made.folder)

    def recorded_in(experiment: str) -> object:
        place = client.get_experiment_by_name(experiment)
        files = (server.folder / "artifacts" / place.experiment_id).rglob("*.*")
        return content(client, experiment, files=False), sorted(file.name for file in files)

    record_in("calm")
    api.sync(study, made.home)
    calm, count = recorded_in("calm"), len(proxy.requests)
    files = calm[1]
    assert the_curves(client, "calm") == {PLAIN: [1, 2], MIRROR: [1, 2], "plain #1": [1]}
    assert set(files) >= {"best.pt", "best_runs.json", "study.json", "traceback.txt"}
    for number in range(count):
        record_in(f"killed at {number}")
        begun = len(proxy.requests)
        process = sync_in_process(study, made.home)

        def kill(asked: int, last: int = begun + number, process: BaseProcess = process) -> bool:
            if asked == last:
                os.kill(process.pid, signal.SIGKILL)
            return True

        proxy.after = kill
        process.join(timeout=120)
        assert process.exitcode == -signal.SIGKILL
        proxy.after = lambda number: True
        api.sync(study, made.home)
        assert recorded_in(f"killed at {number}") == calm, proxy.requests[begun + number]


def test_a_lost_store_gets_every_curve_back(
    recorded, tmp_path: Path, empty_store: Path, study: str
) -> None:
    recorded(home=tmp_path)
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    found = []
    for name, rebuild in (("first", False), ("again", True)):
        # MLflow keeps what it knows of a database; another process knows nothing.
        process = sync_in_process(study, tmp_path, rebuild)
        process.join(timeout=DEADLINE)
        assert process.exitcode == 0
        store = (tmp_path / "mlflow.db").rename(tmp_path / f"{name}.db")
        found.append(content(MlflowClient(f"sqlite:///{store}"), study))
    first, again = found
    assert {name: steps(first, name) for name in CURVES} == CURVES
    assert first == again


def test_a_sync_while_a_launch_runs_and_ends_is_refused_and_doubles_nothing(
    tmp_path: Path, server: MlflowServer, proxy: Proxy
) -> None:
    (tmp_path / "tiny.yaml").write_text(PIPELINE)
    (tmp_path / "study.yaml").write_text(STUDY.format(uri=proxy.uri))
    api.prepare(tmp_path / "tiny.yaml", home=tmp_path)
    proxy.delay = 0.2
    refused: Counter[str] = Counter()
    command = (MGSTUDY, "launch", tmp_path / "study.yaml", "--home", tmp_path)
    with started(*command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as launch:
        while launch.poll() is None:
            try:
                api.sync("beside", tmp_path)
            except InputError:  # Nothing is written down yet.
                pass
            except MgstudyError as error:
                refused[str(error).partition(";")[0].partition(" by ")[0]] += 1
            with suppress(subprocess.TimeoutExpired):  # The launch needs the processor, too.
                launch.wait(0.1)
    assert launch.returncode == 0
    assert set(refused) == {"study 'beside' is already being driven"}
    proxy.delay = 0.0
    synced = api.sync("beside", tmp_path)
    assert len(synced.models) == 2
    assert api.sync("beside", tmp_path).delivered == 0

    client = MlflowClient(server.uri)
    runs = client.search_runs([client.get_experiment_by_name("beside").experiment_id])
    trials = [run.data.tags.get("mgstudy.trial", "the study") for run in runs]
    assert len(trials) == len(set(trials)) == 1 + 2 * (2 + 2)
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in runs:
        if "mgstudy.trial" in run.data.tags:
            curve = client.get_metric_history(run.info.run_id, "validation/ndcg_at_5")
            assert [point.step for point in curve] == [1, 2]
    assert len(client.search_model_versions("name = 'beside'")) == 2  # One for each cell.
