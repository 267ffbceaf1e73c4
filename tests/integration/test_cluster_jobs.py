"""Studies submitted to a real Ray head that asks for a token."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from programs import MGSTUDY, started
from waiting import free_port, listens, wait_until

from mgstudy.cluster import jobs
from mgstudy.cluster.address import Cluster, connect
from mgstudy.cluster.machines import problems
from mgstudy.cluster.submission import Submission
from mgstudy.errors import InputError, MgstudyError
from mgstudy.study.results.summary import summarize
from mgstudy.workspace import Workspace

pytestmark = pytest.mark.integration

TOKEN = "0123456789abcdef" * 4
STUDY = """\
name: gated
factors:
  dataset: [tiny]
  model: ['their_parts:Gated']
space:
  model: {embedding_size: 4, regularization: 0.01}
  optimizer: {learning_rate: {log_float: [1e-3, 1e-1]}}
trials: 2
confirmation: null
training: {epochs: 5, batch_size: 128, objective: ndcg@5, cutoffs: [5]}
pruner: NopPruner
"""


@pytest.fixture(scope="module")
def head(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Ray head in a person's place of its own, whose environment is not activated; its
    dashboard's address."""
    port = free_port()
    ray = MGSTUDY.with_name("ray")
    elsewhere = [f for f in os.environ["PATH"].split(os.pathsep) if Path(f) != ray.parent]
    with started(
        ray, "start", "--head", "--block", "--disable-usage-stats",
        f"--port={free_port()}", f"--dashboard-port={port}",
        f"--dashboard-agent-listen-port={free_port()}",
        "--num-cpus=2", "--num-gpus=0", "--object-store-memory=150000000",
        seconds=1500,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        environment={
            "HOME": tmp_path_factory.mktemp("person"),
            "PATH": os.pathsep.join(elsewhere),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": TOKEN,
            # The job must bring the modules it needs.
            "PYTHONPATH": "",
        },
    ) as process:  # fmt: skip
        wait_until(lambda: listens(port), process=process)
        yield f"http://127.0.0.1:{port}"
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


@pytest.fixture
def without_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def cluster(head: str, without_token: None, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    return connect(head)


@pytest.fixture
def submission(home: Path) -> Submission:
    (home / "gated.yaml").write_text(STUDY)
    return Submission(
        home / "gated.yaml", home, home=str(home), environment={"GATE": str(home / "gate")}
    )


def test_nobody_is_let_in_without_the_token(
    head: str, without_token: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"asks for a token and there is none here; .*auth_token"):
        connect(head)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "f" * 64)
    with pytest.raises(InputError, match="does not accept the token that is here"):
        connect(head)
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text(TOKEN + "\n")
    # What is asked for wins over the environment, which is the default.
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:9")
    assert connect(head).asks_for_token
    monkeypatch.setenv("RAY_ADDRESS", head.removeprefix("http://"))
    assert connect().address == head


def test_the_cluster_is_looked_at_before_a_study_is_sent(
    cluster: Cluster, submission: Submission
) -> None:
    findings = {f.subject: f for f in jobs.check_remotely(cluster, submission)}
    assert findings["resources"].text == "2 trials at once, 1 CPU and 0 GPU each"
    assert findings["datasets"].text == "tiny"
    assert not problems(findings.values())
    # Without a study, the machines alone are looked at.
    machines = jobs.check_remotely(cluster)
    assert not problems(machines)
    assert any(f.text == "GPUs: none" for f in machines)

    too_much = ("resources.cpu=64.0", "tracking.uri=http://127.0.0.1:9")
    wrong = replace(submission, overrides=too_much)
    found = {f.subject: f for f in jobs.check_remotely(cluster, wrong)}
    assert "one takes 64 CPU and 0 GPU, the machine has 2 CPU" in found["resources"].text
    assert "cannot be reached: " in found["tracking"].text
    assert all(f.level == "problem" for f in (found["resources"], found["tracking"]))
    assert jobs.jobs(cluster) == []


