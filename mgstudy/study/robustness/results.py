"""The measurements of a study's models: a file that only grows, a line for each."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mgstudy.errors import MgstudyError
from mgstudy.files import cut_half_line, written_whole
from mgstudy.study.storage.layout import StudyFolder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RobustnessResults:
    """Measurements on disk; every one is there as soon as it was made.

    Attributes:
        folder: The study's folder.
    """

    folder: StudyFolder

    @property
    def path(self) -> Path:
        """Where tables, plots and the measurements themselves are."""
        return self.folder.robustness

    @property
    def log(self) -> Path:
        """The measurements, a JSON object in each line."""
        return self.path / "measurements.jsonl"

    def read(self) -> dict[str, list[dict[str, Any]]]:
        """All measurements, those of other machines included, by the key of the task that made
        them. Of what two have measured, the first that was published counts.

        A line that a killed process left unfinished is none.

        Raises:
            MgstudyError: If a whole line cannot be read, or the workspace cannot be reached.
        """
        found: dict[str, list[dict[str, Any]]] = {}
        lines = self.folder.lines(self.log).split(b"\n")
        for number, line in enumerate(lines[:-1], start=1):
            try:
                content = json.loads(line)
                found.setdefault(content["task"], content["measurements"])
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise MgstudyError(
                    f"{self.log}:{number}: cannot be read ({error}); delete the line, and what "
                    "it held is measured again"
                ) from error
        return found

    def append(self, task: str, measurements: list[dict[str, Any]]) -> None:
        """Add what a task has found; it is on disk when this returns.

        Raises:
            MgstudyError: If the disk is full or cannot be written to.
        """
        line = json.dumps({"task": task, "measurements": measurements}, allow_nan=True) + "\n"
        try:
            with self.log.open("ab") as file:
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise MgstudyError(f"{self.log}: cannot be written: {error.strerror}") from error

    def publish(self) -> None:
        """Put the measurements where the workspace is kept, when it lies at a URL, beside those
        that are there. One that does not take them is warned of."""
        try:
            self._gather()
        except MgstudyError as error:
            logger.warning("%s; what was measured is on this machine alone", error)
        else:
            if self.log.exists():
                self.folder.publish(self.log)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Be the only process on this machine that measures the study, and publish what it has
        measured, however that ends.

        Raises:
            MgstudyError: If another process does, or the folder cannot be written to or the
                workspace be reached.
        """
        lock = FileLock(self.path / ".lock")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout:
            raise MgstudyError(
                f"the robustness of study {self.folder.path.name!r} is already being measured by "
                "another process"
            ) from None
        except OSError as error:
            raise MgstudyError(f"{self.path}: cannot be written to: {error.strerror}") from error
        try:
            if self.log.exists():
                cut_half_line(self.log)
            self._gather()
            try:
                yield
            finally:
                self.publish()
        finally:
            lock.release()

    def _gather(self) -> None:
        """Write down here what other machines have published."""
        if self.folder.workspace is not None and (lines := self.folder.lines(self.log)):
            with written_whole(self.log) as file:
                file.write(lines)
