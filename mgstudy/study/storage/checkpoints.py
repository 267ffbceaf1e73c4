"""Where trials leave their checkpoints: a folder, or a URL that every machine of a cluster reaches.

The only place that knows how a trial's files are called and where they lie.
"""

from __future__ import annotations

import io
import os
import posixpath
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs

from mgstudy.errors import InputError, MgstudyError
from mgstudy.files import is_at, listed, refuse_lost_link
from mgstudy.urls import first_line, redacted

BEST_WEIGHTS = "best.pt"
"""Weights of a trial's best epoch, in the trial's folder."""
TEST_USERS = "test_users.parquet"
"""Test scores of every user, beside a confirmation's weights."""
LAST = "last.pt"
BEFORE_LAST = "before-last.pt"
FINAL = "final.pt"
_UNFINISHED = re.compile(r"\.(partial|new|lock)$|(^|/)\.[^/]*$")


@contextmanager
def local_copy(location: str) -> Iterator[str]:
    """The path of a file for as long as it is needed: the file itself, or a copy of what lies at
    a URL."""
    if "://" not in location:
        yield location
        return
    files, path = url_to_fs(location)
    with tempfile.TemporaryDirectory(prefix="mgstudy-copy-") as folder:
        copy = str(Path(folder) / posixpath.basename(location))
        files.get_file(path, copy)
        yield copy


class UnreachableError(OSError):
    """Files of trials cannot be read or written, for now: the place they lie at does not answer,
    or its disk is full."""


