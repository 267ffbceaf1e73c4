"""What figures show, apart from how they are drawn.

A figure is a row of small panels, one plot each, so that it is as legible on a phone as on a desk.
A panel is drawn by matplotlib, for files, for paper and for readers without scripts, and in a
report's page by plotly as well, to be explored (``drawn``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mgstudy.study.results.summary import StudySummary
from mgstudy.study.search.state import CellState

NEUTRAL = "#7a7f87"
"""For what others are compared with."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#5d4fb3", "#b3434a")
"""Told apart by colour-blind readers too (Okabe and Ito's, the light ones darkened), and legible
on white and on black."""
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x", "star")
"""Plotly's names; a colour always comes with the same symbol."""

_BESIDE, _ROW = 0.16, 0.6
"""How far series of a category are apart, and how much of its row they take at most."""


@dataclass(frozen=True)
class Look:
    """How a series is told from the others."""

    label: str
    colour: str
    symbol: str


@dataclass(frozen=True)
class Series:
    """Points of a panel, or a line through them.

    Attributes:
        look: Its colour and symbol.
        x: Positions.
        y: Positions, or names of categories.
        shape: Dots, or a line.
        low: Lower ends of intervals: around ``x`` of dots, around ``y`` of a line.
        high: Upper ends.
        hover: What each point says when it is pointed at.
        label: What it is called in a legend inside the panel; the figure's says it when empty.
        dashed: Whether a line is.
    """

    look: Look
    x: Sequence[float]
    y: Sequence[float] | Sequence[str]
    shape: Literal["dots", "line"] = "dots"
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    hover: Sequence[str] = ()
    label: str = ""
    dashed: bool = False


@dataclass(frozen=True)
class Surface:
    """A value over two axes, as a filled contour plot.

    Attributes:
        x: Ascending, shape ``[columns]``.
        y: Ascending, shape ``[rows]``.
        z: Shape ``[rows, columns]``; NaN where nothing is known.
        label: What the value is.
        limits: The values at the ends of the colours; those of ``z`` when not given.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    z: NDArray[np.float64]
    label: str
    limits: tuple[float, float] | None = None


@dataclass(frozen=True)
class Panel:
    """One small plot.

    Attributes:
        title: What tells it from its neighbours.
        x_label: The horizontal axis, with its unit.
        y_label: The vertical axis, with its unit; empty when its categories say it all.
        description: What is seen, in words, for those who do not see it.
        series: What is drawn.
        surface: What lies under it.
        reference: A value to compare with and its name: a line across the panel, at ``x`` when the
            vertical axis is one of categories, else at ``y``.
        categories: Names on the vertical axis, from top to bottom; empty for numbers.
        x_is_logarithmic: Whether the horizontal axis is.
        y_from_zero: Whether the vertical axis begins at 0.
        equal_axes: Whether a step is as long on both axes.
    """

    title: str
    x_label: str
    y_label: str
    description: str
    series: Sequence[Series] = ()
    surface: Surface | None = None
    reference: tuple[float, str] | None = None
    categories: Sequence[str] = ()
    x_is_logarithmic: bool = False
    y_from_zero: bool = False
    equal_axes: bool = False

    def heights(self) -> dict[str, float]:
        """Where each category is on the vertical axis, the first on top."""
        return {name: float(place) for place, name in enumerate(reversed(self.categories))}

    def positions(self, number: int) -> list[float]:
        """Where the points of a series are on the vertical axis: those of a category in its row,
        one series beside the other."""
        heights, count = self.heights(), len(self.series)
        beside = ((count - 1) / 2 - number) * min(_BESIDE, _ROW / count)
        return [heights[y] + beside if isinstance(y, str) else y for y in self.series[number].y]


@dataclass(frozen=True)
class Figure:
    """Panels side by side under one caption.

    Attributes:
        name: Its anchor in a page, or the name of its file.
        caption: What is seen, and what to make of it.
        panels: The plots.
        legend: What the colours mean; empty where there is one.
        wide: Whether a panel wants the page's full width.
    """

    name: str
    caption: str
    panels: Sequence[Panel]
    legend: Sequence[Look] = field(default_factory=tuple)
    wide: bool = False


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

    def panel_factors(self) -> list[str]:
        """The factors that vary and that the baseline does not fix: each combination of their
        levels has a panel, in which the others are compared."""
        return [name for name in self.summary.varying_factors() if name not in self.baseline]

    def label(self, cell: CellState) -> str:
        """What a cell is called inside its panel."""
        return " ".join(cell.levels.get(factor, "") for factor in self.baseline)

    def looks(self) -> dict[str, Look]:
        """How each label looks, the same in every figure: grey for the baseline's."""
        neutral = " ".join(self.baseline.values())
        labels = list(dict.fromkeys(self.label(cell) for cell in self.summary.cells))
        others = [label for label in labels if label != neutral]
        found = {neutral: Look(neutral, NEUTRAL, SYMBOLS[0])}
        for number, label in enumerate(others):
            symbol = SYMBOLS[1 + number % (len(SYMBOLS) - 1)]
            found[label] = Look(label, COLOURS[number % len(COLOURS)], symbol)
        return {label: found[label] for label in labels}

    def panels(self) -> Iterator[tuple[str, list[CellState]]]:
        """The title and the cells of every panel."""
        factors = self.panel_factors()
        grouped: dict[tuple[str | None, ...], list[CellState]] = {}
        for cell in self.summary.cells:
            grouped.setdefault(tuple(map(cell.levels.get, factors)), []).append(cell)
        for levels, cells in grouped.items():
            yield " · ".join(filter(None, levels)) or cells[0].levels["model"], cells
