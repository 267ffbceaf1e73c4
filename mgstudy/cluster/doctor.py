"""Is this machine, or a cluster, fit for studies? Every finding says what to do.

On a cluster it runs as a small job, ``python -m mgstudy.cluster.doctor REQUEST``, whose last line
holds the findings as JSON, for ``mgstudy submit`` and ``mgstudy doctor --address``.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import stat
import sys
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from mgstudy.cluster.address import asks_for_token, find_token
from mgstudy.cluster.machines import (
    Finding,
    check_versions,
    fine,
    look,
    look_at_nodes,
    problem,
    warning,
    write_findings,
)
from mgstudy.cluster.open_ports import check_open_ports
from mgstudy.errors import MgstudyError
from mgstudy.files import found_in_each
from mgstudy.study.definition.manifest import StudyManifest
from mgstudy.study.definition.study import read_study
from mgstudy.study.running.placement import trial_resources
from mgstudy.study.running.ray_session import ray_session, usable_nodes
from mgstudy.study.storage.layout import MANIFEST, StudyFolder
from mgstudy.study.storage.optuna_storage import close_storage, open_storage, refuse_local_file
from mgstudy.tracking.store import tracking_uri
from mgstudy.urls import expand_url, first_line, ray_token_file, redacted
from mgstudy.workspace import HOME_VARIABLE, Workspace

_LEAST_WORKSPACE = 2 * 10**9
_SERVER_SECONDS = 15
_PORT_SECONDS = 3
_NETWORK_FILE_SYSTEMS = ("nfs", "nfs4", "cifs", "smbfs", "smb3", "lustre", "fuse.sshfs")
_PORTS = {6379: "--port", 8265: "--dashboard-port", 52365: "--dashboard-agent-listen-port"}


def examine(home: str | None = None) -> list[Finding]:
    """What speaks for and against running studies on this machine.

    Args:
        home: The workspace; by default ``MGSTUDY_HOME``, else this folder.
    """
    workspace = Workspace.resolve(home)
    return [
        *look().findings,
        *check_workspace(workspace),
        *_check_studies(workspace),
        check_tracking(workspace),
        check_token(),
        *check_ports(),
        *check_open_ports(),
    ]


def check_workspace(workspace: Workspace) -> list[Finding]:
    """Whether the workspace can be written to, has room, and suits SQLite."""
    home = workspace.home
    existing = next(folder for folder in (home, *home.parents) if folder.is_dir()).resolve()
    if not os.access(existing, os.W_OK):
        return [problem("workspace", f"{home} cannot be written to", "give another --home")]
    free = shutil.disk_usage(existing).free
    text = f"{home}, {free / 10**9:.0f} GB free"
    findings = [
        fine("workspace", text)
        if free >= _LEAST_WORKSPACE
        else warning("workspace", text, "free some disk, or give another --home")
    ]
    mounts = psutil.disk_partitions(all=True)
    around = [mount for mount in mounts if existing.is_relative_to(mount.mountpoint)]
    kind = max(around, key=lambda mount: len(mount.mountpoint)).fstype if around else ""
    if kind in _NETWORK_FILE_SYSTEMS:
        text = f"lies on a network file system ({kind}), where SQLite files get damaged"
        advice = "give studies a `storage: postgresql://...` and an MLflow server"
        findings.append(warning("workspace", text, advice))
    return findings


def check_storage(
    url: str, nodes: int = 1, create: bool = True, subject: str = "storage"
) -> Finding:
    """Whether an Optuna storage opens.

    Args:
        url: As the study file writes it.
        nodes: Machines that the study would run on.
        create: Whether a SQLite file that does not exist may be made.
        subject: What the finding is about.
    """
    try:
        refuse_local_file(url, nodes)
        close_storage(open_storage(expand_url(url), create=create))
    except MgstudyError as error:
        return problem(subject, first_line(error), "a study needs it from the machine it runs on")
    return fine(subject, redacted(url))


def check_tracking(workspace: Workspace, configured: str | None = None) -> Finding:
    """Whether the MLflow server answers; a store that is no server is not opened.

    Args:
        workspace: The workspace, for the default store.
        configured: The study file's tracking URI.
    """
    try:
        uri = tracking_uri(workspace, configured)
    except MgstudyError as error:
        return problem("tracking", first_line(error), "set it where the study runs")
    try:
        if uri.startswith(("http://", "https://")):
            urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=_SERVER_SECONDS).close()
    except (OSError, ValueError) as error:
        code = getattr(error, "code", None)
        if code not in (401, 403):  # Else it answers; whether it lets MLflow in, its client knows.
            reason = redacted(str(getattr(error, "reason", error)))
            said = f"answers {code} {reason}" if code else f"cannot be reached: {reason}"
            advice = "start it, or correct `tracking.uri`"
            return problem("tracking", f"{redacted(uri)} {said}", advice)
    return fine("tracking", redacted(uri))


def check_token() -> Finding:
    """Whether there is a key to clusters, and only its owner can read it."""
    try:
        if find_token() is None:
            return fine(
                "token", "none here; `ray get-auth-token --generate` makes one for clusters"
            )
    except MgstudyError as error:
        return problem("token", str(error), "mend it, or set RAY_AUTH_TOKEN")
    if not os.environ.get("RAY_AUTH_TOKEN"):
        path = ray_token_file()
        if path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
            advice = f"chmod 600 {shlex.quote(str(path))}"
            return warning("token", f"others on this machine can read {path}", advice)
    return fine("token", "clusters that ask for one get it")


def check_ports() -> list[Finding]:
    """Whether a Ray head could be started here, or runs already."""
    busy = [port for port in _PORTS if _listens(port)]
    for port in busy:
        with suppress(MgstudyError):
            asks_for_token(f"http://127.0.0.1:{port}", _PORT_SECONDS)
            return [fine("ports", f"a Ray head runs here: http://127.0.0.1:{port}")]
    found = [
        warning(
            "ports",
            f"another program, perhaps another Ray, listens on {port}",
            f"start a Ray head with another one: `ray start --head {_PORTS[port]}=...`",
        )
        for port in busy
    ]
    return found or [fine("ports", "free for a Ray head")]


def check_cluster(versions: dict[str, str], study: dict[str, Any] | None = None) -> list[Finding]:
    """What speaks for and against the cluster that this process runs on.

    Args:
        versions: On the submitting side.
        study: The study to check for: its ``file``, ``overrides`` and ``home``.
    """
    with ray_session():
        machines, findings = look_at_nodes()
        for machine in machines:
            findings += machine.findings
        findings += check_versions(machines, versions)
        return findings + (check_study_there(**study) if study else [])


def check_study_there(file: str, overrides: list[str], home: str | None) -> list[Finding]:
    """Whether a study could run on the cluster that this process is connected to."""
    if home is None and not os.environ.get(HOME_VARIABLE):
        text = "the cluster has none: the job's own folder ends with it"
        advice = "give --home, a folder that every node sees, or set MGSTUDY_HOME on the nodes"
        return [problem("workspace", text, advice)]
    try:
        study = read_study(Path(file), overrides, home)
    except MgstudyError as error:
        advice = "prepare datasets on the cluster, or in its --home"
        return [problem("study", first_line(error), advice)]
    nodes = usable_nodes()
    try:
        each = trial_resources(study.config.resources, nodes)
        text = f"{each.slots} trials at once, {each.cpu:g} CPU and {each.gpu:g} GPU each"
        resources = fine("resources", text)
    except MgstudyError as error:
        advice = "or add nodes that are large enough"
        resources = problem("resources", first_line(error), advice)
    return [
        fine("datasets", ", ".join(study.datasets)),
        resources,
        check_storage(study.folder.storage_url(study.config), nodes=len(nodes)),
        check_tracking(study.workspace, study.config.tracking.uri),
    ]


def _check_studies(workspace: Workspace) -> list[Finding]:
    try:
        found = found_in_each(workspace.studies, MANIFEST)
    except MgstudyError as error:
        return [problem("studies", str(error), "mend it, or give another --home")]
    return [_check_study(workspace, manifest) for manifest in found]


def _check_study(workspace: Workspace, manifest: Path) -> Finding:
    subject = f"study {manifest.parent.name}"
    try:
        folder = StudyFolder.of(workspace, manifest.parent.name)
        url = folder.storage_url(StudyManifest.read(folder).config)
    except MgstudyError as error:
        return problem(subject, f"its manifest is damaged: {error}", "launch the study again")
    return check_storage(url, create=False, subject=subject)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(_PORT_SECONDS)
        return probe.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    print(write_findings(check_cluster(**json.loads(sys.argv[1]))))
