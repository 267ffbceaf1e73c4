"""What a machine has, the same on every node, and what is found wrong with it."""

from __future__ import annotations

import json
import platform
import shutil
import socket
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import psutil

from mgstudy.environment import memory_limits, package_versions, usable_cpus
from mgstudy.urls import first_line

_MARK = "mgstudy-findings: "
_PACKAGES = ("mgstudy", "ray", "torch", "optuna", "mlflow")
_SHARED_MEMORY = Path("/dev/shm")
_LEAST_SHARED_MEMORY = 0.3
_LEAST_DISK = 5 * 10**9
_LEAST_MEMORY = 8 * 2**30
"""That of Ray, of the process that drives a study, and of some trials, about 0.8 GiB each."""
_LARGEST_SKEW_SECONDS = 2.0
_NODE_SECONDS = 120


@dataclass(frozen=True)
class Finding:
    """One thing that was checked.

    Attributes:
        level: ``fine``; ``warning``, which may do harm later; ``problem``, which stops a study.
        subject: What was checked, for example ``"storage"``.
        text: What was found.
        advice: What to do; empty when nothing is to be done.
    """

    level: str
    subject: str
    text: str
    advice: str = ""

    @property
    def line(self) -> str:
        """The finding in one line."""
        return f"{self.subject}: {self.text}" + (f"; {self.advice}" if self.advice else "")


fine, warning, problem = (partial(Finding, level) for level in ("fine", "warning", "problem"))


def problems(findings: Iterable[Finding]) -> list[Finding]:
    """The findings that stop a study."""
    return [finding for finding in findings if finding.level == "problem"]


def write_findings(findings: Iterable[Finding]) -> str:
    """Findings as one line, for ``read_findings``."""
    return _MARK + json.dumps([asdict(finding) for finding in findings])


def read_findings(output: str) -> list[Finding] | None:
    """The findings that a check has printed last; ``None`` when it has come to none."""
    for line in reversed(output.splitlines()):
        if line.startswith(_MARK):
            return [Finding(**found) for found in json.loads(line.removeprefix(_MARK))]
    return None


@dataclass(frozen=True)
class Machine:
    """A machine that was looked at: its name, the versions that must agree, the seconds since 1970
    by its own clock, and what was found."""

    host: str
    versions: Mapping[str, str]
    clock: float
    findings: list[Finding]


def look(folder: Path = Path("/tmp")) -> Machine:
    """What this machine has.

    Args:
        folder: Where free disk space is measured.
    """
    host, versions = socket.gethostname(), installed_versions()
    memory = min([psutil.virtual_memory().total, *memory_limits()])
    free = shutil.disk_usage(folder).free
    shared = shutil.disk_usage(_SHARED_MEMORY).total if _SHARED_MEMORY.is_dir() else 0
    disk_text = f"{free / 10**9:.0f} GB disk free for temporary files"
    disk_advice = "free some: Ray stops giving work to a node whose disk is full"
    shared_text = f"{shared / 2**30:.1f} GiB shared memory ({_SHARED_MEMORY})"
    shared_advice = (
        "give at least 30 % of the memory (`docker run --shm-size`, an emptyDir of medium Memory "
        "in Kubernetes): datasets lie there, and on disk they are slow"
    )
    # macOS has no shared memory there and Ray does without.
    shares = sys.platform != "linux" or shared >= _LEAST_SHARED_MEMORY * memory
    findings = [
        fine(host, ", ".join(f"{name} {number}" for name, number in versions.items())),
        _look_at_size(host, usable_cpus(), memory),
        _look_at_gpus(host),
        fine(host, disk_text) if free >= _LEAST_DISK else warning(host, disk_text, disk_advice),
        fine(host, shared_text) if shares else warning(host, shared_text, shared_advice),
    ]
    return Machine(host, versions, time.time(), findings)


def _look_at_size(host: str, cpus: int, memory: int) -> Finding:
    """Whether trials have room; a small machine runs every study, slowly."""
    text = f"{cpus} CPU{'s' if cpus > 1 else ''}, {memory / 2**30:.0f} GiB memory"
    slow, advice = [], []
    if cpus == 1:
        slow.append("one trial at a time, which waits now and then for the process that drives it")
        advice.append("`mgstudy plan STUDY --measure` says how long a study takes")
    if memory < _LEAST_MEMORY:
        slow.append("room for few trials at once, and for small datasets")
        advice.append("write `resources: {max_concurrent: 1}` where trials end for lack of memory")
    if not slow:
        return fine(host, text)
    return warning(host, f"{text}: {'; '.join(slow)}", "; ".join(advice))


