"""What the doctor says of a machine and a workspace."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from states import summary_of

from mgstudy.cluster import doctor
from mgstudy.cluster.doctor import (
    check_ports,
    check_storage,
    check_token,
    check_tracking,
    examine,
)
from mgstudy.cluster.open_ports import judge, reachable_servers
from mgstudy.lazy import NOBODYS_HOME
from mgstudy.study.storage.layout import StudyFolder
from mgstudy.study.storage.optuna_storage import open_storage
from mgstudy.urls import sqlite_url
from mgstudy.workspace import Workspace


@pytest.fixture(autouse=True)
def person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder without a token, and no stores in the environment."""
    home = tmp_path / "person"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    return home


def test_a_token_that_others_can_read_is_warned_about(person: Path) -> None:
    assert "none here" in check_token().text
    token = person / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("secret")
    token.chmod(0o644)
    found = check_token()
    assert (found.level, found.advice) == ("warning", f"chmod 600 {token}")
    assert "secret" not in found.line
    token.chmod(0o600)
    assert check_token().level == "fine"


def test_a_token_that_cannot_be_read_is_not_taken_for_none(
    person: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = person / ".ray" / "auth_token"
    token.parent.mkdir()
    token.symlink_to("nowhere")
    found = check_token()
    said = f"{token}: cannot be read: the link leads nowhere"
    assert (found.level, found.text) == ("problem", said)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "given")
    monkeypatch.setenv("HOME", NOBODYS_HOME)
    assert check_token().level == "fine"


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_a_port_that_another_program_has_is_named_with_the_option_that_avoids_it(
    listener: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_PORTS", {listener: "--port"})
    [found] = check_ports()
    assert f"another Ray, listens on {listener}" in found.text
    assert "--port=" in found.advice


def test_sqlite_is_refused_where_there_are_several_nodes(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "optuna.db")
    refused = check_storage(url, nodes=2)
    assert refused.level == "problem"
    assert "lost with the machine" in refused.text
    assert "storage: postgresql://" in refused.text
    assert check_storage(url).level == "fine"


def test_a_server_that_does_not_answer_is_a_problem(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        uri = f"http://user:word@127.0.0.1:{free.getsockname()[1]}"
    found = check_tracking(Workspace(tmp_path), uri)
    assert found.level == "problem"
    assert "cannot be reached" in found.text
    assert "word" not in found.line


def test_studies_whose_storage_is_gone_are_found(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    manifest = summary_of([]).manifest
    for name in ("here", "gone"):
        url = sqlite_url(tmp_path / f"{name}.db")
        config = manifest.config.model_copy(update={"storage": url})
        manifest.model_copy(update={"config": config}).write(StudyFolder.of(workspace, name))
    open_storage(sqlite_url(tmp_path / "here.db"))
    (workspace.studies / "damaged").mkdir()
    (workspace.studies / "damaged" / "study.json").write_text("{")
    levels = {f.subject: f.level for f in examine(str(tmp_path)) if f.subject.startswith("study ")}
    assert levels == {
        "study here": "fine",
        "study gone": "problem",
        "study damaged": "problem",
    }
    assert not (tmp_path / "gone.db").exists()


LISTEN = """
import socket, sys
with socket.socket() as server:
    server.bind((sys.argv[1], 0))
    server.listen()
    print(server.getsockname()[1], flush=True)
    sys.stdin.readline()
"""


@contextmanager
def listening(host: str, *words: str) -> Iterator[int]:
    """A process of the given command line that listens, and its port."""
    with subprocess.Popen(
        [sys.executable, "-c", LISTEN, host, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.kill()


def test_only_what_other_machines_reach_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "Token")
    with listening("127.0.0.1") as closed, listening("0.0.0.0", "gcs/gcs_server") as opened:
        found = dict(reachable_servers())
    assert closed not in found
    assert found[opened].startswith("RAY_AUTH_MODE=token ")
    assert found[opened].endswith(" gcs/gcs_server")


@pytest.mark.parametrize(
    ("port", "command", "said"),
    [
        (6379, "RAY_AUTH_MODE= /ray/gcs/gcs_server --x", r"Ray without a token \(GCS on 6379\)"),
        (10001, "python -m ray.util.client.server", r"\(client server on 10001\)"),
        (6379, "RAY_AUTH_MODE=token /ray/gcs/gcs_server --x", None),
        (5000, "python -m uvicorn mlflow.server.fastapi_app:app", "MLflow on 5000 without"),
        (5000, "python -m uvicorn mlflow.server.auth:create_app", None),
        (8080, "python optuna-dashboard sqlite:///x", "Optuna's dashboard on 8080"),
        (22, "sshd", None),
    ],
)
def test_a_server_without_a_key_is_warned_about(port: int, command: str, said: str | None) -> None:
    findings = judge({port: command})
    if said is None:
        assert findings == []
        return
    (finding,) = findings
    assert finding.level == "warning"
    assert finding.advice
    assert re.search(said, finding.text)


def test_the_parts_of_one_ray_are_one_finding() -> None:
    dashboard = "python /site-packages/ray/dashboard/dashboard.py"
    (finding,) = judge({6379: "/ray/gcs/gcs_server", 8265: dashboard})
    assert "GCS on 6379, dashboard on 8265" in finding.text
