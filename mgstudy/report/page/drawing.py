"""What every figure of a study's report needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mgstudy.report.page.figures import Look, looks
from mgstudy.study.results.summary import StudySummary
from mgstudy.study.search.state import CellState


@dataclass(frozen=True)
class Drawing:
    """A study, and how its cells are told apart.

    Attributes:
        summary: The study.
        baseline: Levels that make a cell a baseline.
        logarithmic: Full names of the parameters that are searched on a logarithmic scale.
    """

    summary: StudySummary
    baseline: Mapping[str, str]
    logarithmic: frozenset[str]

    @property
    def compared(self) -> tuple[str, ...]:
        """The factors that the baseline fixes: their levels are what is compared in a panel."""
        return tuple(self.baseline)

    def panel_factors(self) -> list[str]:
        """The other factors that vary: each combination of their levels has a panel."""
        return [name for name in self.summary.varying_factors() if name not in self.baseline]

    def label(self, cell: CellState) -> str:
        """What a cell is called inside its panel."""
        return " ".join(cell.levels[factor] for factor in self.compared)

    def looks(self) -> dict[str, Look]:
        """How each label looks, the same in every figure."""
        labels = list(dict.fromkeys(self.label(cell) for cell in self.summary.cells))
        return looks(labels, " ".join(self.baseline.values()))

    def panels(self) -> Iterator[tuple[str, list[CellState]]]:
        """The title and the cells of every panel."""
        factors = self.panel_factors()
        grouped: dict[tuple[str, ...], list[CellState]] = {}
        for cell in self.summary.cells:
            grouped.setdefault(tuple(cell.levels[name] for name in factors), []).append(cell)
        for levels, cells in grouped.items():
            yield " · ".join(levels) or cells[0].levels["model"], cells
