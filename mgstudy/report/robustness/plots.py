"""Plots of robustness: scores against severity, flatness, and slices of the loss landscape."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mgstudy.config.robustness import FLATNESS_MEASURES, ItemGraph
from mgstudy.report.drawn import write_figure
from mgstudy.report.figures import Drawing, Figure, Panel, Series, Surface
from mgstudy.report.robustness.comparison import RobustnessTables, main_split
from mgstudy.robustness.risks.base import risks
from mgstudy.significance import CONFIDENCE
from mgstudy.study.results.summary import StudySummary
from mgstudy.study.search.state import CellState

_LOGARITHMIC_ABOVE = 30
"""Measures of flatness whose largest mean is so many times the smallest have a logarithmic axis."""


def write_plots(
    tables: RobustnessTables, summary: StudySummary, folder: Path, risk_names: Mapping[str, str]
) -> list[Path]:
    """Draw everything that was measured, as PNG and SVG.

    Args:
        tables: What was measured.
        summary: The study.
        folder: Where the files go; created when it is missing.
        risk_names: Name of the risk behind each label, for the axes.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawing = Drawing(summary, summary.baselines[0], frozenset())
    return [
        path
        for figure in _figures(tables, drawing, risk_names)
        if figure.panels
        for path in write_figure(figure, folder)
    ]


def _figures(
    tables: RobustnessTables, drawing: Drawing, risk_names: Mapping[str, str]
) -> Iterator[Figure]:
    if not tables.curves.empty:
        main = main_split(tables.curves)
        for (risk, split), rows in tables.curves.groupby(["risk", "split"], sort=False):
            # Cells on another split than the others have a figure of their own.
            name = f"risk_{risk}" + ("" if split == main else f"_{split}")
            yield _risk_figure(drawing, rows, name, str(risk), risk_names[str(risk)])
    if not tables.flatness.empty:
        yield _flatness_figure(drawing, tables.flatness)
    yield _line_figure(drawing, [found for found in tables.landscapes if "line" in found])
    yield _square_figure(drawing, [found for found in tables.landscapes if "square" in found])


def _risk_figure(drawing: Drawing, rows: pd.DataFrame, name: str, label: str, risk: str) -> Figure:
    """A panel for each model (and other levels), a line for each gradient strategy."""
    objective, split = drawing.summary.clean_objective, rows["split"].iloc[0]
    # A frozen graph under scores that read no features is a flat line, and said in the table.
    reached = rows.groupby(["cell", "graph"])["reached"].transform("any")
    rows = rows[(rows["graph"] != ItemGraph.FROZEN.value) | reached]
    called = label.replace("_", " ")
    panels = []
    for title, cells in _panels(drawing, rows["cell"]):
        of_cells = {cell.key: rows[rows["cell"] == cell.key] for cell in cells}
        unreached = not any(of_cell["reached"].any() for of_cell in of_cells.values())
        panels.append(
            Panel(
                f"{title} (scores read no features)" if unreached else title,
                risks.get(risk).severity,
                objective,
                f"{objective} on {split} against the severity of {called}, {title}",
                [
                    _curve(drawing, cell, str(graph), curve)
                    for cell in cells
                    for graph, curve in of_cells[cell.key].groupby("graph", sort=False)
                ],
                y_from_zero=True,
            )
        )
    said = f"{called}: {objective} on {split} against severity; bands: {CONFIDENCE:.0%} bootstrap"
    return Figure(name, f"{said} intervals over users and seeds", panels)


def _curve(drawing: Drawing, cell: CellState, graph: str, curve: pd.DataFrame) -> Series:
    label = drawing.label(cell)
    return Series(
        drawing.looks()[label],
        curve["severity"].tolist(),
        curve[drawing.summary.clean_objective].tolist(),
        shape="line",
        low=curve["low"].tolist(),
        high=curve["high"].tolist(),
        label=label if graph == ItemGraph.NONE.value else f"{label}, graph {graph}",
        dashed=graph == ItemGraph.FROZEN.value,
    )


