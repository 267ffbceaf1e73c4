"""What is sent to a cluster: a study file, how it is to run, and the files that go along."""

from __future__ import annotations

import os
import subprocess
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path

from mgstudy.config.document import load_document
from mgstudy.config.study import StudyConfig
from mgstudy.errors import InputError
from mgstudy.private.ray import ignored_below
from mgstudy.study.running.deadline import Deadline

LARGEST_PACKAGE = 20 * 2**20
"""Bytes. Code and study files are a few MB; more is data that was overlooked."""

_LEFT_OUT = (
    *(".git", ".hg", ".mgstudy", ".venv", "venv", ".tox", "node_modules", "mlruns", "mlartifacts"),
    *("__pycache__", ".cache", ".ipynb_checkpoints", ".mypy_cache", ".pytest_cache", ".ruff_cache"),
    *("*.db", "*.db-shm", "*.db-wal", "*.sqlite", "*.sqlite3", "*.pyc", "*.log"),
    *("*.parquet", "*.feather", "*.npy", "*.npz", "*.h5", "*.hdf5", "*.inter"),
    *("*.pt", "*.pth", "*.ckpt", "*.safetensors", "*.zip", "*.tar", "*.gz", "*.zst", "*.7z"),
    *(".env", ".netrc", "auth_token", "credentials.json"),  # They hold passwords.
)
_LEFT_OUT_AT_THE_TOP = ("data", "datasets")
"""Folders; further down, packages of code carry these names, too."""

_NAMED_OFFENDERS = 5


@dataclass(frozen=True)
class Submission:
    """A study that is sent to a cluster. A file that is wrong, or a folder that cannot be sent,
    raises ``InputError`` when it is first asked for.

    Attributes:
        path: The study file.
        working_directory: The folder whose code and files go along.
        overrides: ``a.b=value`` changes to the file.
        home: The workspace on the cluster; its ``MGSTUDY_HOME`` when not given.
        environment: Variables of the job. The dashboard shows them.
        retry_failed: Whether trials that failed run again.
        within: The time each job may take, such as ``90m``: as ``launch`` takes it.
    """

    path: Path
    working_directory: Path = Path()
    overrides: tuple[str, ...] = ()
    home: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    retry_failed: bool = False
    within: str | None = None

    def __post_init__(self) -> None:
        Deadline.after(self.within)  # What is no time is refused at once.

    @cached_property
    def study(self) -> str:
        """Name of the study."""
        return load_document(self.path, self.overrides).validate(StudyConfig).name

    @cached_property
    def files(self) -> dict[Path, int]:
        """What goes along, see ``collect``."""
        return collect(self.working_directory, self.path)

    @property
    def file(self) -> str:
        """The study file, as the job finds it in the folder it runs in."""
        return self.path.resolve().relative_to(self.working_directory.resolve()).as_posix()

    def words(self) -> list[str]:
        """What the job runs, as arguments of a Python interpreter."""
        return [
            *("-m", "mgstudy.cli", "launch", self.file),
            *(f"--set={override}" for override in self.overrides),
            *(("--home", self.home) if self.home else ()),
            *(("--retry-failed",) if self.retry_failed else ()),
            *(("--for", self.within) if self.within else ()),
        ]

    @contextmanager
    def packed(self) -> Iterator[str]:
        """A temporary archive of the files, as Ray takes one for a working directory: of a folder
        it would leave out a study file that Git ignores."""
        with tempfile.TemporaryDirectory(prefix="mgstudy-package-") as folder:
            archive = f"{folder}/package.zip"
            with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as to:
                for file in self.files:
                    to.write(self.working_directory / file, file)
            yield archive


def collect(root: Path, needed: Path) -> dict[Path, int]:
    """Choose the files of a working directory that go with a job.

    Left out is what Git ignores, what a ``.gitignore`` or Ray's ``.rayignore`` names, and
    everywhere: data, caches, ``.git``, virtual environments, stores, weights, archives, and files
    that hold passwords. The study file goes along in any case.

    Args:
        root: The working directory.
        needed: The study file.

    Returns:
        Paths below ``root``, sorted, to their bytes.

    Raises:
        InputError: If the study file lies outside ``root``, a file cannot be read, or the package
            is larger than ``LARGEST_PACKAGE``; the largest files are named.
    """
    root, study_file = root.resolve(), needed.resolve()
    if not study_file.is_relative_to(root):
        raise InputError(
            f"{needed}: lies outside the working directory {root}, which is sent along"
        )
    left_out = [_git_ignored(root).__contains__, lambda path: _is_left_out(path, root)]
    try:
        files = sorted({study_file, *_files(root, left_out)})
        sizes = {file.relative_to(root): _readable_bytes(file) for file in files}
    except OSError as error:
        raise InputError(
            f"{error.filename} cannot be sent along: {error.strerror}; .rayignore can leave it out"
        ) from error
    size = sum(sizes.values())
    if size > LARGEST_PACKAGE:
        largest = sorted(sizes, key=lambda file: -sizes[file])[:_NAMED_OFFENDERS]
        named = ", ".join(f"{file} ({megabytes(sizes[file])})" for file in largest)
        raise InputError(
            f"{root} would be sent as {megabytes(size)}, more than {megabytes(LARGEST_PACKAGE)}; "
            f"the largest files: {named}. Move data elsewhere or name it in .gitignore or "
            ".rayignore"
        )
    return sizes


def megabytes(size: int) -> str:
    """A size in bytes, for people."""
    return f"{size / 2**20:.1f} MB"


def _files(folder: Path, left_out: list[Callable[[Path], bool]]) -> Iterator[Path]:
    left_out = [*left_out, *ignored_below(folder)]
    for path in folder.iterdir():
        if any(leaves_out(path) for leaves_out in left_out):
            continue
        if path.is_file():
            yield path
        elif path.is_dir() and not path.is_symlink():
            yield from _files(path, left_out)


def _is_left_out(path: Path, root: Path) -> bool:
    at_the_top = path.name in _LEFT_OUT_AT_THE_TOP and path.parent == root and path.is_dir()
    return at_the_top or any(fnmatch(path.name.lower(), pattern) for pattern in _LEFT_OUT)


def _git_ignored(root: Path) -> set[Path]:
    """What Git ignores below ``root`` for whatever reason: rules above it count, too."""
    asked = ["ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--directory"]
    command = ["git", "-C", str(root), *asked]
    try:
        listed = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):  # No Git here, or no checkout.
        return set()
    return {root / os.fsdecode(name) for name in listed.split(b"\0") if name}


def _readable_bytes(file: Path) -> int:
    with file.open("rb") as opened:
        return opened.seek(0, os.SEEK_END)
