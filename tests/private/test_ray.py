"""Each door into Ray's private parts still opens, and still has to.

A test that fails here after a new release of Ray names the door that it has closed: look for the
public way first, mend ``mgstudy/private/ray*.py`` second.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from programs import finished
from ray._private import worker as ray_worker
from ray._private.node import Node
from ray.air.execution._internal import TrackedActor
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.air.execution._internal.tracked_actor_task import TrackedActorTask
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.train._internal.storage import StorageContext
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial

from mgstudy.private.ray import (
    dead_process,
    errors_told_in_a_line,
    ignored_below,
    job_that_imports_as_here,
    sigterm_left_alone,
    worker_interpreter,
)
from mgstudy.private.ray_accelerators import gpus_here
from mgstudy.private.ray_tune import stop_trials_at_once, trial_errors_told

CONNECTING = """
import http.server, os, threading
from ray._raylet import AuthenticationTokenLoader
from ray.job_submission import JobSubmissionClient
from mgstudy.private.ray import use_token_that_is_here

# A session with another cluster came before.
os.environ["RAY_AUTH_TOKEN"] = "4567"
assert AuthenticationTokenLoader.instance().get_raw_token(True) == "4567"
del os.environ["RAY_AUTH_TOKEN"]

class Dashboard(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        print(self.headers.get("Authorization"), flush=True)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"ray_version": "2.60.0"}')

    def log_message(self, *arguments):
        pass

server = http.server.HTTPServer(("127.0.0.1", 0), Dashboard)
threading.Thread(target=server.serve_forever, daemon=True).start()
use_token_that_is_here()
JobSubmissionClient(f"http://127.0.0.1:{server.server_port}")
"""
STARTING = """
import sys
import time
import ray
from mgstudy.private.ray import worker_interpreter

context = ray.init(
    address="local", num_cpus=1, num_gpus=0, include_dashboard=True, log_to_driver=False,
    object_store_memory=100_000_000, logging_level="ERROR",
)
while True:
    try:
        found = worker_interpreter(f"http://{context.dashboard_url}", {})
        break
    except LookupError:
        time.sleep(0.1)
print(found == sys.executable, found)
"""
BESIDE = """
import socket
import ray
from ray._private.ray_constants import DEFAULT_DASHBOARD_AGENT_LISTEN_PORT
from mgstudy.private.ray import agent_on_a_free_port

other = socket.socket()
try:
    other.bind(("", DEFAULT_DASHBOARD_AGENT_LISTEN_PORT))
except OSError:
    pass  # Another Ray has it indeed.
with agent_on_a_free_port():
    ray.init(
        address="local", num_cpus=1, num_gpus=0, include_dashboard=False, log_to_driver=False,
        object_store_memory=100_000_000, logging_level="ERROR",
    )
port = ray._private.worker._global_node.dashboard_agent_listen_port
print(port > 0, port != DEFAULT_DASHBOARD_AGENT_LISTEN_PORT)
"""
ENDING = """
import gc, os, threading
import ray
from ray._raylet import AuthenticationTokenLoader
from mgstudy.private.ray import end_session

ray.init(
    address="local", num_cpus=1, num_gpus=0, include_dashboard=False, log_to_driver=False,
    object_store_memory=100_000_000, logging_level="ERROR",
)
references = [ray.ObjectRef(os.urandom(28)) for _ in range(300_000)]

def make_garbage():
    while references:
        cycle = [references.pop()]
        cycle.append(cycle)
        del cycle
        [[] for _ in range(1000)]

