"""Which cell another is compared with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

from mgstudy.errors import InputError, suggestion
from mgstudy.study.results.summary import StudySummary

DEFAULT_BASELINE = {"gradient": "plain"}


class HasLevels(Protocol):
    """A cell, or what it has come to."""

    @property
    def levels(self) -> Mapping[str, str]:
        """Factor to the label of its level."""


AnyCell = TypeVar("AnyCell", bound=HasLevels)


def is_baseline(cell: HasLevels, baseline: Mapping[str, str]) -> bool:
    """Whether a cell has the baseline's levels."""
    return all(cell.levels.get(factor) == level for factor, level in baseline.items())


def baseline_levels(
    levels: Mapping[str, str], baseline: Mapping[str, str]
) -> dict[str, str] | None:
    """The levels of what a cell with ``levels`` is compared with: the same but for the baseline's;
    ``None`` if it is a baseline itself."""
    wanted = {**levels, **baseline}
    return None if wanted == dict(levels) else wanted


def baseline_of(
    cell: AnyCell, candidates: Iterable[AnyCell], baseline: Mapping[str, str]
) -> AnyCell | None:
    """The candidate that differs from the cell only in having the baseline's levels.

    Args:
        cell: The cell.
        candidates: What it may be compared with.
        baseline: Levels that make a cell a baseline.

    Returns:
        ``None`` if the cell is a baseline itself, or there is none.
    """
    wanted = baseline_levels(cell.levels, baseline)
    return next((found for found in candidates if dict(found.levels) == wanted), None)


def parse_baseline(text: str, summaries: Sequence[StudySummary]) -> dict[str, str]:
    """Read ``factor=level`` pairs separated by commas.

    Raises:
        InputError: For a factor or level that the studies do not have.
    """
    baseline: dict[str, str] = {}
    cells = [cell for summary in summaries for cell in summary.cells]
    levels = {name: {cell.levels[name] for cell in cells} for name in cells[0].levels}
    for pair in text.split(","):
        factor, separator, level = (part.strip() for part in pair.partition("="))
        if not separator or factor not in levels:
            raise InputError(
                f"--baseline {text}: expected factor=level; {suggestion(factor, levels)}"
            )
        if level not in levels[factor]:
            raise InputError(
                f"--baseline {text}: {factor} has no level {level!r}; "
                f"{suggestion(level, levels[factor])}"
            )
        baseline[factor] = level
    return baseline
