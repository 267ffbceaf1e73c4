"""The measurements of a study's models: a file that only grows, a line for each."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mgstudy.errors import MgstudyError
from mgstudy.files import content_of, cut_half_line
from mgstudy.study.storage.layout import StudyFolder


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
        """All measurements, by the key of the task that made them.

        A line that a killed process left unfinished is none.

        Raises:
            MgstudyError: If a whole line cannot be read.
        """
        if self.folder.workspace is not None:
            self.folder.workspace.fetch(self.log)
        found: dict[str, list[dict[str, Any]]] = {}
        lines = (content_of(self.log) or b"").split(b"\n")
        for number, line in enumerate(lines[:-1], start=1):
            try:
                content = json.loads(line)
                found[content["task"]] = content["measurements"]
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
        """Put the measurements where the workspace is kept, when it lies at a URL."""
        if self.folder.workspace is not None and self.log.exists():
            self.folder.workspace.publish(self.log, anew=True)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Be the only process that measures the study.

        Raises:
            MgstudyError: If another process does, or the folder cannot be written to.
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
            yield
        finally:
            lock.release()
