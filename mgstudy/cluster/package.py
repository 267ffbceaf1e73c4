"""Which files of the working directory go to the cluster with a job."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mgstudy.errors import InputError

LARGEST_PACKAGE = 20 * 2**20
"""Bytes. Code and study files are a few MB; more is data that was overlooked."""

_LEFT_OUT_FOLDERS = frozenset(
    {
        ".git",
        ".hg",
        ".mgstudy",
        ".venv",
        "venv",
        "mlruns",
        "mlartifacts",
        "node_modules",
        "__pycache__",
        ".cache",
        ".ipynb_checkpoints",
        ".mypy_cache",
        ".pytest_cache",
        ".ruff_cache",
        ".tox",
    }
)
_LEFT_OUT_AT_THE_TOP = frozenset({"data", "datasets"})
"""Only there: further down, packages of code carry these names, too."""

_LEFT_OUT_SUFFIXES = frozenset(
    {
        *(".db", ".db-shm", ".db-wal", ".sqlite", ".sqlite3"),
        *(".parquet", ".feather", ".npy", ".npz", ".h5", ".hdf5", ".inter"),
        *(".pt", ".pth", ".ckpt", ".safetensors"),
        *(".zip", ".tar", ".gz", ".zst", ".7z"),
        *(".pyc", ".log"),
    }
)
_SECRET_NAMES = frozenset({".env", ".netrc", "auth_token", "credentials.json"})
_NAMED_OFFENDERS = 5


@dataclass(frozen=True)
class Package:
    """The files that a job needs.

    Attributes:
        root: The working directory.
        files: Paths below it, relative, sorted.
        size: Bytes of all files.
    """

    root: Path
    files: tuple[Path, ...]
    size: int

    @contextmanager
    def staged(self) -> Iterator[Path]:
        """A temporary folder that holds exactly these files."""
        with tempfile.TemporaryDirectory(prefix="mgstudy-package-") as folder:
            for file in self.files:
                target = Path(folder) / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(self.root / file, target)
            yield Path(folder)


def collect(root: Path, needed: Path) -> Package:
    """Choose the files of a working directory that go with a job.

    Left out is what Git ignores, and everywhere: data, caches, ``.git``, virtual environments,
    stores, weights, archives, and files that hold passwords.

    Args:
        root: The working directory.
        needed: The study file, which must be among the files.

    Raises:
        InputError: If the study file lies outside ``root`` or is left out, or the package is
            larger than ``LARGEST_PACKAGE``; the largest files are named.
    """
    root = root.resolve()
    study_file = needed.resolve()
    if not study_file.is_relative_to(root):
        raise InputError(
            f"{needed}: lies outside the working directory {root}, which is sent along"
        )
    sizes = {
        file: (root / file).stat().st_size
        for file in sorted(_candidates(root))
        if not _is_left_out(file) and (root / file).is_file()
    }
    inside = study_file.relative_to(root)
    sizes.setdefault(inside, study_file.stat().st_size)
    size = sum(sizes.values())
    if size > LARGEST_PACKAGE:
        largest = sorted(sizes, key=lambda file: -sizes[file])[:_NAMED_OFFENDERS]
        named = ", ".join(f"{file} ({megabytes(sizes[file])})" for file in largest)
        raise InputError(
            f"{root} would be sent as {megabytes(size)}, more than {megabytes(LARGEST_PACKAGE)}; "
            f"the largest files: {named}. Move data elsewhere or name it in .gitignore"
        )
    return Package(root, tuple(sorted(sizes)), size)


def megabytes(size: int) -> str:
    """A size for people."""
    return f"{size / 2**20:.1f} MB"


def _candidates(root: Path) -> Iterator[Path]:
    tracked = _git_files(root)
    if tracked is not None:
        yield from tracked
        return
    for folder, folders, files in os.walk(root):
        inside = Path(folder).relative_to(root)
        folders[:] = [name for name in folders if not _is_left_out_folder(inside / name)]
        yield from (inside / name for name in files)


def _git_files(root: Path) -> list[Path] | None:
    """What Git knows or would add in ``root``; ``None`` outside a checkout."""
    try:
        listed = subprocess.run(
            [
                "git",
                "-C",
                str(root),
                "ls-files",
                "-z",
                "--cached",
                "--others",
                "--exclude-standard",
            ],
            capture_output=True,
            check=True,
            timeout=60,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return [Path(os.fsdecode(name)) for name in listed.stdout.split(b"\0") if name]


def _is_left_out(file: Path) -> bool:
    return (
        any(_is_left_out_folder(folder) for folder in file.parents)
        or file.suffix.lower() in _LEFT_OUT_SUFFIXES
        or file.name in _SECRET_NAMES
    )


def _is_left_out_folder(folder: Path) -> bool:
    at_the_top = len(folder.parts) == 1 and folder.name in _LEFT_OUT_AT_THE_TOP
    return at_the_top or folder.name in _LEFT_OUT_FOLDERS
