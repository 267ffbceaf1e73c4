"""Is this machine fit for studies? Every finding says what to do."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import urllib.error
import urllib.request
from pathlib import Path

import psutil

from mgstudy.cluster.address import find_token
from mgstudy.cluster.findings import Finding, fine, problem, warning
from mgstudy.cluster.open_ports import check_open_ports
from mgstudy.cluster.probe import check_machine, look
from mgstudy.cluster.stores import check_storage, check_tracking
from mgstudy.errors import MgstudyError
from mgstudy.study.definition.manifest import StudyManifest
from mgstudy.study.storage.layout import StudyFolder
from mgstudy.workspace import Workspace

_PORTS = {6379: "--port", 8265: "--dashboard-port", 52365: "--dashboard-agent-listen-port"}
_NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smbfs", "smb3", "lustre", "fuse.sshfs"})
_LEAST_WORKSPACE = 2 * 10**9
_TIMEOUT_SECONDS = 3


def examine(workspace: Workspace) -> list[Finding]:
    """What speaks for and against running studies on this machine in this workspace."""
    findings = check_machine(look())
    findings += check_workspace(workspace)
    findings += [_check_study(workspace, name) for name in _studies(workspace)]
    findings.append(check_tracking(workspace))
    findings.append(check_token())
    findings += check_ports()
    findings += check_open_ports()
    return findings


def check_workspace(workspace: Workspace) -> list[Finding]:
    """Whether the workspace can be written to, has room, and suits SQLite."""
    home = workspace.home
    existing = next(folder for folder in (home, *home.parents) if folder.is_dir())
    if not os.access(existing, os.W_OK):
        return [problem("workspace", f"{home} cannot be written to", "give another --home")]
    free = shutil.disk_usage(existing).free
    text = f"{home}, {free / 10**9:.0f} GB free"
    findings = [
        fine("workspace", text)
        if free >= _LEAST_WORKSPACE
        else warning("workspace", text, "free some disk, or give another --home")
    ]
    kind = _file_system(existing)
    if kind in _NETWORK_FILE_SYSTEMS:
        findings.append(
            warning(
                "workspace",
                f"lies on a network file system ({kind}), where SQLite files get damaged",
                "give studies a `storage: postgresql://...` and an MLflow server",
            )
        )
    return findings


def check_token() -> Finding:
    """Whether there is a key to clusters, and only its owner can read it."""
    if find_token() is None:
        return fine("token", "none here; `ray get-auth-token --generate` makes one for clusters")
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    if not os.environ.get("RAY_AUTH_TOKEN") and path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        return warning("token", f"others on this machine can read {path}", f"chmod 600 {path}")
    return fine("token", "clusters that ask for one get it")


def check_ports() -> list[Finding]:
    """Whether a Ray head could be started here, or runs already."""
    busy = [port for port in _PORTS if _listens(port)]
    if not busy:
        return [fine("ports", "free for a Ray head")]
    for port in busy:
        if _is_ray_dashboard(port):
            return [fine("ports", f"a Ray head runs here: http://127.0.0.1:{port}")]
    return [
        warning(
            "ports",
            f"another program, perhaps another Ray, listens on {port}",
            f"start a Ray head with another one: `ray start --head {_PORTS[port]}=...`",
        )
        for port in busy
    ]


def _studies(workspace: Workspace) -> list[str]:
    return sorted(path.parent.name for path in workspace.studies.glob("*/study.json"))


def _check_study(workspace: Workspace, name: str) -> Finding:
    subject = f"study {name}"
    try:
        url = StudyManifest.read(StudyFolder.of(workspace, name)).storage
    except MgstudyError as error:
        return problem(subject, f"its manifest is damaged: {error}", "launch the study again")
    found = check_storage(url, create=False)
    return Finding(found.level, subject, found.text, found.advice)


def _file_system(folder: Path) -> str:
    mounts = [
        partition
        for partition in psutil.disk_partitions(all=True)
        if folder.resolve().is_relative_to(partition.mountpoint)
    ]
    return max(mounts, key=lambda mount: len(mount.mountpoint)).fstype if mounts else ""


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(_TIMEOUT_SECONDS)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _is_ray_dashboard(port: int) -> bool:
    try:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{port}/api/version", timeout=_TIMEOUT_SECONDS
        ) as answer:
            return b"ray_version" in answer.read(1000)
    except urllib.error.HTTPError as error:
        return error.code in (401, 403)
    except OSError:
        return False
