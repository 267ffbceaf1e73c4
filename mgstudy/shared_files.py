"""A workspace at a URL that every machine reaches: its files, and this machine's copies of them."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from fsspec.core import url_to_fs

from mgstudy.errors import InputError, MgstudyError
from mgstudy.files import locked, written_whole
from mgstudy.fingerprint import fingerprint
from mgstudy.urls import first_line, redacted

CACHE_VARIABLE = "MGSTUDY_CACHE"
_BLOCK = 1 << 22
_EXTRAS = {"s3": "s3", "gs": "gcs", "gcs": "gcs"}

Result = TypeVar("Result")


@dataclass(frozen=True)
class SharedFiles:
    """The files of a workspace at a URL, through fsspec (``s3://``, ``gs://``, ...).

    Everything is read and written in a copy on this machine, which is filled as files are needed:
    of the processes of a machine, one fetches a file and the others wait for it.

    Attributes:
        url: Where the workspace lies.
        copy: The folder of this machine's copies.
    """

    url: str
    copy: Path

    @classmethod
    def at(cls, url: str) -> SharedFiles:
        """The files at ``url``, copied below ``MGSTUDY_CACHE`` or ``~/.cache/mgstudy``."""
        url = url.rstrip("/")
        cache = Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "mgstudy")
        return cls(url, cache.absolute() / "workspaces" / fingerprint({"url": url})[:16])

    def url_of(self, path: Path) -> str:
        """The URL of the file or folder whose copy is at ``path``."""
        return posixpath.join(self.url, path.relative_to(self.copy).as_posix())

    def fetch(self, path: Path, anew: bool = False) -> None:
        """Fill the copy at ``path``, if the workspace has such a file.

        Args:
            path: The copy.
            anew: Whether a copy that is there may be out of date. Files named by their content
                never are.

        Raises:
            InputError: If what reads such URLs is not installed.
            MgstudyError: If the workspace cannot be reached.
        """
        if path.exists() and not anew:
            return
        with locked(path):
            if not path.exists() or anew:
                self._reach(lambda files, remote: _download(files, remote, path), path)

    def publish(self, path: Path, anew: bool = False) -> None:
        """Put the copy at ``path`` into the workspace.

        Args:
            path: The copy.
            anew: Whether to replace a file that is there. Files named by their content need not be.

        Raises:
            InputError: If what writes such URLs is not installed.
            MgstudyError: If the workspace cannot be reached or written to.
        """

        def upload(files: Any, remote: str) -> None:
            if anew or not files.exists(remote):
                files.makedirs(posixpath.dirname(remote), exist_ok=True)
                files.put_file(str(path), remote)

        self._reach(upload, path)

    def names(self, folder: Path) -> list[str]:
        """Names of what lies in the folder whose copy is at ``folder``."""

        def listed(files: Any, remote: str) -> list[str]:
            try:
                entries = files.ls(remote, detail=False)
            except FileNotFoundError:
                return []
            return sorted(posixpath.basename(str(entry).rstrip("/")) for entry in entries)

        return self._reach(listed, folder)

    def _reach(self, act: Callable[[Any, str], Result], path: Path) -> Result:
        url = self.url_of(path)
        shown = redacted(url)
        try:
            files, remote = url_to_fs(url)
            # Another machine may have written since this process last looked.
            files.invalidate_cache()
            return act(files, str(remote))
        except MgstudyError:
            raise
        except (ImportError, ValueError) as error:
            extra = _EXTRAS.get(url.partition("://")[0])
            advice = f"; pip install 'mgstudy[{extra}]'" if extra else ""
            raise InputError(f"{shown}: {first_line(error)}{advice}") from error
        except Exception as error:  # Every file system has errors of its own.
            raise MgstudyError(f"{shown}: cannot be reached: {first_line(error)}") from error


def _download(files: Any, remote: str, path: Path) -> None:
    if not files.exists(remote):
        # A copy of what is no longer there would live on for this machine alone.
        path.unlink(missing_ok=True)
        return
    with files.open(remote, "rb") as source, written_whole(path) as target:
        while block := source.read(_BLOCK):
            target.write(block)
