"""A study's folder in the workspace, and where its files are."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from mgstudy.config.factors import name_fault
from mgstudy.config.study import StudyConfig
from mgstudy.errors import InputError, MgstudyError, suggestion
from mgstudy.files import content_of, is_there
from mgstudy.study.storage.checkpoints import CheckpointFolder
from mgstudy.urls import expand_url, sqlite_url
from mgstudy.workspace import Workspace

logger = logging.getLogger(__name__)

MANIFEST = "study.json"
"""In a study's folder: what it is, and which tables are its."""
LOCK = "driver.lock"
"""In a study's folder: held by who drives the study."""


@dataclass(frozen=True)
class StudyFolder:
    """Paths of one study,

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
            MgstudyError: If that cannot be looked up.
        """
        folder = cls.of(workspace, name)
        if not name_fault(name) and folder.is_launched():
            return folder
        known = suggestion(name, cls.names(workspace))
        raise InputError(f"no study {name!r} in workspace {workspace.place}; {known}")

    @classmethod
    def names(cls, workspace: Workspace) -> list[str]:
        """Names of the studies of a workspace that were launched, as far as that can be told,
        sorted.

        Raises:
            MgstudyError: If the workspace cannot be listed.
        """
        found = []
        for name in workspace.names(workspace.studies):
            with suppress(MgstudyError):
                if not name_fault(name) and cls.of(workspace, name).is_launched():
                    found.append(name)
        return found

    @classmethod
    def unused(cls, workspace: Workspace, name: str, advice: str) -> StudyFolder:
        """The folder of a study that is to be, which is not there yet.

        Args:
            workspace: The workspace.
            name: How the study is to be called.
            advice: What to do where that name is taken.

        Raises:
            InputError: If no study can have this name, or one has it already.
            MgstudyError: If that cannot be looked up.
        """
        if fault := name_fault(name):
            raise InputError(f"a study's name: {fault}")
        folder = cls.of(workspace, name)
        if name in workspace.names(workspace.studies):
            found = f"there is a study {name!r} already"
            if not folder.is_launched():
                found = f"a study {name!r} is being begun, or was when that was cut off,"
            raise InputError(f"{found} in workspace {workspace.place}; {advice}")
        return folder

    def is_launched(self) -> bool:
        """Whether there is such a study.

        Raises:
            MgstudyError: If that cannot be looked up.
        """
        if self.workspace is not None:
            self.workspace.fetch(self.manifest, anew=True)
        return is_there(self.manifest)

    @contextmanager
    def kept_if_launched(self, is_new: bool) -> Iterator[None]:
        """Leave no folder behind where a launch that makes one is refused before it has written
        the manifest.

        Args:
            is_new: Whether the folder was not there before. It is of another launch by now where
                that holds it.
        """
        try:
            yield
        finally:
            if is_new and not self.manifest.exists():
                with suppress(OSError, Timeout), FileLock(self.path / LOCK, blocking=False):
                    shutil.rmtree(self.path, ignore_errors=True)

    def content(self, path: Path) -> bytes | None:
        """What is in one of its files, as it was published where the workspace lies at a URL and
        has it; ``None`` where there is none.

        Raises:
            MgstudyError: If that cannot be looked up.
        """
        published = self.published(path)
        return content_of(path) if published is None else published

    def lines(self, path: Path) -> bytes:
        """The whole lines of a file to which several machines add: those that were published, then
        those that are only here.

        Raises:
            MgstudyError: If that cannot be looked up.
        """
        published, here = (
            (content or b"").split(b"\n")[:-1]
            for content in (self.published(path), content_of(path))
        )
        known = frozenset(published)
        whole = (*published, *(line for line in here if line not in known))
        return b"".join(line + b"\n" for line in whole)

    def publish(self, path: Path) -> None:
        """Put one of its files where the workspace is kept, when that lies at a URL. One that does
        not take it is warned of: what is written is here, and the study goes on."""
        if self.workspace is None:
            return
        try:
            self.workspace.publish(path, anew=True)
        except MgstudyError as error:
            logger.warning("%s; until it is written again, it is on this machine alone", error)

    def published(self, path: Path) -> bytes | None:
        """What was published of one of its files; ``None`` of a workspace in a folder.

        Raises:
            MgstudyError: If the workspace cannot be reached.
        """
        return None if self.workspace is None else self.workspace.published(path)

    @property
    def manifest(self) -> Path:
        """The resolved study file and where its records are."""
        return self.path / MANIFEST

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
        return CheckpointFolder(str(self.checkpoints.absolute()))

    @property
    def popularity(self) -> Path:
        """Scores of ranking by popularity alone, for scale."""
        return self.path / "popularity.json"

    @property
    def epoch_metrics(self) -> Path:
        """What every epoch measured, see ``EpochMetrics``."""
        return self.path / "metrics.jsonl"

    @property
    def own_storage(self) -> Path:
        """The Optuna storage, unless the study file gives another one."""
        return self.path / "optuna.db"

    @property
    def robustness(self) -> Path:
        """What was measured of the trained models' robustness, with its tables and plots."""
        return self.path / "robustness"

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
        return config.storage or sqlite_url(self.own_storage)

    def database(self, config: StudyConfig) -> str:
        """The Optuna storage as it is opened: with the variables in its URL filled in.

        Raises:
            InputError: As ``storage_url``, or if a variable is not set.
        """
        return expand_url(self.storage_url(config))
