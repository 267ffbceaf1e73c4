"""Lay a report out as one HTML file that loads nothing.

Its plots are drawn by plotly in the reader's browser, in the colours of the page; where no script
runs, and on paper, there are pictures in their place.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs
from plotly.utils import PlotlyJSONEncoder

from mgstudy.errors import InputError, MgstudyError
from mgstudy.files import written_whole
from mgstudy.report.figures import Figure, Panel, Series, Surface
from mgstudy.report.page.content import ReportContent
from mgstudy.report.printed import svg

_ROW_HEIGHT = 30
_HEIGHT = 300
_SURFACE_COLOURS = "Cividis"


def render(content: ReportContent) -> str:
    """The report as an HTML document: style, scripts, data and pictures are in it."""
    pictures: dict[str, str] = {}
    plots: dict[str, Any] = {}
    for section in content.sections:
        for figure in section.parts:
            if isinstance(figure, Figure):
                for number, panel in enumerate(figure.panels, start=1):
                    name = f"{figure.name}-{number}"
                    pictures[name] = _data_address(svg(panel, figure.wide))
                    plots[name] = _plotly_figure(panel)
    environment = Environment(
        loader=PackageLoader(__package__, "template"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("report.html.j2")
    return template.render(
        content=content,
        pictures=pictures,
        plots=_json_in_html(plots),
        style=_verbatim(environment, "report.css"),
        script=_verbatim(environment, "report.js"),
        plotly=Markup(get_plotlyjs()),
    )


def save_report(document: str, path: Path) -> None:
    """Write a rendered report to a file, whole or not at all.

    Raises:
        InputError: If ``path`` is a folder.
        MgstudyError: If the file cannot be written.
    """
    if path.is_dir():
        raise InputError(f"{path}: is a folder, expected the name of a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MgstudyError(f"{path.parent}: cannot be made: {error.strerror}") from error
    with written_whole(path) as file:
        file.write(document.encode())


def _plotly_figure(panel: Panel) -> dict[str, Any]:
    """The panel as plotly's JSON: ``data`` and ``layout``; fonts and lines get their colours in the
    browser."""
    drawn: list[Any] = []
    if panel.surface is not None:
        drawn.append(_surface(panel.surface))
    for number, series in enumerate(panel.series):
        drawn += _series(series, panel.positions(number))
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


def _series(series: Series, y: Sequence[float]) -> list[Any]:
    is_line, has_intervals = series.shape == "line", series.low is not None
    marker = {"color": series.look.colour, "symbol": series.look.symbol, "opacity": 0.9}
    drawn = [
        go.Scatter(
            x=list(series.x),
            y=y,
            name=series.label or series.look.label,
            mode="lines" if is_line else "markers",
            line={
                "color": series.look.colour,
                "width": 2,
                "dash": "dash" if series.dashed else "solid",
            },
            marker={**marker, "size": 9 if has_intervals or _are_names(series.y) else 7},
            text=list(series.hover) or None,
            hovertemplate="%{text}<extra></extra>" if series.hover else None,
        )
    ]
    if series.low is None or series.high is None:
        return drawn
    x, low, high = (np.asarray(ends) for ends in (series.x, series.low, series.high))
    if not is_line:
        ends = {"array": (high - x).tolist(), "arrayminus": (x - low).tolist()}
        drawn[0].error_x = {
            "type": "data",
            "symmetric": False,
            **ends,
            "thickness": 1.5,
            "width": 5,
        }
        return drawn
    band = go.Scatter(
        x=[*x, *x[::-1]],
        y=[*high, *low[::-1]],
        fill="toself",
        fillcolor=series.look.colour,
        opacity=0.15,
        mode="none",
        hoverinfo="skip",
    )
    return [band, *drawn]


def _are_names(y: Sequence[float] | Sequence[str]) -> bool:
    return any(isinstance(place, str) for place in y)


def _surface(surface: Surface) -> go.Contour:
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
    y_axis: dict[str, Any] = {
        "title": {"text": panel.y_label, "standoff": 8},
        "automargin": True,
        "zeroline": False,
    }
    if rows:
        y_axis |= {"tickvals": list(rows.values()), "ticktext": list(rows)}
        y_axis |= {"range": [-0.7, len(rows) - 0.3], "showgrid": True}
    elif panel.y_from_zero:
        y_axis["rangemode"] = "tozero"
    if panel.equal_axes:
        y_axis["scaleanchor"] = "x"
    return {
        "title": {"text": panel.title, "x": 0, "xref": "paper", "font": {"size": 14}},
        "height": max(_HEIGHT, 110 + _ROW_HEIGHT * len(rows)),
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


def _verbatim(environment: Environment, name: str) -> Markup:
    assert environment.loader is not None
    return Markup(environment.loader.get_source(environment, name)[0])


def _json_in_html(content: Any) -> Markup:
    """JSON that can stand in a script element: nothing in it can end the element."""
    text = json.dumps(content, cls=PlotlyJSONEncoder, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace("&", "\\u0026"))


def _data_address(document: str) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(document.encode()).decode()}"
