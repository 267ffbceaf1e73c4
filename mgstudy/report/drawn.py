"""Figures drawn: by matplotlib as files and as pictures in a page, and by plotly in a page, to be
explored."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D

from mgstudy.report.figures import Figure, Look, Panel, Series, Surface

_ROW_PIXELS = 30
_HEIGHT_PIXELS = 300
_SURFACE_COLOURS = "Cividis"
_WIDTH_INCHES = 4.6
_HEIGHT_INCHES = 3.2
_ROW_INCHES = 0.3
_MOST_COLUMNS = 4
_FEW_POINTS = 12
"""A line through no more than these has a mark at each: two alone are hard to see, one is not."""
_DOTS_PER_INCH = 120
_METADATA = {"Date": None, "Creator": None}
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
    with mpl.rc_context(_SETTINGS):
        width = _WIDTH_INCHES * (1.8 if wide else 1)
        canvas = Canvas(figsize=(width, _height(panel)), layout="constrained")
        _draw(canvas.subplots(), panel)
        text = StringIO()
        canvas.savefig(text, format="svg", metadata=_METADATA)
    whole = text.getvalue()
    return whole[whole.index("<svg") :]


def write_figure(figure: Figure, folder: Path) -> list[Path]:
    """Write a figure with its caption above and its legend as ``NAME.png`` and ``NAME.svg``.

    The same figure always gives the same files.

    Args:
        figure: The figure.
        folder: Where the files go.

    Returns:
        The files.
    """
    columns = min(len(figure.panels), _MOST_COLUMNS)
    rows = -(-len(figure.panels) // columns)
    height = rows * max(map(_height, figure.panels)) + 0.6
    written = []
    with mpl.rc_context(_SETTINGS):
        canvas = Canvas(figsize=(_WIDTH_INCHES * columns, height), layout="constrained")
        places = list(canvas.subplots(rows, columns, squeeze=False).flat)
        for axes, panel in zip(places, figure.panels, strict=False):
            _draw(axes, panel)
        for axes in places[len(figure.panels) :]:
            axes.set_visible(False)
        canvas.suptitle(figure.caption, fontsize=11, wrap=True)
        if figure.legend:
            canvas.legend(
                handles=[_handle(look) for look in figure.legend],
                loc="outside lower center",
                ncols=len(figure.legend),
            )
        for suffix, metadata in (("png", {}), ("svg", _METADATA)):
            written.append(folder / f"{figure.name}.{suffix}")
            canvas.savefig(written[-1], dpi=_DOTS_PER_INCH, metadata=metadata)
    return written


def _height(panel: Panel) -> float:
    return max(_HEIGHT_INCHES, 1.1 + _ROW_INCHES * len(panel.categories))


def _draw(axes: Axes, panel: Panel) -> None:
    axes.set_axisbelow(True)
    axes.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
    if panel.x_is_logarithmic:
        axes.set_xscale("log")
    if panel.surface is not None:
        _draw_surface(axes, panel.surface)
    if panel.categories:
        heights = panel.heights()
        axes.set_yticks(list(heights.values()), list(heights))
        axes.set_ylim(-0.7, len(heights) - 0.3)
    for number, series in enumerate(panel.series):
        _draw_series(axes, series, panel.positions(number), _is_marked(panel, series))
    if panel.y_from_zero:
        axes.set_ylim(bottom=0)
    if panel.equal_axes:
        axes.set_aspect("equal")
    if panel.reference is not None:
        _draw_reference(axes, panel.reference, bool(panel.categories))
    if any(series.label for series in panel.series):
        axes.legend(fontsize=8)


def _is_marked(panel: Panel, series: Series) -> bool:
    """Whether a line has marks of its points: not beside dots, which they would pass for."""
    return len(series.x) <= _FEW_POINTS and all(other.shape == "line" for other in panel.series)


def _draw_series(axes: Axes, series: Series, y: Sequence[float], is_marked: bool) -> None:
    x = np.asarray(series.x, dtype=np.float64)
    colour, marker = series.look.colour, _MARKERS[series.look.symbol]
    spread = None
    if series.low is not None and series.high is not None:
        spread = np.asarray(series.low), np.asarray(series.high)
    if series.shape == "line":
        style = "--" if series.dashed else "-"
        dots = marker if spread is not None or is_marked else ""
        axes.plot(x, y, style, color=colour, marker=dots, ms=4, lw=1.5, label=series.label)
        if spread is not None:
            axes.fill_between(x, *spread, color=colour, alpha=0.15, linewidth=0)
    elif spread is not None:
        errors = np.stack([x - spread[0], spread[1] - x])
        axes.errorbar(x, y, xerr=errors, fmt=marker, color=colour, capsize=3, markersize=6)
    else:
        axes.plot(x, y, marker, color=colour, markersize=5, alpha=0.9)


def _draw_surface(axes: Axes, surface: Surface) -> None:
    levels = 10 if surface.limits is None else np.linspace(*surface.limits, 12)
    extend = "neither" if surface.limits is None else "both"
    z = np.ma.masked_invalid(surface.z)
    drawn = axes.contourf(surface.x, surface.y, z, levels, cmap="cividis", extend=extend)
    figure = axes.get_figure()
    assert figure is not None
    figure.colorbar(drawn, ax=axes, label=surface.label)


def _handle(look: Look) -> Line2D:
    marker = _MARKERS[look.symbol]
    return Line2D([], [], color=look.colour, marker=marker, linestyle="", label=look.label)


def _draw_reference(axes: Axes, reference: tuple[float, str], is_vertical: bool) -> None:
    value, name = reference
    line = axes.axvline if is_vertical else axes.axhline
    line(value, color="#555555", linestyle=":", linewidth=1.2)
    x, y = (value, axes.get_ylim()[1]) if is_vertical else (axes.get_xlim()[0], value)
    said, side = (name, "center") if is_vertical else (f" {name}", "left")
    axes.text(x, y, said, ha=side, va="bottom", fontsize=8)


def plotly_figure(panel: Panel) -> dict[str, Any]:
    """The panel as plotly's JSON: ``data`` and ``layout``; fonts and lines get their colours in the
    browser."""
    drawn = [] if panel.surface is None else [_contour(panel.surface)]
    for number, series in enumerate(panel.series):
        drawn += _traces(series, panel.positions(number), _is_marked(panel, series))
    figure = go.Figure(drawn, _layout(panel))
    if panel.reference is not None:
        value, name = panel.reference
        line = figure.add_vline if panel.categories else figure.add_hline
        at = "top right" if panel.categories else "bottom left"
        said = {"annotation_text": name, "annotation_font_size": 11, "annotation_position": at}
        line(value, line_width=1.5, line_dash="dot", **said)
    content: dict[str, Any] = figure.to_plotly_json()
    content["layout"].pop("template", None)
    return content


def _traces(series: Series, y: Sequence[float], is_marked: bool) -> list[Any]:
    is_line, colour = series.shape == "line", series.look.colour
    has_names = any(isinstance(place, str) for place in series.y)
    drawn = go.Scatter(
        x=list(series.x),
        y=y,
        name=series.label or series.look.label,
        mode="markers" if not is_line else "lines+markers" if is_marked else "lines",
        line={"color": colour, "width": 2, "dash": "dash" if series.dashed else "solid"},
        marker={"color": colour, "symbol": series.look.symbol, "opacity": 0.9},
        marker_size=7 if series.low is None and not has_names else 9,
        text=list(series.hover) or None,
        hovertemplate="%{text}<extra></extra>" if series.hover else None,
    )
    if series.low is None or series.high is None:
        return [drawn]
    x, low, high = (np.asarray(ends) for ends in (series.x, series.low, series.high))
    if not is_line:
        ends = {"array": (high - x).tolist(), "arrayminus": (x - low).tolist()}
        drawn.error_x = {"type": "data", "symmetric": False, "thickness": 1.5, "width": 5, **ends}
        return [drawn]
    band = go.Scatter(
        x=[*x, *x[::-1]],
        y=[*high, *low[::-1]],
        fill="toself",
        fillcolor=colour,
        opacity=0.15,
        mode="none",
        hoverinfo="skip",
    )
    return [band, drawn]


def _contour(surface: Surface) -> go.Contour:
    low, high = surface.limits or (None, None)
    return go.Contour(
        x=surface.x.tolist(),
        y=surface.y.tolist(),
        z=surface.z.tolist(),
        colorscale=_SURFACE_COLOURS,
        zmin=low,
        zmax=high,
        contours={"coloring": "heatmap"},
        line={"width": 0.5},
        connectgaps=False,
        colorbar={"title": {"text": surface.label, "side": "right"}, "thickness": 10},
        hovertemplate="%{x:.3g}, %{y:.3g}: %{z:.4f}<extra></extra>",
    )


def _layout(panel: Panel) -> dict[str, Any]:
    rows = panel.heights()
    axis: dict[str, Any] = {"automargin": True, "zeroline": False}
    x_axis = axis | {"title": {"text": panel.x_label, "standoff": 8}}
    y_axis = axis | {"title": {"text": panel.y_label, "standoff": 8}}
    if rows:
        y_axis |= {"tickvals": list(rows.values()), "ticktext": list(rows)}
        y_axis |= {"range": [-0.7, len(rows) - 0.3], "showgrid": True}
    elif panel.y_from_zero:
        y_axis["rangemode"] = "tozero"
    if panel.equal_axes:
        y_axis["scaleanchor"] = "x"
    return {
        "title": {"text": panel.title, "x": 0, "xref": "paper", "font": {"size": 14}},
        "height": max(_HEIGHT_PIXELS, 110 + _ROW_PIXELS * len(rows)),
        "margin": {"l": 8, "r": 12, "t": 40, "b": 8},
        "xaxis": x_axis | {"type": "log" if panel.x_is_logarithmic else "linear"},
        "yaxis": y_axis,
        "hovermode": "closest",
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "showlegend": False,
    }
