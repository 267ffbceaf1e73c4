"""A figure that is described once says the same in matplotlib's files and in plotly's plots."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from mgstudy.report.drawn import plotly_figure, svg, write_figure
from mgstudy.report.figures import Figure, Look, Panel, Series, Surface

GREY, BLUE = Look("plain", "#7a7f87", "circle"), Look("mirror_gradient", "#0072b2", "square")
DOTS = Panel(
    "dots",
    "score",
    "",
    "two cells of two models",
    [
        Series(GREY, [0.1, 0.2], ["BPR", "VBPR"], low=[0.05, 0.1], high=[0.2, 0.3]),
        Series(BLUE, [0.3], ["VBPR"]),
    ],
    reference=(0.15, "popularity"),
    categories=["BPR", "VBPR"],
)
BANDS = Panel(
    "bands",
    "severity",
    "recall@20",
    "a drop",
    [
        Series(GREY, [0, 1], [0.4, 0.2], "line", [0.3, 0.1], [0.5, 0.3], label="plain"),
        Series(BLUE, [0, 1], [0.4, 0.4], "line", label="plain, graph frozen", dashed=True),
    ],
    y_from_zero=True,
)
SQUARE = Panel(
    "square",
    "",
    "",
    "a bowl",
    surface=Surface(np.arange(3.0), np.arange(3.0), np.eye(3), "rise of the loss", (0, 2)),
    equal_axes=True,
)


def test_the_first_category_is_on_top_and_series_stand_beside_each_other() -> None:
    upper, lower = DOTS.positions(0)
    (other,) = DOTS.positions(1)
    assert DOTS.heights() == {"BPR": 1.0, "VBPR": 0.0}
    assert upper - lower == 1
    # Above and below the middle of their row, and never in the next one.
    assert lower == -other
    assert 0 < lower < 0.3


def test_dots_have_their_intervals_and_categories_in_both() -> None:
    content = plotly_figure(DOTS)
    grey, blue = content["data"]
    assert list(grey["error_x"]["array"]) == pytest.approx([0.1, 0.1])
    assert list(grey["error_x"]["arrayminus"]) == pytest.approx([0.05, 0.1])
    assert list(grey["y"]) == DOTS.positions(0)
    assert (blue["marker"]["color"], blue["marker"]["symbol"]) == (BLUE.colour, BLUE.symbol)
    axis = content["layout"]["yaxis"]
    assert dict(zip(axis["ticktext"], axis["tickvals"], strict=True)) == DOTS.heights()
    drawn = svg(DOTS)
    assert all(f">{text}<" in drawn for text in ("BPR", "VBPR", "popularity", "dots"))


def test_bands_lie_under_their_lines_in_both() -> None:
    band, line, frozen = plotly_figure(BANDS)["data"]
    assert list(band["x"]) == [0, 1, 1, 0]
    assert list(band["y"]) == [0.5, 0.3, 0.1, 0.3]
    assert (line["line"]["dash"], frozen["line"]["dash"]) == ("solid", "dash")
    drawn = svg(BANDS)
    # A legend of its own, as the series have names of their own.
    assert ">plain, graph frozen<" in drawn
    assert "stroke-dasharray" in drawn


@pytest.mark.parametrize(("count", "mode"), [(1, "lines+markers"), (40, "lines")])
def test_a_line_of_few_points_has_marks_of_them_in_both(count: int, mode: str) -> None:
    series = Series(BLUE, list(range(count)), [0.5] * count, "line")
    panel = Panel("curve", "epoch", "recall@20", "a curve", [series])
    (line,) = plotly_figure(panel)["data"]
    assert line["mode"] == mode
    marks = re.findall(r'<use [^>]*style="fill: #0072b2', svg(panel))
    assert len(marks) == (count if "markers" in mode else 0)
    # A line through the medians of dots has none, which would pass for more of them.
    dots = Panel("", "", "", "", [series, Series(BLUE, [0.0], [0.1])])
    assert [drawn["mode"] for drawn in plotly_figure(dots)["data"]] == ["lines", "markers"]


def test_surfaces_share_the_ends_of_their_colours() -> None:
    (contour,) = plotly_figure(SQUARE)["data"]
    assert (contour["zmin"], contour["zmax"]) == (0, 2)
    assert ">rise of the loss<" in svg(SQUARE)


def test_a_figure_is_written_with_its_legend_and_the_same_every_time(tmp_path: Path) -> None:
    figure = Figure("whole", "What is seen", [DOTS, BANDS, SQUARE], (GREY, BLUE))
    png, drawn = write_figure(figure, tmp_path)
    assert (png.name, drawn.name) == ("whole.png", "whole.svg")
    assert png.read_bytes().startswith(b"\x89PNG")
    text = drawn.read_text()
    assert ET.fromstring(text).tag.endswith("svg")
    for said in ("What is seen", "dots", "bands", "square", "mirror_gradient"):
        assert f">{said}<" in text
    (tmp_path / "again").mkdir()
    assert write_figure(figure, tmp_path / "again")[1].read_text() == text
