"""A study's folder in the workspace: what it was asked, who drives it, and its files."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from mgstudy.config.study import StudyConfig
from mgstudy.errors import InputError, MgstudyError, suggestion
from mgstudy.study.storage.checkpoints import CheckpointFolder
from mgstudy.study.storage.heartbeat import Driver, introduce, read_driver
from mgstudy.study.storage.optuna_storage import sqlite_url
from mgstudy.workspace import Workspace

_LONGEST_LOOK_SECONDS = 1


@dataclass(frozen=True)
class StudyFolder:
    """Paths of one study, and the lock that keeps it to one driver.

    Attributes:
        path: The folder.
        workspace: The workspace it is in, when that lies at a URL.
    """

    path: Path
    workspace: Workspace | None = None

    @classmethod
    def of(cls, workspace: Workspace, name: str) -> StudyFolder:
        """The folder of a study, whether it exists or not."""
        return cls(workspace.studies / name, workspace if workspace.shared else None)

    @classmethod
    def existing(cls, workspace: Workspace, name: str) -> StudyFolder:
        """The folder of a study that was launched.

        Raises:
            InputError: If there is none of that name.
        """
        folder = cls.of(workspace, name)
        workspace.fetch(folder.manifest, anew=True)
        if not folder.manifest.exists():
            raise InputError(
                f"no study {name!r} in workspace {workspace.place}; "
                f"{suggestion(name, workspace.names(workspace.studies))}"
            )
        return folder

    @property
    def manifest(self) -> Path:
        """The resolved study file and where its records are."""
        return self.path / "study.json"

    @property
    def checkpoints(self) -> Path:
        """Best weights of completed trials, and test scores of confirmations, by trial key."""
        return self.path / "checkpoints"

    @property
    def trial_files(self) -> CheckpointFolder:
        """The same folder as trials write to it, from whatever machine they run on."""
        shared = self.workspace.shared if self.workspace is not None else None
        if shared is not None:
            return CheckpointFolder(shared.url_of(self.checkpoints))
        return CheckpointFolder(str(self.checkpoints.resolve()))

    @property
    def popularity(self) -> Path:
        """Scores of ranking by popularity alone, for scale."""
        return self.path / "popularity.json"

    @property
    def heartbeat(self) -> Path:
        """Who drives the study, and when it last moved."""
        return self.path / "driver.json"

    @property
    def epoch_metrics(self) -> Path:
        """What every epoch measured, see ``EpochMetrics``."""
        return self.path / "metrics.jsonl"

    @property
    def ray(self) -> Path:
        """Ray Tune's own files; nothing reads them back."""
        return self.path / "ray"

    def storage_url(self, config: StudyConfig) -> str:
        """The Optuna storage as the study file gives it, or a SQLite file in this folder.

        Raises:
            InputError: If the workspace lies at a URL, where no SQLite file can be, and the study
                file gives no storage.
        """
        if config.storage is None and self.workspace is not None:
            raise InputError(
                f"a study in {self.workspace.place} needs a database that every machine reaches: "
                "write `storage: postgresql://USER:${DATABASE_PASSWORD}@HOST/DATABASE`"
            )
        return config.storage or sqlite_url(self.path / "optuna.db")

    @contextmanager
    def driver_lock(self) -> Iterator[None]:
        """Hold the study while driving it; the system releases it when the process dies.

        Raises:
            MgstudyError: If another process drives the study, naming it, or the folder cannot be
                written to.
        """
        lock = FileLock(self.path / "driver.lock")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            # Whoever asks for the study's state holds the lock for a moment.
            lock.acquire(timeout=_LONGEST_LOOK_SECONDS)
        except Timeout:
            holder = read_driver(self.heartbeat, is_alive=True).name or "another process"
            raise MgstudyError(
                f"study {self.path.name!r} is already being driven by {holder}; "
                f"follow it with `mgstudy status {self.path.name}`, or stop that process first"
            ) from None
        except OSError as error:
            raise MgstudyError(f"{self.path}: cannot be written to: {error.strerror}") from error
        try:
            introduce(self.heartbeat)
            yield
        finally:
            self.heartbeat.unlink(missing_ok=True)
            lock.release()

    def is_driven(self) -> bool:
        """Whether a live process drives the study now."""
        if not (self.path / "driver.lock").exists():
            return False
        lock = FileLock(self.path / "driver.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        except OSError:
            return _is_locked(self.path / "driver.lock")
        lock.release()
        return False

    def driver(self, is_held: bool = False) -> Driver:
        """The process that drives the study, or did last.

        Args:
            is_held: Whether its database says that some process does.
        """
        return read_driver(self.heartbeat, self.is_driven() or is_held)


def _is_locked(path: Path) -> bool:
    """Whether a process holds a lock file that we may only read, if that."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
