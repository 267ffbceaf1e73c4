"""When a launch is to end, and what of a study still fits before it."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

from mgstudy.errors import InputError
from mgstudy.study.search.state import CellState
from mgstudy.study.search.trials import RecordedTrial

_CLOSING_SHARE, _CLOSING_SECONDS = 0.1, 60.0
"""Of the time, what stays for the end: trials leave their states, MLflow is told, Ray stops."""
_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_PART = r"(\d+(?:\.\d+)?)([dhms])"


@dataclass(frozen=True)
class Deadline:
    """When a launch is to end, by the monotonic clock.

    Attributes:
        at: When nothing more may run, which leaves time to end; infinite without a limit.
    """

    at: float = math.inf

    @classmethod
    def after(cls, limit: str | float | None) -> Deadline:
        """A time from now.

        Args:
            limit: Seconds, or such as ``90m`` and ``1h30m``; ``None`` for no limit.

        Raises:
            InputError: If it is no time, or none that anything can be done in.
        """
        if limit is None:
            return cls()
        seconds = _seconds(limit) if isinstance(limit, str) else float(limit)
        if not (0 < seconds < math.inf):
            raise InputError(f"{limit!r} is no time to run for, expected such as 90m, 1h30m or 45s")
        return cls(time.monotonic() + seconds - min(_CLOSING_SECONDS, _CLOSING_SHARE * seconds))

    @property
    def is_set(self) -> bool:
        """Whether there is one."""
        return math.isfinite(self.at)

    def allows(self, seconds: float | None = None) -> bool:
        """Whether something that begins now ends in time.

        Args:
            seconds: How long it takes; ``None`` where nobody knows.
        """
        return time.monotonic() + (seconds or 0.0) < self.at


NO_DEADLINE = Deadline()


def seconds_of_next(cell: CellState, cells: Sequence[CellState]) -> float | None:
    """How long the next trial of a cell may take: as long as the longest that has run to its end.

    The longest and not the mean: of what is to end in time, half would not. One that goes on from
    its checkpoint takes the share of its epochs that is left. A cell without such a trial takes
    the longest of its model on its dataset, else of any on the dataset.

    Args:
        cell: The cell.
        cells: All of the study.

    Returns:
        ``None`` where none has run to its end: the first is begun and leaves its state at the
        deadline, from which the next launch goes on.
    """
    if cell.longest is not None:
        return _seconds_left(cell, cell.longest)
    for factors in (("dataset", "model"), ("dataset",)):
        alike = (c for c in cells if all(c.levels[f] == cell.levels[f] for f in factors))
        whole = [c.longest for c in alike if c.longest is not None]
        if whole:
            return _seconds_left(cell, max(whole, key=lambda trial: trial.seconds))
    return None


def _seconds_left(cell: CellState, longest: RecordedTrial) -> float:
    begun = next((t for t in (*cell.confirmations, *cell.trials) if t.stale), None)
    epochs = longest.outcome.get("epochs", 0)
    if begun is None or not epochs:
        return longest.seconds
    return longest.seconds * max(0.0, 1 - max(begun.values, default=0) / float(epochs))


def _seconds(words: str) -> float:
    if re.fullmatch(f"(?:{_PART})+", words) is None:
        return math.nan
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(_PART, words))
