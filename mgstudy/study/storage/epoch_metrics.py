"""What every epoch measured, in a file of the study's folder.

Optuna keeps of an epoch the one number that selects. Everything else that was measured in it lies
here, one JSON object a line, whatever becomes of checkpoints and of MLflow.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mgstudy.errors import MgstudyError
from mgstudy.files import (
    content_of,
    cut_half_line,
    locked,
    refuse_lost_link,
    refuse_what_is_no_file,
    written_whole,
)

if TYPE_CHECKING:
    from mgstudy.study.storage.layout import StudyFolder

logger = logging.getLogger(__name__)

FORMAT = 1
_HEAD = {"mgstudy_epoch_metrics": FORMAT}
_SECONDS_UNPUBLISHED = 60.0
_PAUSES = 20
"""How many times as long as publishing took nothing is published then: the file is put there
whole."""


def recorded_name(group: str, metric: str) -> str:
    """A metric's name in MLflow, which does not allow ``@``: for example ``best/recall_at_20``."""
    return f"{group}/{metric.replace('@', '_at_')}"


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch of a trial measured.

    Attributes:
        trial: The trial's key.
        step: The epoch, counted from 1.
        at: When it was reported, in ms since 1970.
        metrics: By MLflow's metric names.

    Raises:
        TypeError: If it is something else, as in a damaged file.
    """

    trial: str
    step: int
    at: int
    metrics: Mapping[str, float]

    def __post_init__(self) -> None:
        if not (
            isinstance(self.trial, str)
            and isinstance(self.step, int)
            and isinstance(self.at, int)
            and isinstance(self.metrics, Mapping)
            and all(isinstance(value, int | float) for value in self.metrics.values())
        ):
            raise TypeError(f"{self!r:.200} is no epoch")


class EpochMetrics:
    """Appends epochs to a file, and reads them back. Whoever holds the study's lease appends.

    Args:
        path: The file; it may be missing.
        publish: Puts it where other machines read it.
    """

    def __init__(self, path: Path, publish: Callable[[Path], None] = lambda path: None) -> None:
        self.path = path
        self._publish = publish
        self._published_next = time.monotonic() + _SECONDS_UNPUBLISHED
        self._last: dict[str, tuple[int, int]] | None = None
        self._is_full = False

    @classmethod
    def of(cls, folder: StudyFolder) -> EpochMetrics:
        """Those of a study. In a workspace at a URL they are brought up to what was published
        there, unless this machine has gone on from that.

        Raises:
            MgstudyError: If the workspace cannot be reached, or the disk be written to.
        """
        path = folder.epoch_metrics
        published = folder.published(path)
        if published is not None and not (content_of(path) or b"").startswith(published):
            with locked(path), written_whole(path) as file:
                file.write(published)
        return cls(path, folder.publish)

    def begin(self) -> None:
        """Make ready to add, unless that was done.

        Raises:
            MgstudyError: If the file is damaged, or of another format.
        """
        try:
            self._last_steps()
        except OSError as error:
            self._warn_once(error)

    def publish(self) -> None:
        """Put all of it where other machines read it."""
        if self.path.exists():
            began = time.monotonic()
            self._publish(self.path)
            took = time.monotonic() - began
            self._published_next = began + took + max(_SECONDS_UNPUBLISHED, _PAUSES * took)

    def add(self, trial: str, step: int, metrics: Mapping[str, float]) -> None:
        """Keep what an epoch measured, unless it is there from before an interruption; now and then
        it is published.

        A disk that takes nothing more is warned of once: the study goes on without these numbers.

        Args:
            trial: The trial's key.
            step: The epoch, counted from 1.
            metrics: By MLflow's metric names.

        Raises:
            MgstudyError: If the file is damaged, or of another format.
        """
        try:
            steps = self._last_steps()
            if self._is_full:
                cut_half_line(self.path)  # Of what it did not take whole.
            last, earlier = steps.get(trial, (0, 0))
            if step <= last:
                return
            # A clock that is set back must not let an epoch end before the one before it.
            at = max(int(time.time() * 1000), earlier)
            self._append({"trial": trial, "step": step, "at": at, "metrics": dict(metrics)})
            steps[trial] = step, at
            self._is_full = False
        except OSError as error:
            self._warn_once(error)
        if time.monotonic() > self._published_next:
            self.publish()

    def put(self, epochs: Iterable[EpochRecord]) -> None:
        """Write all of a file that is not there yet.

        Raises:
            OSError: If it cannot be written.
        """
        with self.path.open("wb") as file:
            for line in (_HEAD, *map(asdict, epochs)):
                file.write(_line(line))

    def read(self, offset: int = 0) -> Iterator[tuple[EpochRecord, int]]:
        """Every epoch from a place on, each with the place after it, up to now.

        Args:
            offset: 0, or a place that was given before.

        Raises:
            MgstudyError: If the file cannot be read, is damaged, or of another format.
        """
        try:
            refuse_what_is_no_file(self.path)
            with self.path.open("rb") as file:
                file.seek(offset)
                for line in file:
                    if not line.endswith(b"\n"):
                        return  # Still being written.
                    content = json.loads(line)
                    if offset == 0:
                        self._refuse_another_format(content)
                    else:
                        yield EpochRecord(**content), offset + len(line)
                    offset += len(line)
        except FileNotFoundError as error:
            refuse_lost_link(self.path, error)
            return
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise MgstudyError(f"{self.path}: cannot be read: {error}") from error

    def _last_steps(self) -> dict[str, tuple[int, int]]:
        """The last step of every trial that is there, and when it was."""
        if self._last is None:
            self._last = self._begin()
        return self._last

    def _warn_once(self, error: OSError) -> None:
        if not self._is_full:
            logger.warning("%s: %s; MLflow misses records", self.path, error.strerror)
        self._is_full = True

    def _begin(self) -> dict[str, tuple[int, int]]:
        """Make ready to append; what ``_last_steps`` gives."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            cut_half_line(self.path)
        if not self.path.exists() or self.path.stat().st_size == 0:
            self._append(_HEAD)
        return {epoch.trial: (epoch.step, epoch.at) for epoch, _ in self.read()}

    def _append(self, content: Mapping[str, object]) -> None:
        line = _line(content)
        # Opened every time: a descriptor kept for days is one that outlives a restored disk.
        with self.path.open("ab") as file:
            file.write(line)

    def _refuse_another_format(self, head: object) -> None:
        if head != _HEAD:
            raise MgstudyError(
                f"{self.path}: is not of format {FORMAT}, which this version of mgstudy reads; use "
                "the version that wrote it"
            )


def _line(content: Mapping[str, object]) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode() + b"\n"
