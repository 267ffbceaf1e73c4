"""Cells with the cells that they are compared with, and what both were scored."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mgstudy.report.comparison.baselines import baseline_of, is_baseline
from mgstudy.study.results.summary import CellSummary, ConfirmationSummary, StudySummary


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
    cell: CellSummary
    baseline: ComparedCell | None
    is_baseline: bool

    @property
    def complete(self) -> list[ConfirmationSummary]:
        """The replicates that have test scores."""
        return [replicate for replicate in self.cell.confirmations if replicate.test_metrics]

    def scores(self, metric: str) -> dict[int, float]:
        """The test score of each completed replicate, by its seed."""
        return {
            replicate.seed: float(replicate.test_metrics[metric])
            for replicate in self.complete
            if replicate.test_metrics.get(metric) is not None
        }

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
