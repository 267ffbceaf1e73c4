"""Cells with the cells that they are compared with, and what both were scored."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from mgstudy.errors import InputError, suggestion
from mgstudy.study.results.summary import StudySummary
from mgstudy.study.search.state import CellState, RecordedTrial

DEFAULT_BASELINE = {"gradient": "plain"}

Split = Literal["test", "validation"]


class HasLevels(Protocol):
    """A cell, or what it has come to."""

    @property
    def levels(self) -> Mapping[str, str]:
        """Factor to the label of its level."""


AnyCell = TypeVar("AnyCell", bound=HasLevels)


def is_baseline(cell: HasLevels, baseline: Mapping[str, str]) -> bool:
    """Whether a cell has the baseline's levels."""
    return all(cell.levels.get(factor) == level for factor, level in baseline.items())


def baseline_of(
    cell: HasLevels, candidates: Iterable[AnyCell], baseline: Mapping[str, str]
) -> AnyCell | None:
    """The candidate that differs from the cell only in having the baseline's levels.

    Args:
        cell: The cell.
        candidates: What it may be compared with.
        baseline: Levels that make a cell a baseline.

    Returns:
        ``None`` if the cell is a baseline itself, or there is none.
    """
    if is_baseline(cell, baseline):
        return None
    wanted = {**cell.levels, **baseline}
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


@dataclass(frozen=True)
class ComparedCell:
    """A cell, and what it is compared with.

    Attributes:
        study: Its study.
        cell: The cell.
        baseline: The cell it is compared with; ``None`` if there is none, or it is one itself.
        is_baseline: Whether it is one.
    """

    study: StudySummary
    cell: CellState
    baseline: ComparedCell | None
    is_baseline: bool

    @property
    def complete(self) -> list[RecordedTrial]:
        """The replicates that have test scores."""
        return [replicate for replicate in self.cell.confirmations if replicate.test_metrics]

    def scores(self, metric: str) -> dict[int, float]:
        """The test score of each completed replicate, by its seed."""
        return {
            replicate.seed: float(replicate.test_metrics[metric])
            for replicate in self.complete
            if replicate.test_metrics.get(metric) is not None
        }

    def pairs(self) -> set[int]:
        """The seeds under which both the cell and its baseline have test scores."""
        if self.baseline is None:
            return set()
        theirs = {replicate.seed for replicate in self.baseline.complete}
        return theirs & {replicate.seed for replicate in self.complete}

    def compared(self, metric: str, split: Split) -> tuple[list[float], list[float], bool]:
        """The scores of the cell and of its baseline that are compared, and whether they are pairs.

        Where the two have seeds in common, those are compared alone: a replicate whose partner
        failed would turn pairs into a comparison of different seeds.
        """
        if split == "validation":
            other = math.nan if self.baseline is None else self.baseline.validation(metric)
            return [self.validation(metric)], [other], False
        ours = self.scores(metric)
        theirs = {} if self.baseline is None else self.baseline.scores(metric)
        if not (pairs := self.pairs()):
            return list(ours.values()), list(theirs.values()), False
        seeds = [seed for seed in ours if seed in pairs and seed in theirs]
        return [ours[seed] for seed in seeds], [theirs[seed] for seed in seeds], True

    def validation(self, metric: str) -> float:
        """The winner's score in the search; not a number without one."""
        best = self.cell.best
        metrics: Mapping[str, Any] = best.outcome.get("best_metrics", {}) if best else {}
        found = metrics.get(metric, best.value if best and metric == self.study.objective else None)
        return math.nan if found is None else float(found)


def compared_cells(
    summaries: Sequence[StudySummary], baseline: Mapping[str, str]
) -> list[ComparedCell]:
    """Every cell with its baseline, of the same study or else of another that is comparable.

    Args:
        summaries: The studies.
        baseline: Levels that make a cell a baseline.
    """
    entries = []
    for study in summaries:
        others = [study, *(s for s in summaries if s is not study and s.comparable(study))]
        for cell in study.cells:
            found = next(
                (
                    ComparedCell(other, candidate, None, True)
                    for other in others
                    if (candidate := baseline_of(cell, other.cells, baseline)) is not None
                ),
                None,
            )
            entries.append(ComparedCell(study, cell, found, is_baseline(cell, baseline)))
    return entries
