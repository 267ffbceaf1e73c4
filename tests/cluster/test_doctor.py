"""What the doctor says of a machine and a workspace."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mgstudy.cluster import doctor
from mgstudy.cluster.doctor import check_ports, check_token, examine
from mgstudy.cluster.findings import Level
from mgstudy.cluster.stores import check_storage, check_tracking
from mgstudy.study.storage.optuna_storage import open_storage, sqlite_url
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
    assert (found.level, found.advice) == (Level.WARNING, f"chmod 600 {token}")
    assert "secret" not in found.line
    token.chmod(0o600)
    assert check_token().level is Level.FINE


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
    assert refused.level is Level.PROBLEM
    assert "lost with the machine" in refused.text
    assert "storage: postgresql://" in refused.text
    assert check_storage(url).level is Level.FINE


def test_a_server_that_does_not_answer_is_a_problem(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        uri = f"http://user:word@127.0.0.1:{free.getsockname()[1]}"
    found = check_tracking(Workspace(tmp_path), uri)
    assert found.level is Level.PROBLEM
    assert "cannot be reached" in found.text
    assert "word" not in found.line


def test_studies_whose_storage_is_gone_are_found(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    for name in ("here", "gone"):
        url = sqlite_url(tmp_path / f"{name}.db")
        (workspace.studies / name).mkdir(parents=True)
        (workspace.studies / name / "study.json").write_text(json.dumps({"storage": url}))
    open_storage(sqlite_url(tmp_path / "here.db"))
    (workspace.studies / "damaged").mkdir()
    (workspace.studies / "damaged" / "study.json").write_text("{")
    levels = {f.subject: f.level for f in examine(workspace) if f.subject.startswith("study ")}
    assert levels == {
        "study here": Level.FINE,
        "study gone": Level.PROBLEM,
        "study damaged": Level.PROBLEM,
    }
    assert not (tmp_path / "gone.db").exists()