def _flatness_figure(drawing: Drawing, rows: pd.DataFrame) -> Figure:
    """A panel for each measure: a row for each model, a dot for each strategy."""
    panels = []
    for measure, title in FLATNESS_MEASURES.items():
        measured = rows[rows["measure"] == measure].fillna({"deviation": 0.0})
        named = list(_panels(drawing, measured["cell"]))
        means = measured["mean"]
        if named:
            panels.append(
                Panel(
                    title,
                    "mean ± standard deviation over replicates",
                    "",
                    f"{title} of {', '.join(name for name, _ in named)}",
                    _flatness_dots(drawing, measured, named),
                    categories=[name for name, _ in named],
                    x_is_logarithmic=bool(
                        (means > 0).all() and means.max() > _LOGARITHMIC_ABOVE * means.min()
                    ),
                )
            )
    return Figure("flatness", "Flatness of the minimum", panels, tuple(drawing.looks().values()))


def _flatness_dots(
    drawing: Drawing, measured: pd.DataFrame, named: Sequence[tuple[str, Sequence[CellState]]]
) -> list[Series]:
    by_cell = {str(row["cell"]): row for row in measured.to_dict("records")}
    series = []
    for label, look in drawing.looks().items():
        found = [
            (name, by_cell[cell.key])
            for name, cells in named
            for cell in cells
            if drawing.label(cell) == label
        ]
        series.append(
            Series(
                look,
                [row["mean"] for _, row in found],
                [name for name, _ in found],
                low=[row["mean"] - row["deviation"] for _, row in found],
                high=[row["mean"] + row["deviation"] for _, row in found],
            )
        )
    return series


def _line_figure(drawing: Drawing, found: Sequence[Mapping[str, Any]]) -> Figure:
    """The loss along a line, less its value at the weights, as panels of models."""
    panels = []
    for title, cells in _panels(drawing, [each["cell"] for each in found]):
        series = []
        for cell, line in _slices(cells, found, "line"):
            losses = np.array(line["losses"])
            at_rest = losses[len(losses) // 2]
            label = drawing.label(cell)
            series.append(
                Series(
                    drawing.looks()[label],
                    line["coordinates"],
                    (losses - at_rest).tolist(),
                    shape="line",
                    label=f"{label} (loss {at_rest:.3g})",
                )
            )
        described = f"Rise of the training loss along a random direction, {title}"
        panels.append(
            Panel(title, "step over the length of each row", "rise of the loss", described, series)
        )
    caption = "Training loss along a random direction (filter-normalised)"
    return Figure("landscape_line", caption, panels)


def _square_figure(drawing: Drawing, found: Sequence[Mapping[str, Any]]) -> Figure:
    """Contours of the loss over a square, a panel for each model; panels of a model and other
    levels share their colours."""
    panels = []
    for title, cells in _panels(drawing, [each["cell"] for each in found]):
        squares = list(_slices(cells, found, "square"))
        highest = float(max(_rise(square).max() for _, square in squares)) or 1.0
        for cell, square in squares:
            axis = np.array(square["coordinates"])
            name = f"{title}, {drawing.label(cell)}"
            panels.append(
                Panel(
                    name,
                    "",
                    "",
                    f"Rise of the training loss over two random directions, {name}",
                    surface=Surface(axis, axis, _rise(square), "rise of the loss", (0, highest)),
                    equal_axes=True,
                )
            )
    caption = "Rise of the training loss over two random directions"
    return Figure("landscape_square", caption, panels)


def _slices(
    cells: Sequence[CellState], found: Sequence[Mapping[str, Any]], kind: str
) -> Iterator[tuple[CellState, Mapping[str, Any]]]:
    for cell in cells:
        yield from ((cell, each[kind]) for each in found if each["cell"] == cell.key)


def _rise(square: Mapping[str, Any]) -> NDArray[np.float64]:
    losses: NDArray[np.float64] = np.array(square["losses"])
    middle = len(losses) // 2
    rise: NDArray[np.float64] = losses - losses[middle, middle]
    return rise


def _panels(drawing: Drawing, measured: Iterable[str]) -> Iterator[tuple[str, list[CellState]]]:
    """The panels of the study, with the measured of their cells alone."""
    keys = set(measured)
    for title, cells in drawing.panels():
        shown = [cell for cell in cells if cell.key in keys]
        if shown:
            yield title, shown
