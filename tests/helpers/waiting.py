"""Wait for servers and processes that tests have started."""

from __future__ import annotations

import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable
from typing import Any

WITHOUT_JOBS = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
"""Spares an MLflow server the eight processes that would run MLflow's own background jobs."""


def wait_until(
    condition: Callable[[], Any],
    seconds: float = 400.0,
    process: subprocess.Popen[Any] | None = None,
) -> None:
    """Wait for something to become true.

    Args:
        condition: Asked again and again.
        seconds: Fail after so many.
        process: What brings it about: fail with what it printed when it ends before.
    """
    deadline = time.monotonic() + seconds
    while not _looked(condition):
        if process is not None and process.poll() is not None:
            raise AssertionError(process.communicate(timeout=60))
        assert time.monotonic() < deadline


def _looked(condition: Callable[[], Any]) -> Any:
    """What a condition says; while it does not hold, the processor is left to what brings it about:
    reading a study again and again takes more of it than training one."""
    began = time.monotonic()
    if not (found := condition()):
        took = time.monotonic() - began
        time.sleep(min(max(0.02, 4 * took), 0.25))
    return found


def answers(url: str) -> bool:
    """Whether a server answers there, if only that one must say who one is."""
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError as error:
        return getattr(error, "code", None) in (401, 403)


def listens(port: int) -> bool:
    """Whether anything on this machine listens on a port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port(host: str = "127.0.0.1") -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
