"""Servers on this machine that others reach without a key: Ray, MLflow and Optuna's dashboard."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress

import psutil

from mgstudy.cluster.address import is_loopback
from mgstudy.cluster.machines import Finding, fine, warning

_WITHOUT_KEY = (  # Marks of a kind's parts, marks of one with a key, what is said, what to do.
    (
        {
            "gcs/gcs_server": "GCS",
            "ray/dashboard/dashboard.py": "dashboard",
            "ray.util.client.server": "client server",
            "raylet/raylet": "raylet",
        },
        ("RAY_AUTH_MODE=token",),
        "Ray without a token ({}): whoever does runs any code here",
        "`ray get-auth-token --generate` and a restart of Ray turn tokens on; or let a firewall "
        "close the ports",
    ),
    (
        dict.fromkeys(("mlflow.server", "mlflow server", "mlflow ui"), "MLflow"),
        ("mlflow.server.auth", "basic-auth"),
        "{} without a password: whoever does can change and delete its records",
        "start it with `--host 127.0.0.1` (`ssh -L` reaches it) or with `--app-name basic-auth`",
    ),
    (
        {"optuna-dashboard": "Optuna's dashboard"},
        (),
        "{}, which knows no password: whoever does can delete studies",
        "start it with `--host 127.0.0.1`, or by `mgstudy ui --optuna`",
    ),
)


def check_open_ports() -> list[Finding]:
    """What other machines can reach without a key of Ray, MLflow and Optuna's dashboard, as far as
    their processes belong to this user."""
    try:
        found = judge(dict(reachable_servers()))
    except psutil.AccessDenied:
        return [fine("open ports", "only root can list them on this system")]
    return found or [fine("open ports", "no server here that others reach without a key")]


def judge(servers: Mapping[int, str]) -> list[Finding]:
    """What is to be said of servers that other machines reach; nothing of those with a key.

    Args:
        servers: Port to command line.
    """
    findings = []
    for parts, with_key, text, advice in _WITHOUT_KEY:
        open_parts = [
            f"{next(part for mark, part in parts.items() if mark in command)} on {port}"
            for port, command in servers.items()
            if any(mark in command for mark in parts) and not any(m in command for m in with_key)
        ]
        if open_parts:
            said = f"other machines reach {text.format(', '.join(open_parts))}"
            findings.append(warning("open ports", said, advice))
    return findings


def reachable_servers() -> Iterator[tuple[int, str]]:
    """Port and command line, with how Ray is to authenticate, of this user's processes that listen
    on an address that is not only this machine's.

    Raises:
        psutil.AccessDenied: Where the system shows connections to nobody but root.
    """
    for connection in psutil.net_connections("tcp"):
        if (
            connection.status == psutil.CONN_LISTEN
            and connection.pid is not None
            and not is_loopback(connection.laddr.ip)
        ):
            with suppress(psutil.Error):  # It ended, or belongs to someone else.
                process = psutil.Process(connection.pid)
                mode = process.environ().get("RAY_AUTH_MODE", "").lower()
                yield connection.laddr.port, f"RAY_AUTH_MODE={mode} {' '.join(process.cmdline())}"
