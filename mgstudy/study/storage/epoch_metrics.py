"""What every epoch measured, in a file of the study's folder.

Optuna keeps of an epoch the one number that selects. Everything else that was measured in it lies
here, one JSON object a line, whatever becomes of checkpoints and of MLflow.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from mgstudy.errors import MgstudyError
from mgstudy.files import cut_half_line, refuse_lost_link, refuse_what_is_no_file

logger = logging.getLogger(__name__)

FORMAT = 1
_HEAD = {"mgstudy_epoch_metrics": FORMAT}


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
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._last: dict[str, tuple[int, int]] | None = None
        self._is_full = False

    def add(self, trial: str, step: int, metrics: Mapping[str, float]) -> None:
        """Keep what an epoch measured, unless it is there from before an interruption.

        A disk that takes nothing more is warned of once: the study goes on without these numbers.

        Args:
            trial: The trial's key.
            step: The epoch, counted from 1.
            metrics: By MLflow's metric names.

        Raises:
            MgstudyError: If the file is damaged, or of another format.
        """
        try:
            if self._last is None:
                self._last = self._begin()
            last, earlier = self._last.get(trial, (0, 0))
            if step <= last:
                return
            # A clock that is set back must not let an epoch end before the one before it.
            at = max(int(time.time() * 1000), earlier)
            self._append({"trial": trial, "step": step, "at": at, "metrics": dict(metrics)})
            self._last[trial] = step, at
        except OSError as error:
            if not self._is_full:
                self._is_full = True
                logger.warning("%s: %s; MLflow misses records", self.path, error.strerror)

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

    def _begin(self) -> dict[str, tuple[int, int]]:
        """Make ready to append; the last step of every trial that is there, and when it was."""
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