def assert_following_can_be_left(cluster: Cluster, job: jobs.Job) -> None:
    arguments = ("logs", job.study, "--follow", "--address", cluster.address)
    with started(MGSTUDY, *arguments) as following:
        assert following.stdout is not None
        lines = iter(following.stdout.readline, "")
        assert any("trials to run" in line for line in lines)
        following.send_signal(signal.SIGINT)
        out, err = following.communicate(timeout=60)
    assert following.returncode == 130, (out, err)
    assert f"{job.id} goes on without this terminal" in out
    assert f"`mgstudy stop {job.study} --address {cluster.address}` stops it" in out
    assert "Traceback" not in err
    assert jobs.find(cluster, job.id).status == "RUNNING"


class Door:
    """The way to a server, which can be shut and opened again: a proxy.

    Args:
        port: Of the server, on this machine.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.is_open = True
        self.passing: list[socket.socket] = []
        self.server = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._let_in, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.getsockname()[1]}"

    def shut(self) -> None:
        self.is_open = False
        for end in self.passing:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _let_in(self) -> None:
        while True:
            inside, _ = self.server.accept()
            if not self.is_open:
                inside.close()
                continue
            outside = socket.create_connection(("127.0.0.1", self.port))
            self.passing += [inside, outside]
            for one, other in ((inside, outside), (outside, inside)):
                threading.Thread(target=self._carry, args=(one, other), daemon=True).start()

    @staticmethod
    def _carry(one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)


class ShownOutput:
    """What following a job has shown; the way to its dashboard is shut for a moment after that."""

    def __init__(self, door: Door) -> None:
        self.text = ""
        self.door = door

    def __call__(self, text: str) -> None:
        first = not self.text
        self.text += text
        if first:
            self.door.shut()
            threading.Timer(3.0, setattr, (self.door, "is_open", True)).start()


def test_a_study_is_submitted_once_stopped_gently_and_goes_on(
    cluster: Cluster,
    submission: Submission,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: Callable[..., Any],
) -> None:
    monkeypatch.chdir(home)
    first, is_new = jobs.submit(cluster, submission)
    assert (first.id, is_new) == ("mgstudy-gated-1", True)

    def both_wait() -> bool:
        job = jobs.latest(cluster, "gated")
        assert not job.is_over, jobs.logs(cluster, job)
        return len(list(home.glob("waiting-*"))) == 2

    wait_until(both_wait)
    assert jobs.submit(cluster, submission) == (jobs.latest(cluster, "gated"), False)
    refused = command("submit", "gated.yaml", "--retry-failed", "--address", cluster.address)
    assert refused.code == 1
    assert "mgstudy-gated-1 is already running, and runs no failed trial again" in refused.err

    assert_following_can_be_left(cluster, first)
    [job] = json.loads(command("jobs", "--json", "--address", cluster.address).out)
    assert (job["study"], job["attempt"], job["status"]) == ("gated", 1, "RUNNING")

    stopped = jobs.stop(cluster, first)
    assert stopped.status == "STOPPED"
    assert "interrupted; the same command goes on" in jobs.logs(cluster, stopped)
    summary = summarize(Workspace(home), "gated")
    assert not summary.driven
    assert summary.cells[0].counts["waiting"] == 2

    (home / "gate").touch()
    # Nothing has failed, so the job goes on as without it.
    again = replace(submission, retry_failed=True)
    second, is_new = jobs.submit(cluster, again)
    assert (second.id, is_new) == ("mgstudy-gated-2", True)
    door = Door(int(cluster.address.rpartition(":")[2]))
    shown = ShownOutput(door)
    ended = jobs.follow(connect(door.url), second, shown)
    assert ended.status == "SUCCEEDED", jobs.logs(cluster, ended)
    assert shown.text == jobs.logs(cluster, second)
    assert "[2/2]" in shown.text
    assert summarize(Workspace(home), "gated").cells[0].counts["complete"] == 2
    assert [job.id for job in jobs.jobs(cluster)] == ["mgstudy-gated-1", "mgstudy-gated-2"]
    with pytest.raises(MgstudyError, match="no longer knows mgstudy-gated-9: its head was started"):
        jobs.follow(cluster, replace(second, id="mgstudy-gated-9"), print)
    with pytest.raises(InputError, match=r"no job of study 'gate'.*did you mean 'gated'"):
        jobs.latest(cluster, "gate")
