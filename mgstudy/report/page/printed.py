"""Panels as SVG pictures, for print and for readers without scripts."""

from __future__ import annotations

from io import StringIO
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from mgstudy.report.page.figures import Panel, Series

_WIDTH_INCHES = 4.6
_HEIGHT_INCHES = 3.2
_ROW_INCHES = 0.3
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "mgstudy",
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e5e8",
    "axes.titlesize": 10.0,
    "axes.titlelocation": "left",
}
_MARKERS = {
    "circle": "o",
    "square": "s",
    "diamond": "D",
    "triangle-up": "^",
    "triangle-down": "v",
    "cross": "P",
    "x": "X",
    "star": "*",
}


def svg(panel: Panel, wide: bool = False) -> str:
    """The panel as an SVG document; the same panel always gives the same text."""
    rows = len(panel.categories)
    height = max(_HEIGHT_INCHES, 1.1 + _ROW_INCHES * rows)
    with mpl.rc_context(_SETTINGS):
        canvas = Canvas(
            figsize=(_WIDTH_INCHES * (1.8 if wide else 1), height), layout="constrained"
        )
        axes = canvas.subplots()
        axes.set_axisbelow(True)
        axes.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
        if panel.x_is_logarithmic:
            axes.set_xscale("log")
        if panel.surface is not None:
            _draw_surface(axes, panel)
        heights = {name: rows - 1 - place for place, name in enumerate(panel.categories)}
        if rows:
            axes.set_yticks(list(heights.values()), list(heights))
            axes.set_ylim(-0.7, rows - 0.3)
        for series in panel.series:
            _draw_series(axes, series, heights)
        if panel.reference is not None:
            _draw_reference(axes, panel.reference, bool(rows))
        text = StringIO()
        canvas.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    whole = text.getvalue()
    return whole[whole.index("<svg") :]


def _draw_series(axes: Axes, series: Series, heights: dict[str, int]) -> None:
    x = np.asarray(series.x, dtype=np.float64)
    y = np.asarray(
        [heights[place] if isinstance(place, str) else place for place in series.y],
        dtype=np.float64,
    )
    colour, marker = series.look.colour, _MARKERS[series.look.symbol]
    if series.shape == "line":
        axes.plot(x, y, color=colour, linewidth=1.5)
    elif series.low is not None and series.high is not None:
        spread = np.stack([x - np.asarray(series.low), np.asarray(series.high) - x])
        axes.errorbar(x, y, xerr=spread, fmt=marker, color=colour, capsize=3, markersize=6)
    else:
        axes.plot(x, y, marker, color=colour, markersize=5, alpha=0.9)


def _draw_surface(axes: Axes, panel: Panel) -> None:
    surface = panel.surface
    assert surface is not None
    drawn = axes.contourf(
        surface.x, surface.y, np.ma.masked_invalid(surface.z), levels=10, cmap="cividis"
    )
    figure = axes.get_figure()
    assert figure is not None
    figure.colorbar(drawn, ax=axes, label=surface.label)


def _draw_reference(axes: Axes, reference: tuple[float, str], is_vertical: bool) -> None:
    value, name = reference
    if is_vertical:
        axes.axvline(value, color="#555555", linestyle=":", linewidth=1.2)
        axes.text(value, axes.get_ylim()[1], name, ha="center", va="bottom", fontsize=8)
    else:
        axes.axhline(value, color="#555555", linestyle=":", linewidth=1.2)
        axes.text(axes.get_xlim()[0], value, f" {name}", ha="left", va="bottom", fontsize=8)