def installed_versions() -> dict[str, str]:
    """Versions that must agree between machines: of Python, and of the packages that results
    depend on."""
    return {"Python": platform.python_version(), **package_versions(_PACKAGES)}


def check_versions(machines: Iterable[Machine], theirs: Mapping[str, str]) -> list[Finding]:
    """Whether nodes agree with each other, and this one with the side that submits.

    Nothing but the study file crosses over, so only another mgstudy changes what it means.

    Args:
        machines: The cluster's.
        theirs: Versions on the submitting side.
    """
    findings = []
    for name in ("Python", *_PACKAGES):
        have = {machine.host: machine.versions.get(name, "none") for machine in machines}
        if len(set(have.values())) > 1:
            shown = ", ".join(f"{host} has {number}" for host, number in have.items())
            advice = "install the same version on every node"
            findings.append(problem(name, f"nodes differ: {shown}", advice))
    for name, ours in installed_versions().items():
        text = f"{theirs.get(name)} here, {ours} on the cluster"
        if name == "mgstudy" and theirs.get(name, ours) != ours:
            findings.append(problem(name, text, "install the same version on both sides"))
        if name == "ray" and theirs.get(name, ours).split(".")[:2] != ours.split(".")[:2]:
            advice = (
                "results are the cluster's; install the same version here to be sure that jobs "
                "can be followed"
            )
            findings.append(warning(name, text, advice))
    return findings


def check_clock(host: str, seconds_ahead: float) -> list[Finding]:
    """Whether another machine's clock agrees with this one's."""
    if abs(seconds_ahead) <= _LARGEST_SKEW_SECONDS:
        return []
    text = f"its clock is {abs(seconds_ahead):.1f} s {'ahead' if seconds_ahead > 0 else 'behind'}"
    advice = (
        "start a time service there (chrony, systemd-timesyncd): times of trials would be wrong, "
        "and S3 refuses requests signed at another time"
    )
    return [warning(host, text, advice)]


def look_at_nodes() -> tuple[list[Machine], list[Finding]]:
    """Look at every node of the cluster that this process is connected to.

    Returns:
        What each node has, and what was found wrong: nodes that could not be looked at, and clocks
        that differ.
    """
    import ray  # noqa: PLC0415

    from mgstudy.study.running.ray_session import at_node  # noqa: PLC0415

    machines: list[Machine] = []
    findings: list[Finding] = []
    for node in ray.nodes():
        if not node["Alive"]:
            continue
        address = node["NodeManagerAddress"]
        there = at_node(node["NodeID"], look)
        try:
            # Once to start a worker, which takes seconds, and once to compare clocks.
            for _ in range(2):
                asked = time.time()
                machine = ray.get(there.remote(), timeout=_NODE_SECONDS)
                ahead = machine.clock - (asked + time.time()) / 2
        except ray.exceptions.RayError as error:
            findings.append(_cannot_look(f"node {address}", error))
            continue
        machines.append(machine)
        findings += check_clock(f"{machine.host} ({address})", ahead)
    return machines, findings


def _cannot_look(node: str, error: Exception) -> Finding:
    _, is_missing, module = str(getattr(error, "cause", None) or error).partition("No module named")
    if is_missing:
        text = f"the module {module.split()[0]} is not installed there"
        return problem(node, text, "install mgstudy with the same version on every node")
    return problem(node, first_line(error), "look into its logs under /tmp/ray")


def _look_at_gpus(host: str) -> Finding:
    import torch  # noqa: PLC0415

    from mgstudy.study.running.gpus import mps_answers  # noqa: PLC0415

    names: list[str] = []
    error_text = ""
    try:
        count = torch.cuda.device_count()
        if count:
            torch.zeros(1, device="cuda")
        names = [torch.cuda.get_device_name(index) for index in range(count)]
        if not names and Path("/proc/driver/nvidia/version").exists():
            built_for = torch.version.cuda or "CPU only"
            error_text = f"torch {torch.__version__} was built for {built_for}"
    except (RuntimeError, AssertionError) as error:
        error_text = first_line(error)
    if error_text:
        text = f"has a GPU that torch cannot use: {error_text}"
        advice = "install the torch build that fits the driver, see https://pytorch.org/get-started"
        return problem(host, text, advice)
    if not names:
        return fine(host, "GPUs: none")
    shared = "by MPS, together" if mps_answers() else "by time slicing, in turn"
    return fine(host, f"GPUs: {', '.join(names)}; trials on one run {shared}")
