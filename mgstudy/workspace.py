"""Where mgstudy keeps what it makes: a folder, or a URL that machines reach and copy from."""

from __future__ import annotations

import os
import posixpath
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from fsspec import get_filesystem_class
from fsspec.core import url_to_fs

from mgstudy.errors import InputError, MgstudyError
from mgstudy.files import absolute, is_at, listed, locked, written_whole
from mgstudy.fingerprint import fingerprint
from mgstudy.urls import first_line, redacted

HOME_VARIABLE = "MGSTUDY_HOME"
CACHE_VARIABLE = "MGSTUDY_CACHE"
MANIFEST = "manifest.json"
"""In a dataset's folder: what it is, and which tables are its."""
_BLOCK = 1 << 22
_NOT_OF_URLS = re.compile(r"%[0-9A-Fa-f]{2}|[?$\ud800-\udfff]")
_EXTRAS = {"s3": "s3", "gs": "gcs", "gcs": "gcs"}

Result = TypeVar("Result")


@dataclass(frozen=True)
class Workspace:
    """The paths of one workspace; nothing is created before it is needed.

    Attributes:
        home: The folder a person works in; MLflow's store lies here, in the open.
        shared: The workspace that ``home`` is this machine's copy of, when it lies at a URL.
    """

    home: Path
    shared: SharedFiles | None = None

    @classmethod
    def resolve(cls, home: Path | str | None = None) -> Workspace:
        """The workspace at ``home``, else at ``MGSTUDY_HOME``, else in the current directory.

        Args:
            home: A folder, or a URL such as ``s3://bucket/studies``.

        Raises:
            InputError: If that is a file, or no workspace can be called so; or if nothing here
                knows such URLs.
        """
        chosen = str(home or os.environ.get(HOME_VARIABLE) or ".")
        if "://" in chosen:
            shared = SharedFiles.at(chosen)
            return cls(shared.copy, shared)
        folder = absolute(chosen)
        if found := _NOT_OF_URLS.search(str(folder)):
            raise InputError(
                f"{folder}: {found[0]!r} means something else, or nothing, in the URLs of the "
                "databases that would lie there; give the workspace's folder another name"
            )
        try:
            # Of a name that can be none, `exists` says so up to Python 3.13 only.
            mode = folder.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            return cls(folder)
        except (OSError, ValueError) as error:  # Too long, or a NUL character.
            raise InputError(f"{folder}: cannot be a workspace: {first_line(error)}") from error
        if not stat.S_ISDIR(mode):
            raise InputError(f"{folder}: is a file, expected the folder of a workspace")
        return cls(folder)

    @property
    def place(self) -> str:
        """Where it lies, for people."""
        return str(self.home) if self.shared is None else redacted(self.shared.url)

    def fetch(self, path: Path, anew: bool = False) -> None:
        """See ``SharedFiles.fetch``; a workspace in a folder has its files where they are."""
        if self.shared is not None:
            self.shared.fetch(path, anew)

    def publish(self, path: Path, anew: bool = False) -> None:
        """See ``SharedFiles.publish``."""
        if self.shared is not None:
            self.shared.publish(path, anew)

    def published(self, path: Path) -> bytes | None:
        """See ``SharedFiles.content``; a workspace in a folder publishes nothing."""
        return None if self.shared is None else self.shared.content(path)

    def names(self, folder: Path) -> list[str]:
        """Names of what lies in a folder of the workspace, sorted.

        Raises:
            MgstudyError: If it cannot be listed.
        """
        if self.shared is not None:
            return self.shared.names(folder)
        return [path.name for path in listed(folder)]

    @property
    def state(self) -> Path:
        """The folder of everything mgstudy keeps for itself."""
        return self.home / ".mgstudy"

    @property
    def mlflow(self) -> str:
        """URL of MLflow's store, where neither study file nor environment names another; `mlflow
        ui` typed in the workspace opens it by itself."""
        return f"sqlite:///{self.home / 'mlflow.db'}"

    @property
    def datasets(self) -> Path:
        """Prepared datasets, a folder with a manifest for each."""
        return self.state / "datasets"

    @property
    def tables(self) -> Path:
        """Content-addressed Parquet tables that the manifests refer to."""
        return self.state / "tables"

    @property
    def derived(self) -> Path:
        """Arrays computed from datasets, see ``DerivedArrays``."""
        return self.state / "derived"

    @property
    def downloads(self) -> Path:
        """Raw files that were fetched, see ``Downloads``."""
        return self.state / "downloads"

    @property
    def studies(self) -> Path:
        """Studies, a folder each."""
        return self.state / "studies"

    @property
    def unpacked(self) -> Path:
        """What an archive is unpacked beside, hidden and under its lock: none lies there itself."""
        return self.state / "import"

    def manifest(self, dataset: str) -> Path:
        """The manifest of a dataset."""
        return self.datasets / dataset / MANIFEST


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
        """The files at ``url``, copied below ``MGSTUDY_CACHE`` or ``~/.cache/mgstudy``.

        Raises:
            InputError: If nothing that is installed knows such URLs, or nobody's home is known.
        """
        url = url.rstrip("/")
        with _said_of_protocol(url):
            get_filesystem_class(url.partition("://")[0])
        cache = absolute(os.environ.get(CACHE_VARIABLE) or "~/.cache/mgstudy")
        return cls(url, cache / "workspaces" / fingerprint({"url": url})[:16])

    def url_of(self, path: Path) -> str:
        """The URL of the file or folder whose copy is at ``path``."""
        return posixpath.join(self.url, path.relative_to(self.copy).as_posix())

    def fetch(self, path: Path, anew: bool = False) -> None:
        """Fill the copy at ``path``, if the workspace has such a file.

        Args:
            path: The copy.
            anew: Whether a copy that is there may be out of date, or of what was deleted since, as
                that of a manifest. Files named by their content never are.

        Raises:
            InputError: If what reads such URLs is not installed.
            MgstudyError: If the workspace cannot be reached.
        """
        if path.exists() and not anew:
            return
        with locked(path):
            if not path.exists() or anew:
                self._reach(lambda files, remote: _download(files, remote, path), path)

    def content(self, path: Path) -> bytes | None:
        """What the workspace has of the file whose copy is at ``path``; ``None`` if it has none.
        The copy stays as it is: it may hold what was not published yet.

        Raises:
            InputError: If what reads such URLs is not installed.
            MgstudyError: If the workspace cannot be reached.
        """

        def read(files: Any, remote: str) -> bytes | None:
            return bytes(files.cat_file(remote)) if is_at(files, remote) else None

        return self._reach(read, path)

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
            if anew or not is_at(files, remote):
                files.makedirs(posixpath.dirname(remote), exist_ok=True)
                files.put_file(str(path), remote)

        self._reach(upload, path)

    def remove(self, folder: Path, last: Path) -> None:
        """Delete the folder whose copy is at ``folder``.

        Args:
            folder: The copy.
            last: The copy of the file in it that stays until all else is gone.

        Raises:
            MgstudyError: If the workspace cannot be reached or written to.
        """

        def delete(files: Any, remote: str) -> None:
            for path in files.ls(remote, detail=False):
                if posixpath.basename(str(path).rstrip("/")) != last.name:
                    files.rm(path, recursive=True)
            files.rm(remote, recursive=True)

        self._reach(delete, folder)

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
            with _said_of_protocol(url):
                files, remote = url_to_fs(url)
                # Another machine may have written since this process last looked.
                files.invalidate_cache()
                return act(files, str(remote))
        except MgstudyError:
            raise
        except Exception as error:  # Every file system has errors of its own.
            raise MgstudyError(f"{shown}: cannot be reached: {first_line(error)}") from error


@contextmanager
def _said_of_protocol(url: str) -> Iterator[None]:
    try:
        yield
    except (ImportError, ValueError) as error:
        extra = _EXTRAS.get(url.partition("://")[0])
        advice = f"; pip install 'mgstudy[{extra}]'" if extra else ""
        raise InputError(f"{redacted(url)}: {first_line(error)}{advice}") from error


def _download(files: Any, remote: str, path: Path) -> None:
    if not is_at(files, remote):
        # A copy of what is no longer there would live on for this machine alone.
        path.unlink(missing_ok=True)
        return
    with files.open(remote, "rb") as source, written_whole(path) as target:
        while block := source.read(_BLOCK):
            target.write(block)
