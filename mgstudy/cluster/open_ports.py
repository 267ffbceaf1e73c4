"""Which servers on this machine others can reach, and without a key."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass

import psutil

from mgstudy.cluster.findings import Finding, fine, warning

_RAY = {
    "gcs/gcs_server": "GCS",
    "ray/dashboard/dashboard.py": "dashboard",
    "ray.util.client.server": "client server",
    "raylet/raylet": "raylet",
}
_RAY_AUTHENTICATION = "RAY_AUTH_MODE"
_MLFLOW_SERVERS = ("mlflow.server", "mlflow server", "mlflow ui")
_MLFLOW_AUTHENTICATION = ("mlflow.server.auth", "basic-auth")


@dataclass(frozen=True)
class Listener:
    """A process that other machines can reach.

    Attributes:
        port: Where it listens.
        command: Its command line.
        asks_for_ray_token: Whether its environment turns Ray's token authentication on.
    """

    port: int
    command: str
    asks_for_ray_token: bool = False


def check_open_ports() -> list[Finding]:
    """What other machines can reach without a key of Ray, MLflow and Optuna's dashboard, as far as
    their processes belong to this user."""
    try:
        found = list(reachable_listeners())
    except psutil.AccessDenied:
        return [fine("open ports", "only root can list them on this system")]
    return judge(found) or [fine("open ports", "no server here that others reach without a key")]


def judge(listeners: list[Listener]) -> list[Finding]:
    """What is to be said of these listeners; nothing of those that ask for a key.

    Args:
        listeners: Processes that other machines can reach.
    """
    findings: list[Finding] = []
    ray = [
        f"{part} on {listener.port}"
        for listener in listeners
        for mark, part in _RAY.items()
        if mark in listener.command and not listener.asks_for_ray_token
    ]
    if ray:
        findings.append(
            warning(
                "open ports",
                f"other machines reach Ray without a token ({', '.join(ray)}): whoever does runs "
                "any code here",
                "`ray get-auth-token --generate` and a restart of Ray turn tokens on; or let a "
                "firewall close the ports",
            )
        )
    for listener in listeners:
        command = listener.command
        if any(mark in command for mark in _MLFLOW_SERVERS) and not any(
            mark in command for mark in _MLFLOW_AUTHENTICATION
        ):
            findings.append(
                warning(
                    "open ports",
                    f"other machines reach MLflow on {listener.port} without a password: whoever "
                    "does can change and delete its records",
                    "start it with `--host 127.0.0.1` (`ssh -L` reaches it) or with "
                    "`--app-name basic-auth`",
                )
            )
        if "optuna-dashboard" in command:
            findings.append(
                warning(
                    "open ports",
                    f"other machines reach Optuna's dashboard on {listener.port}, which knows no "
                    "password: whoever does can delete studies",
                    "start it with `--host 127.0.0.1`, or by `mgstudy ui --optuna`",
                )
            )
    return findings


def reachable_listeners() -> Iterator[Listener]:
    """Processes of this user that listen on an address that is not only this machine's.

    Raises:
        psutil.AccessDenied: Where the system shows connections to nobody but root.
    """
    seen: set[tuple[int, int]] = set()
    for connection in psutil.net_connections("tcp"):
        if connection.status != psutil.CONN_LISTEN or connection.pid is None:
            continue
        if ipaddress.ip_address(connection.laddr.ip.partition("%")[0]).is_loopback:
            continue
        place = (connection.pid, connection.laddr.port)
        if place in seen:
            continue
        seen.add(place)
        try:
            process = psutil.Process(connection.pid)
            mode = process.environ().get(_RAY_AUTHENTICATION, "")
            yield Listener(
                connection.laddr.port, " ".join(process.cmdline()), mode.lower() == "token"
            )
        except psutil.Error:  # It ended, or belongs to someone else.
            continue
