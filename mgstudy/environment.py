"""The process that a study runs in: which code, on what machine, and what is changed of it for a
while."""

from __future__ import annotations

import logging
import os
import platform
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path
from typing import Any

_NAMED = ("mgstudy", "torch", "ray", "optuna", "mlflow", "numpy", "pandas", "pyarrow", "pydantic")


@contextmanager
def for_a_while(
    variables: Mapping[str, str] | None = None, loggers: Mapping[str, int] | None = None
) -> Iterator[None]:
    """Set environment variables and the levels of loggers, and put back what was there: a notebook
    goes on after a study has run in it.

    Args:
        variables: Name to value; one that is set already stays as it is.
        loggers: Name to level.
    """
    unset = [name for name in variables or {} if name not in os.environ]
    levels = {name: logging.getLogger(name).level for name in loggers or {}}
    os.environ.update({name: value for name, value in (variables or {}).items() if name in unset})
    for name, level in (loggers or {}).items():
        logging.getLogger(name).setLevel(level)
    try:
        yield
    finally:
        for name in unset:
            os.environ.pop(name, None)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def usable_cpus() -> int:
    """CPUs that this process may use: of those of the machine, the ones it is bound to (taskset,
    SLURM), and no more than SLURM has allocated or the quota of its control group allows."""
    bound = hasattr(os, "sched_getaffinity")
    limits = [len(os.sched_getaffinity(0)) if bound else os.cpu_count() or 1]
    if (allocated := os.environ.get("SLURM_CPUS_ON_NODE", "")).isdecimal():
        limits.append(int(allocated))
    return max(1, int(min(limits + _cpu_quotas(Path("/")))))


def memory_limits(root: Path = Path("/")) -> list[int]:
    """What the control groups of this process allow, in bytes of memory.

    Args:
        root: Of the file system; something else in tests.
    """
    found = []
    for group in _control_groups(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            with suppress(OSError, ValueError):  # "max" is no limit.
                found.append(int((group / name).read_text()))
    return found


def _cpu_quotas(root: Path) -> list[float]:
    """What the control groups of this process allow, in CPUs."""
    return [quota for group in _control_groups(root, "cpu") for quota in _cpu_quota(group)]


def _control_groups(root: Path, controller: str) -> set[Path]:
    """Folders of the control groups whose limits hold for this process: those of its own, and of
    the groups around them. In a container, their paths may be the host's."""
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # Not Linux.
        return set()
    found: set[Path] = set()
    for line in groups:
        _, controllers, path = line.split(":", 2)
        if not controllers or controller in controllers.split(","):
            top = root / "sys/fs/cgroup" / controllers
            folder = top / path.lstrip("/")
            found |= {folder, *folder.parents, top}
    return found


def _cpu_quota(group: Path) -> list[float]:
    for names in (["cpu.max"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]):
        try:
            quota, period = " ".join((group / name).read_text() for name in names).split()
        except (OSError, ValueError):
            continue
        if quota.isdecimal() and int(period):  # "max", or -1, is no quota.
            return [int(quota) / int(period)]
    return []


@contextmanager
def left_as_found() -> Iterator[None]:
    """Put back at the end what libraries change of the process meanwhile: environment variables,
    the levels and handlers of the loggers that there were, and the handlers of the signals that Ray
    Tune takes, where this is the main thread."""
    environment = dict(os.environ)
    loggers = [
        (logger, logger.level, list(logger.handlers))
        for logger in [logging.root, *logging.root.manager.loggerDict.values()]
        if isinstance(logger, logging.Logger)
    ]
    signals = {kind: signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGUSR1)}
    try:
        yield
    finally:
        for name in os.environ.keys() - environment.keys():
            os.environ.pop(name, None)
        os.environ.update(environment)
        for logger, level, handlers in loggers:
            logger.setLevel(level)
            logger.handlers[:] = handlers
        if threading.current_thread() is threading.main_thread():
            for kind, handler in signals.items():
                signal.signal(kind, handler)


def package_versions(names: Iterable[str] = _NAMED) -> dict[str, str]:
    """The versions of those of these distributions that are installed; by default of those that
    results depend on."""
    found: dict[str, str] = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def installed_packages() -> str:
    """Every installed distribution as ``name==version`` lines."""
    lines = {f"{item.metadata['Name']}=={item.version}" for item in distributions()}
    return "\n".join(sorted(lines, key=str.lower)) + "\n"


def git_revision(folder: Path) -> str | None:
    """The commit checked out in ``folder``, with ``-dirty`` when files differ; ``None`` outside
    a checkout or without git."""
    try:
        describe = ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        shown = subprocess.run(
            ["git", "-C", str(folder), *describe],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return shown.stdout.strip() or None if shown.returncode == 0 else None


def describe_environment() -> dict[str, Any]:
    """Versions, machine and revision as JSON-like data; nothing secret is in it."""
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "packages": package_versions(),
        "git_revision": git_revision(Path.cwd()),
    }
