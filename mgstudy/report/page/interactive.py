"""Panels as plotly figures: drawn in the reader's browser, in the colours of the page."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from mgstudy.report.page.figures import Panel, Series

_ROW_HEIGHT = 30
_HEIGHT = 300
_SURFACE_COLOURS = "Cividis"


def plotly_figure(panel: Panel) -> dict[str, Any]:
    """The panel as plotly's JSON: ``data`` and ``layout``; fonts and lines get their colours in the
    browser."""
    drawn: list[Any] = []
    if panel.surface is not None:
        drawn.append(_surface(panel))
    drawn += [_series(series) for series in panel.series]
    figure = go.Figure(drawn, _layout(panel))
    if panel.reference is not None:
        value, name = panel.reference
        line = {"width": 1.5, "dash": "dot"}
        if panel.categories:
            figure.add_vline(value, line=line, annotation={"text": name, "font": {"size": 11}})
        else:
            figure.add_hline(
                value,
                line=line,
                annotation={"text": name, "font": {"size": 11}},
                annotation_position="bottom left",
            )
    content: dict[str, Any] = figure.to_plotly_json()
    content["layout"].pop("template", None)
    return content


def _series(series: Series) -> go.Scatter:
    errors = None
    if series.low is not None and series.high is not None:
        errors = {
            "type": "data",
            "symmetric": False,
            "array": [high - x for high, x in zip(series.high, series.x, strict=True)],
            "arrayminus": [x - low for low, x in zip(series.low, series.x, strict=True)],
            "thickness": 1.5,
            "width": 5,
        }
    is_line = series.shape == "line"
    return go.Scatter(
        x=list(series.x),
        y=list(series.y),
        name=series.look.label,
        mode="lines" if is_line else "markers",
        line={"color": series.look.colour, "width": 2} if is_line else None,
        marker=None
        if is_line
        else {
            "color": series.look.colour,
            "symbol": series.look.symbol,
            "size": 9 if errors or isinstance(series.y[0] if len(series.y) else 0, str) else 7,
            "opacity": 0.9,
        },
        error_x=errors,
        text=list(series.hover) or None,
        hovertemplate="%{text}<extra></extra>" if series.hover else None,
        showlegend=False,
    )


def _surface(panel: Panel) -> go.Contour:
    surface = panel.surface
    assert surface is not None
    return go.Contour(
        x=surface.x.tolist(),
        y=surface.y.tolist(),
        z=surface.z.tolist(),
        colorscale=_SURFACE_COLOURS,
        contours={"coloring": "heatmap"},
        line={"width": 0.5},
        connectgaps=False,
        colorbar={"title": {"text": surface.label, "side": "right"}, "thickness": 10},
        hovertemplate="%{x:.3g}, %{y:.3g}: %{z:.4f}<extra></extra>",
    )


def _layout(panel: Panel) -> dict[str, Any]:
    rows = len(panel.categories)
    y_axis: dict[str, Any] = {
        "title": {"text": panel.y_label, "standoff": 8},
        "automargin": True,
        "zeroline": False,
    }
    if rows:
        y_axis |= {
            "type": "category",
            "categoryorder": "array",
            "categoryarray": list(reversed(panel.categories)),
            "range": [-0.7, rows - 0.3],
        }
    return {
        "title": {"text": panel.title, "x": 0, "xref": "paper", "font": {"size": 14}},
        "height": max(_HEIGHT, 110 + _ROW_HEIGHT * rows) if rows else _HEIGHT,
        "margin": {"l": 8, "r": 12, "t": 40, "b": 8},
        "xaxis": {
            "title": {"text": panel.x_label, "standoff": 8},
            "automargin": True,
            "zeroline": False,
            "type": "log" if panel.x_is_logarithmic else "linear",
        },
        "yaxis": y_axis,
        "hovermode": "closest",
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "showlegend": False,
    }