@dataclass(frozen=True)
class TrialState:
    """What was found of an interrupted trial.

    Attributes:
        content: Its last good state; ``None`` when it must begin anew.
        problems: One line for every checkpoint that could not be used.
    """

    content: Mapping[str, Any] | None
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class CheckpointFolder:
    """The checkpoints of one study, a folder for every trial.

    Attributes:
        root: An absolute path, or a URL of any file system that fsspec knows (``s3://...``).
    """

    root: str

    def location(self, trial: str, name: str) -> str:
        """Path or URL of one file of the trial with this key."""
        return posixpath.join(self.root, trial, name)

    def save(self, trial: str, name: str, state: Mapping[str, Any]) -> str:
        """Write a state of tensors and plain values, whole or not at all; its path or URL.

        Raises:
            OSError: If it cannot be written; what was there is untouched.
        """
        import torch  # noqa: PLC0415

        from mgstudy.training.checkpoint import save_checkpoint  # noqa: PLC0415

        location = self.location(trial, name)
        if not self._is_remote:
            save_checkpoint(Path(location), state)
            return location
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        return self.save_bytes(trial, name, buffer.getvalue())

    def save_bytes(self, trial: str, name: str, content: bytes) -> str:
        """Write a file, whole or not at all; its path or URL.

        Raises:
            UnreachableError: If it cannot be written.
        """
        location = self.location(trial, name)
        with self._reached():
            files, path = self._open(location)
            files.makedirs(posixpath.dirname(path), exist_ok=True)
            # Object stores show an object when all of it is there; others get that by the rename.
            files.pipe_file(f"{path}.partial", content)
            files.mv(f"{path}.partial", path)
        return location

    def save_last(self, trial: str, state: Mapping[str, Any]) -> str:
        """Write the state a trial continues from, and keep the one before it.

        Raises:
            OSError: If it cannot be written; the states that were there remain.
        """
        fresh = self.save(trial, f"{LAST}.new", state)
        with self._reached():
            files, last = self._open(self.location(trial, LAST))
            if is_at(files, last):
                files.mv(last, posixpath.join(posixpath.dirname(last), BEFORE_LAST))
            files.mv(self._open(fresh)[1], last)
        return self.location(trial, LAST)

    def load(self, trial: str, name: str) -> dict[str, Any]:
        """Read one file of a trial.

        Raises:
            InputError: If it is missing, damaged, or holds anything but tensors and plain values.
            UnreachableError: If what lies at a URL cannot be reached.
        """
        from mgstudy.training.checkpoint import load_checkpoint, read_checkpoint  # noqa: PLC0415

        location = self.location(trial, name)
        if not self._is_remote:
            return load_checkpoint(Path(location))
        try:
            with self._reached():
                files, path = self._open(location)
                content = files.cat_file(path)
        except FileNotFoundError:
            raise InputError(f"there is no checkpoint {location}") from None
        return read_checkpoint(io.BytesIO(content), location)

    def load_last(self, trial: str) -> TrialState:
        """The newest state of a trial that can be read; a damaged one is passed over, and said.

        Raises:
            UnreachableError: If that cannot be looked up.
        """
        problems: list[str] = []
        for name in (LAST, BEFORE_LAST):
            if not self.exists(trial, name):
                continue
            try:
                return TrialState(self.load(trial, name), tuple(problems))
            except InputError as error:
                problems.append(str(error))
        return TrialState(None, tuple(problems))

    def exists(self, trial: str, name: str) -> bool:
        """Whether the trial has such a file.

        Raises:
            UnreachableError: If that cannot be looked up.
        """
        with self._reached():
            return is_at(*self._open(self.location(trial, name)))

    def trials(self, cell: str) -> list[int]:
        """Numbers of the trials of a cell that have left anything."""
        try:
            with self._reached():
                files, path = self._open(posixpath.join(self.root, cell))
                entries = files.ls(path, detail=False)
        except OSError:
            return []
        names = [posixpath.basename(entry.rstrip("/")) for entry in entries]
        return sorted(int(name) for name in names if name.isdecimal())

    def files(self) -> dict[str, str]:
        """Everything that trials have left whole, by its path below this folder, to where it is.

        Raises:
            MgstudyError: If a folder cannot be listed: nobody knows what is in it.
        """
        if not self._is_remote:
            root = self._open(self.root)[1]
            found = list(map(str, _files_below(Path(root))))
        else:
            try:
                with self._reached():
                    files, root = self._open(self.root)
                    found = files.find(root)
            except FileNotFoundError:
                return {}
            except OSError as error:
                raise MgstudyError(f"cannot be listed: {error}") from error
        below = {posixpath.relpath(path, root): path for path in found}
        return {name: path for name, path in below.items() if not _UNFINISHED.search(name)}

    def read(self, place: str) -> bytes:
        """The content of one of ``files``.

        Raises:
            FileNotFoundError: If it is no longer there.
            UnreachableError: If it cannot be read.
        """
        with self._reached():
            return bytes(self._open(self.root)[0].cat_file(place))

    def adopt(self, other: CheckpointFolder, cell: str) -> None:
        """Have the files of another study's cell here too; on one disk they lie there once.

        Raises:
            OSError: If they cannot be written.
        """
        for name, place in other.files().items():
            if name.startswith(f"{cell}/"):
                with self._reached():
                    self._adopt(name, place)

    def _adopt(self, name: str, place: str) -> None:
        files, target = self._open(posixpath.join(self.root, name))
        files.makedirs(posixpath.dirname(target), exist_ok=True)
        if self._is_remote:
            files.cp_file(place, target)
            return
        try:
            # Files here are replaced, never written to.
            os.link(place, target)
        except OSError:  # Of another disk, or one without links.
            shutil.copy2(place, target)

    def discard_states(self, trial: str) -> None:
        """Delete what only an interrupted trial needs."""
        for name in (LAST, BEFORE_LAST, f"{LAST}.new"):
            self._remove(self.location(trial, name))

    def discard(self, trial: str) -> None:
        """Delete everything a trial left."""
        self._remove(posixpath.join(self.root, trial))

    def _remove(self, location: str) -> None:
        # A leftover costs space and nothing else; the next launch tries again.
        with suppress(OSError), self._reached():
            files, path = self._open(location)
            if is_at(files, path):
                files.rm(path, recursive=True)

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Say alike of every file system what fails in a block, but for a file that is not there.

        Raises:
            UnreachableError: If anything does.
        """
        try:
            yield
        except (FileNotFoundError, ImportError):
            raise
        except Exception as error:  # Those of object stores raise what is no OSError.
            said = getattr(error, "strerror", None) or first_line(error)
            raise UnreachableError(f"{redacted(self.root)}: {said}") from error

    @property
    def _is_remote(self) -> bool:
        return "://" in self.root

    def _open(self, location: str) -> tuple[AbstractFileSystem, str]:
        files, path = url_to_fs(location)
        return files, str(path)


def _files_below(folder: Path) -> Iterator[Path]:
    for path in listed(folder):
        if path.is_dir():
            yield from _files_below(path)
        elif path.is_file():  # Nobody may ever write to a pipe.
            yield path
        else:
            refuse_lost_link(path)
