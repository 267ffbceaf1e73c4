"""What is said of servers that other machines reach."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mgstudy.cluster.findings import Level
from mgstudy.cluster.open_ports import Listener, judge, reachable_listeners

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
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    with listening("127.0.0.1") as closed, listening("0.0.0.0", "gcs/gcs_server") as opened:
        found = {listener.port: listener for listener in reachable_listeners()}
    assert closed not in found
    assert found[opened].command.endswith(" gcs/gcs_server")
    assert found[opened].asks_for_ray_token


@pytest.mark.parametrize(
    ("listener", "said"),
    [
        (Listener(6379, "/ray/gcs/gcs_server --x"), r"Ray without a token \(GCS on 6379\)"),
        (Listener(10001, "python -m ray.util.client.server"), r"\(client server on 10001\)"),
        (Listener(6379, "/ray/gcs/gcs_server --x", asks_for_ray_token=True), None),
        (Listener(5000, "python -m uvicorn mlflow.server.fastapi_app:app"), "MLflow on 5000"),
        (Listener(5000, "python -m uvicorn mlflow.server.auth:create_app"), None),
        (Listener(8080, "python optuna-dashboard sqlite:///x"), "Optuna's dashboard on 8080"),
        (Listener(22, "sshd"), None),
    ],
)
def test_a_server_without_a_key_is_warned_about(listener: Listener, said: str | None) -> None:
    findings = judge([listener])
    if said is None:
        assert findings == []
        return
    (finding,) = findings
    assert finding.level is Level.WARNING
    assert finding.advice
    assert re.search(said, finding.text)


def test_the_parts_of_one_ray_are_one_finding() -> None:
    dashboard = Listener(8265, "python /site-packages/ray/dashboard/dashboard.py")
    (finding,) = judge([Listener(6379, "/ray/gcs/gcs_server"), dashboard])
    assert "GCS on 6379, dashboard on 8265" in finding.text
