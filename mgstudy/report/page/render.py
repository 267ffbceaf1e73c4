"""Lay a report out as one HTML file that loads nothing."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs
from plotly.utils import PlotlyJSONEncoder

from mgstudy.errors import InputError, MgstudyError
from mgstudy.files import written_whole
from mgstudy.report.page.content import ReportContent
from mgstudy.report.page.figures import Figure
from mgstudy.report.page.interactive import plotly_figure
from mgstudy.report.page.printed import svg


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
                    plots[name] = plotly_figure(panel)
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


def _verbatim(environment: Environment, name: str) -> Markup:
    assert environment.loader is not None
    return Markup(environment.loader.get_source(environment, name)[0])


def _json_in_html(content: Any) -> Markup:
    """JSON that can stand in a script element: nothing in it can end the element."""
    text = json.dumps(content, cls=PlotlyJSONEncoder, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace("&", "\\u0026"))


def _data_address(document: str) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(document.encode()).decode()}"