gc.set_threshold(100)
threading.Thread(target=make_garbage, daemon=True).start()
end_session()
assert references, "the other thread must be at it until the end"
references.clear()
os.environ["RAY_AUTH_TOKEN"] = "4567"
print("lives", gc.isenabled(), AuthenticationTokenLoader.instance().get_raw_token(True))
"""


@pytest.mark.parametrize(("mode", "sent"), [(None, "Bearer 0123"), ("disabled", "None")])
def test_use_token_that_is_here(
    mode: str | None, sent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("0123")
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    if mode is None:
        monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    else:
        monkeypatch.setenv("RAY_AUTH_MODE", mode)
    ended = subprocess.run(
        [sys.executable, "-c", CONNECTING], capture_output=True, text=True, check=True, timeout=120
    )
    assert set(ended.stdout.splitlines()) == {sent}
    assert ended.stderr == ""


def test_agent_on_a_free_port() -> None:
    assert finished(sys.executable, "-c", BESIDE).stdout.split() == ["True", "True"]


def test_sigterm_left_alone() -> None:
    def handler_after_starting() -> Any:
        # It puts its handler before it looks at what it was given.
        with pytest.raises(RuntimeError, match="Unknown keyword"):
            ray.init(address="local", nonsense=True)
        return signal.getsignal(signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    try:
        with sigterm_left_alone():
            assert handler_after_starting() is before
        assert handler_after_starting() is not before
    finally:
        signal.signal(signal.SIGTERM, before)


class StubbornActors:
    """Actors that do not stop, as Ray Tune sees them."""

    def __init__(self) -> None:
        self.killed: list[object] = []

    def is_actor_started(self, tracked_actor: object) -> bool:
        return True

    def next(self, timeout: float) -> None:
        raise TimeoutError("Ray Tune waits for an actor")

    def remove_actor(self, tracked_actor: object, kill: bool) -> None:
        assert kill
        self.killed.append(tracked_actor)


def test_stop_trials_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNE_MAX_PENDING_TRIALS_PG", "1")
    monkeypatch.setenv("TUNE_FORCE_TRIAL_CLEANUP_S", "0")
    storage = StorageContext(storage_path=str(tmp_path), experiment_dir_name="study")
    controller = TuneController(storage=storage)
    actors, actor = StubbornActors(), object()
    monkeypatch.setattr(controller, "_actor_manager", actors)
    controller._stopping_actors[actor] = time.monotonic()
    with pytest.raises(TimeoutError):
        controller._cleanup_stopping_actors(force_all=True)
    stop_trials_at_once(controller)
    controller._cleanup_stopping_actors(force_all=True)
    assert actors.killed == [actor]


def test_trial_errors_told() -> None:
    counted = SimpleNamespace(num_failures=0, invalidate_cache=lambda: None)
    trial: Any = SimpleNamespace(
        trial_id="7", is_restoring=False, local_path=None, run_metadata=counted
    )
    told: dict[str, BaseException | None] = {}
    error = OutOfMemoryError("the memory monitor's")
    with trial_errors_told(told.__setitem__):
        Trial.handle_error(trial, error)
    assert told == {"7": error}
    Trial.handle_error(trial, None)
    assert told == {"7": error}
    assert counted.num_failures == 2


def test_an_error_that_tune_does_not_know_ends_no_run() -> None:
    failed: list[BaseException] = []
    actor = TrackedActor(1, on_error=lambda actor, exception: failed.append(exception))
    task = TrackedActorTask(actor)
    manager: Any = SimpleNamespace(
        _failed_actor_ids=set(), _cleanup_actor=lambda tracked_actor: None
    )
    error = OutOfMemoryError("the memory monitor's")
    with pytest.raises(RuntimeError, match="unexpected"):
        RayActorManager._actor_task_failed(manager, task, error)
    with trial_errors_told(lambda trial, error: None):
        RayActorManager._actor_task_failed(manager, task, error)
    assert isinstance(failed[0], RayActorError)
    assert failed[0].__cause__ is error


def test_dead_process(monkeypatch: pytest.MonkeyPatch) -> None:
    class Started:
        dead: tuple[Any, ...] = ()

        def dead_processes(self) -> Any:
            return self.dead

    monkeypatch.setattr(ray_worker, "_global_node", None)
    assert dead_process() is None
    killed = subprocess.Popen(["sleep", "60"])
    killed.kill()
    killed.wait(timeout=60)
    node = Started()
    monkeypatch.setattr(ray_worker, "_global_node", node)
    node.dead = (("log_monitor", killed),)
    assert dead_process() is None
    node.dead = (("log_monitor", killed), ("raylet", killed))
    assert dead_process() == "its raylet was ended by SIGKILL"
    assert callable(Node.dead_processes)


def test_errors_told_in_a_line(
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ray_worker, "_global_node", None)
    data = {"lines": ["One thing is wrong.\nAnd its log:"], "pid": "raylet", "is_err": False}
    with errors_told_in_a_line():
        ray_worker.print_to_stdstream(data, ignore_prefix=False)
    assert capsys.readouterr().out == ""
    assert caplog.messages == ["Ray: One thing is wrong."]
    ray_worker.print_to_stdstream(data, ignore_prefix=False)
    assert "And its log" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("started_here", "told"), [(True, []), (False, ["Ray: Raylet is terminated."])]
)
def test_the_end_of_the_own_raylet_is_left_to_who_looks_for_it(
    started_here: bool,
    told: list[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = SimpleNamespace(is_head=lambda: started_here, dead_processes=list)
    monkeypatch.setattr(ray_worker, "_global_node", node)
    with errors_told_in_a_line():
        data = {"lines": ["Raylet is terminated.\nIts log:"], "pid": "raylet", "is_err": False}
        ray_worker.print_to_stdstream(data, ignore_prefix=False)
    assert caplog.messages == told
    assert callable(Node.is_head)


def test_job_that_imports_as_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["/elsewhere"])
    for there, given in ((False, ["/elsewhere"]), (True, ["/elsewhere", str(tmp_path)])):
        job = job_that_imports_as_here()
        if there:
            sys.path.insert(0, "")
        job._py_driver_sys_path.extend(["/elsewhere", str(tmp_path)])
        assert list(job._get_proto_job_config().py_driver_sys_path) == given


def test_gpus_here(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = "ray._private.thirdparty.pynvml."
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(f"{counted}nvmlInit", lambda: None)
    monkeypatch.setattr(f"{counted}nvmlShutdown", lambda: None)
    monkeypatch.setattr(f"{counted}nvmlDeviceGetCount", lambda: 2)
    assert gpus_here() == 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert gpus_here() == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpus_here() == 0


def test_ignored_below(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("*.csv\n!kept.csv\n")
    (tmp_path / ".rayignore").write_text("notes/\n")
    (tmp_path / "notes").mkdir()
    names = ("a.csv", "kept.csv", "notes/a.txt", "a.txt")
    rules = ignored_below(tmp_path)
    assert [any(rule(tmp_path / name) for rule in rules) for name in names] == [
        True, False, True, False,
    ]  # fmt: skip
    assert ignored_below(tmp_path / "notes") == []


HEAD = b'{"cmdline": 5, "raylet": {"isHeadNode": true}}'


@pytest.mark.parametrize(
    "answer", [b"<html>", b"[]", b"[" * 99_999, b'{"data": {"summary": [%b]}}' % HEAD]
)
def test_what_answers_in_place_of_a_dashboard_is_said(answer: bytes) -> None:
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with pytest.raises(OSError, match="does not answer as a dashboard"):
            worker_interpreter(f"http://127.0.0.1:{server.server_port}", {})
        thread.join(timeout=60)


@pytest.mark.integration
def test_worker_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    ended = subprocess.run(
        [sys.executable, "-c", STARTING], capture_output=True, text=True, check=False, timeout=300
    )
    assert ended.stdout.startswith("True "), ended.stdout + ended.stderr


@pytest.mark.integration
def test_end_session() -> None:
    assert finished(sys.executable, "-c", ENDING).stdout == "lives True 4567\n"
