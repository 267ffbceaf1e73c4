"""Studies submitted to a real Ray head that asks for a token."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from waiting import free_port, listens, wait_until

from mgstudy.cluster import jobs
from mgstudy.cluster.address import Cluster, connect
from mgstudy.cluster.findings import Level, problems
from mgstudy.cluster.package import collect
from mgstudy.errors import InputError
from mgstudy.study.results.summary import summarize
from mgstudy.workspace import Workspace

pytestmark = pytest.mark.integration

DEADLINE = 240.0
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
    """A Ray head in a person's place of its own; its dashboard's address."""
    person = tmp_path_factory.mktemp("person")
    port = free_port()
    bin_folder = Path(sys.executable).parent
    with subprocess.Popen(
        [
            bin_folder / "ray", "start", "--head", "--block", "--disable-usage-stats",
            f"--port={free_port()}", f"--dashboard-port={port}",
            f"--dashboard-agent-listen-port={free_port()}",
            "--num-cpus=2", "--num-gpus=0", "--object-store-memory=150000000",
        ],
        env={
            **os.environ,
            "HOME": str(person),
            "PATH": f"{bin_folder}:{os.environ['PATH']}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": TOKEN,
            # The job must bring the modules it needs.
            "PYTHONPATH": "",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:  # fmt: skip
        url = f"http://127.0.0.1:{port}"

        try:
            wait_until(lambda: listens(port), process=process)
            yield url
        finally:
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
def submission(home: Path) -> jobs.Submission:
    (home / "gated.yaml").write_text(STUDY)
    return jobs.Submission(
        study="gated",
        file="gated.yaml",
        package=collect(home, home / "gated.yaml"),
        home=str(home),
        environment={"GATE": str(home / "gate")},
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
    cluster: Cluster, submission: jobs.Submission
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
    assert all(f.level is Level.PROBLEM for f in (found["resources"], found["tracking"]))
    assert jobs.jobs(cluster) == []


def mgstudy(*arguments: str, cwd: Path | None = None) -> subprocess.Popen[str]:
    """Type a command in a session of its own, as a terminal does."""
    return subprocess.Popen(
        [Path(sys.executable).with_name("mgstudy"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=cwd,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


def assert_following_can_be_left(cluster: Cluster, job: jobs.Job) -> None:
    with mgstudy("logs", job.study, "--follow", "--address", cluster.address) as following:
        assert following.stdout is not None
        lines = iter(following.stdout.readline, "")
        assert any("trials to run" in line for line in lines)
        os.killpg(following.pid, signal.SIGINT)
        out, err = following.communicate(timeout=DEADLINE)
    assert following.returncode == 130, (out, err)
    assert f"{job.id} goes on without this terminal" in out
    assert f"`mgstudy stop {job.study} --address {cluster.address}` stops it" in out
    assert "Traceback" not in err
    assert jobs.find(cluster, job.id).status == "RUNNING"


def test_a_study_is_submitted_once_stopped_gently_and_goes_on(
    cluster: Cluster, submission: jobs.Submission, home: Path
) -> None:
    first, is_new = jobs.submit(cluster, submission)
    assert (first.id, is_new) == ("mgstudy-gated-1", True)
    wait_until(lambda: len(list(home.glob("waiting-*"))) == 2)
    assert jobs.submit(cluster, submission) == (jobs.latest(cluster, "gated"), False)
    refused = mgstudy(
        "submit", "gated.yaml", "--retry-failed", "--address", cluster.address,
        cwd=home,
    )  # fmt: skip
    out, err = refused.communicate(timeout=DEADLINE)
    assert refused.returncode == 1, (out, err)
    assert "mgstudy-gated-1 is already running, and runs no failed trial again" in err

    assert_following_can_be_left(cluster, first)
    listed = mgstudy("jobs", "--json", "--address", cluster.address)
    [job] = json.loads(listed.communicate(timeout=DEADLINE)[0])
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
    shown: list[str] = []
    ended = jobs.follow(cluster, second, shown.append)
    assert ended.status == "SUCCEEDED"
    assert "".join(shown) == jobs.logs(cluster, second)
    assert "[2/2]" in "".join(shown)
    assert summarize(Workspace(home), "gated").cells[0].counts["complete"] == 2
    assert [job.id for job in jobs.jobs(cluster)] == ["mgstudy-gated-1", "mgstudy-gated-2"]
    with pytest.raises(InputError, match=r"no job of study 'gate'.*did you mean 'gated'"):
        jobs.latest(cluster, "gate")
