"""Small disks, in memory."""

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
