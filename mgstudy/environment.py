"""Which code ran, on what: versions, machine and git revision, for the record of a study."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path
from typing import Any

_NAMED = ("mgstudy", "torch", "ray", "optuna", "mlflow", "numpy", "pandas", "pyarrow", "pydantic")


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
