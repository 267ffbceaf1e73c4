"""What the report's figures show, apart from how they are drawn.

A figure is a row of small panels, one plot each, so that it is as legible on a phone as on a desk.
Each panel is drawn twice: by plotly to be explored, by matplotlib to be printed or read without
scripts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

NEUTRAL = "#7a7f87"
"""For what others are compared with."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#5d4fb3", "#b3434a")
"""Told apart by colour-blind readers too (Okabe and Ito's, the light ones darkened), and legible
on white and on black."""
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x", "star")
"""Plotly's names; a colour always comes with the same symbol."""


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
        low: Lower ends of horizontal intervals around ``x``.
        high: Upper ends.
        hover: What each point says when it is pointed at.
    """

    look: Look
    x: Sequence[float]
    y: Sequence[float] | Sequence[str]
    shape: Literal["dots", "line"] = "dots"
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    hover: Sequence[str] = ()


@dataclass(frozen=True)
class Surface:
    """A value over two axes, as a filled contour plot.

    Attributes:
        x: Ascending, shape ``[columns]``.
        y: Ascending, shape ``[rows]``.
        z: Shape ``[rows, columns]``; NaN where nothing is known.
        label: What the value is.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    z: NDArray[np.float64]
    label: str


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


@dataclass(frozen=True)
class Figure:
    """Panels side by side under one caption.

    Attributes:
        name: Its anchor in the page.
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


def looks(labels: Sequence[str], neutral: str | None) -> dict[str, Look]:
    """A look for every label: grey for the one that others are compared with."""
    found: dict[str, Look] = {}
    others = [label for label in labels if label != neutral]
    if neutral is not None and neutral in labels:
        found[neutral] = Look(neutral, NEUTRAL, SYMBOLS[0])
    for number, label in enumerate(others):
        found[label] = Look(
            label, COLOURS[number % len(COLOURS)], SYMBOLS[1 + number % (len(SYMBOLS) - 1)]
        )
    return {label: found[label] for label in labels}
