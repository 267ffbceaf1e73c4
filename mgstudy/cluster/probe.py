"""What a machine has: versions, GPUs, disk, shared memory, clock. The same on every node."""

from __future__ import annotations

import platform
import shutil
import socket
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from mgstudy.cluster.findings import Finding, fine, problem, warning
from mgstudy.urls import first_line

SHARED_MEMORY = Path("/dev/shm")
_PACKAGES = ("mgstudy", "ray", "torch", "optuna", "mlflow")
_LEAST_DISK = 5 * 10**9
_LEAST_SHARED_MEMORY = 0.3
_LARGEST_SKEW_SECONDS = 2.0
_PROBE_SECONDS = 120


@dataclass(frozen=True)
class Machine:
    """What one machine has.

    Attributes:
        host: Its name.
        python: Version of the interpreter.
        packages: Versions of the packages that results depend on.
        cpus: Logical CPUs.
        memory: Bytes of memory.
        gpus: Name of each GPU that torch can use.
        cuda_error: Why torch cannot use a GPU that the system has; empty otherwise.
        disk_free: Free bytes where temporary files go.
        shared_memory: Bytes of ``/dev/shm``; 0 where there is none.
        clock: Seconds since 1970, by its own clock.
    """

    host: str
    python: str
    packages: dict[str, str]
    cpus: int
    memory: int
    gpus: list[str]
    cuda_error: str
    disk_free: int
    shared_memory: int
    clock: float

    def content(self) -> dict[str, Any]:
        """The machine as JSON-like data."""
        return asdict(self)


def look(folder: Path = Path("/tmp")) -> Machine:
    """What this machine has.

    Args:
        folder: Where free disk space is measured.
    """
    gpus, cuda_error = _gpus()
    return Machine(
        host=socket.gethostname(),
        python=platform.python_version(),
        packages=installed_versions(),
        cpus=psutil.cpu_count() or 1,
        memory=psutil.virtual_memory().total,
        gpus=gpus,
        cuda_error=cuda_error,
        disk_free=shutil.disk_usage(folder).free,
        shared_memory=shutil.disk_usage(SHARED_MEMORY).total if SHARED_MEMORY.is_dir() else 0,
        clock=time.time(),
    )


def installed_versions() -> dict[str, str]:
    """Versions of the packages that must agree between machines."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def check_machine(machine: Machine) -> list[Finding]:
    """What is good and bad about a machine by itself."""
    where = machine.host
    findings = [
        fine(
            where,
            f"Python {machine.python}, "
            + ", ".join(f"{name} {number}" for name, number in machine.packages.items()),
        ),
        fine(where, f"{machine.cpus} CPUs, {machine.memory / 2**30:.0f} GiB memory"),
    ]
    if machine.cuda_error:
        findings.append(
            problem(
                where,
                f"has a GPU that torch cannot use: {machine.cuda_error}",
                "install the torch build that fits the driver, see https://pytorch.org/get-started",
            )
        )
    else:
        findings.append(fine(where, f"GPUs: {', '.join(machine.gpus) or 'none'}"))
    free = f"{machine.disk_free / 10**9:.0f} GB disk free for temporary files"
    if machine.disk_free < _LEAST_DISK:
        findings.append(
            warning(where, free, "free some: Ray stops giving work to a node whose disk is full")
        )
    else:
        findings.append(fine(where, free))
    findings.append(_check_shared_memory(machine))
    return findings


def check_agreement(machines: Iterable[Machine]) -> list[Finding]:
    """Whether machines of one cluster have the same versions and clocks.

    The clocks are compared as read, so each must have been looked at in the same moment, up to the
    time a small task takes.
    """
    machines = list(machines)
    findings = []
    for name, numbers in (
        ("Python", [machine.python for machine in machines]),
        *((p, [machine.packages.get(p, "none") for machine in machines]) for p in _PACKAGES),
    ):
        if len(set(numbers)) > 1:
            shown = ", ".join(
                f"{machine.host} has {number}"
                for machine, number in zip(machines, numbers, strict=True)
            )
            findings.append(
                problem(name, f"nodes differ: {shown}", "install the same version on every node")
            )
    return findings


def check_clocks(offsets: dict[str, float]) -> list[Finding]:
    """Whether clocks agree with this machine's.

    Args:
        offsets: Host to the seconds that its clock is ahead.
    """
    return [
        warning(
            host,
            f"its clock is {abs(seconds):.1f} s {'ahead' if seconds > 0 else 'behind'}",
            "start a time service there (chrony, systemd-timesyncd): times of trials would be "
            "wrong, and S3 refuses requests signed at another time",
        )
        for host, seconds in offsets.items()
        if abs(seconds) > _LARGEST_SKEW_SECONDS
    ]


def look_at_nodes() -> tuple[list[Machine], list[Finding]]:
    """Look at every node of the cluster that this process is connected to.

    Returns:
        What each node has, and findings: nodes that could not be looked at, and clocks that differ.
    """
    import ray  # noqa: PLC0415
    from ray.util.scheduling_strategies import (  # noqa: PLC0415
        NodeAffinitySchedulingStrategy,
    )

    nodes = [node for node in ray.nodes() if node["Alive"]]
    task = ray.remote(num_cpus=0, max_retries=0)(look)
    # Once to start the workers, which takes seconds, and once to compare clocks.
    machines: list[Machine] = []
    findings: list[Finding] = []
    offsets: dict[str, float] = {}
    for node in nodes:
        here = task.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        )
        address = node["NodeManagerAddress"]
        try:
            ray.get(here.remote(), timeout=_PROBE_SECONDS)
            asked = time.time()
            machine = ray.get(here.remote(), timeout=_PROBE_SECONDS)
            offset = machine.clock - (asked + time.time()) / 2
        except ray.exceptions.RayError as error:
            findings.append(_unreachable(address, error))
            continue
        machines.append(machine)
        offsets[f"{machine.host} ({address})"] = offset
    return machines, [*findings, *check_clocks(offsets)]


def _unreachable(address: str, error: Exception) -> Finding:
    cause = getattr(error, "cause", None)
    text = str(cause or error)
    if "No module named" in text:
        module = text.partition("No module named")[2].strip().split()[0].strip("'\"")
        return problem(
            f"node {address}",
            f"the module {module!r} is not installed there",
            "install mgstudy with the same version on every node",
        )
    return problem(f"node {address}", first_line(error), "look into its logs under /tmp/ray")


def _check_shared_memory(machine: Machine) -> Finding:
    text = f"{machine.shared_memory / 2**30:.1f} GiB shared memory ({SHARED_MEMORY})"
    # macOS has none and Ray does without.
    if sys.platform == "linux" and machine.shared_memory < _LEAST_SHARED_MEMORY * machine.memory:
        return warning(
            machine.host,
            text,
            "give at least 30 % of the memory (`docker run --shm-size`, an emptyDir of medium "
            "Memory in Kubernetes): datasets lie there, and on disk they are slow",
        )
    return fine(machine.host, text)


def _gpus() -> tuple[list[str], str]:
    import torch  # noqa: PLC0415

    try:
        count = torch.cuda.device_count()
        if count:
            torch.zeros(1, device="cuda")
        names = [torch.cuda.get_device_name(index) for index in range(count)]
    except (RuntimeError, AssertionError) as error:
        return [], first_line(error)
    if not names and Path("/proc/driver/nvidia/version").exists():
        return [], f"torch {torch.__version__} was built for {torch.version.cuda or 'CPU only'}"
    return names, ""
