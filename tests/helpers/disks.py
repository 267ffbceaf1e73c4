"""Small disks, in memory, and folders that may only be read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from programs import finished


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Make a folder a file system of its own.

    Args:
        folder: Where; it is made.
        size: How much it holds, as ``mount`` reads it. The test is skipped where nobody may mount.
    """
    folder.mkdir()
    try:
        mounted = finished("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder, code=None)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if mounted.returncode != 0:
        pytest.skip(f"mounting is not allowed here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        finished("umount", "-l", folder)


@contextmanager
def read_only(folder: Path, view: Path) -> Iterator[None]:
    """Show a folder under a second path, where it may only be read; both are made."""
    for path in (folder, view):
        path.mkdir()
    try:
        for command in (("--bind", folder), ("-o", "remount,bind,ro")):
            done = finished("mount", *command, view, code=None)
            if done.returncode != 0:
                pytest.skip(f"nothing can be mounted: {done.stderr.strip()}")
        yield
    finally:
        finished("umount", "-l", view, code=None)
