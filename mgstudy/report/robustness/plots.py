"""Plots of robustness: scores against severity, flatness, and slices of the loss landscape."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mgstudy.report.comparison.statistics import CONFIDENCE
from mgstudy.report.robustness.comparison import RobustnessTables
from mgstudy.robustness.flatness.measures import MEASURES
from mgstudy.robustness.risks.base import risks
from mgstudy.robustness.trained_model import ItemGraph

FORMATS = ("png", "svg")
_COLOURS = ("#4c72b0", "#dd8452", "#55a868", "#c44e52", "#8172b3", "#937860", "#da8bc3", "#8c8c8c")
"""Seaborn's "deep" palette."""
_WIDTH, _HEIGHT = 4.2, 3.2
_MOST_COLUMNS = 4
_DOTS_PER_INCH = 120


def write_plots(
    tables: RobustnessTables, objective: str, folder: Path, risk_names: dict[str, str]
) -> list[Path]:
    """Draw everything that was measured, as PNG and SVG.

    Args:
        tables: What was measured.
        objective: The metric on the vertical axis.
        folder: Where the files go; created when it is missing.
        risk_names: Name of the risk behind each label, for the axes.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, figure in _figures(tables, objective, risk_names):
        for suffix in FORMATS:
            path = folder / f"{name}.{suffix}"
            # The same numbers give the same file: no date, no random names.
            with mpl.rc_context({"svg.hashsalt": "mgstudy"}):
                metadata = {"Date": None} if suffix == "svg" else {}
                figure.savefig(path, dpi=_DOTS_PER_INCH, metadata=metadata)
            written.append(path)
    return written


def _figures(
    tables: RobustnessTables, objective: str, risk_names: dict[str, str]
) -> Iterator[tuple[str, Figure]]:
    if not tables.curves.empty:
        for risk in dict.fromkeys(tables.curves["risk"]):
            rows = tables.curves[tables.curves["risk"] == risk]
            yield f"risk_{risk}", _risk_figure(rows, objective, risk, risk_names[risk])
    if not tables.flatness.empty:
        yield "flatness", _flatness_figure(tables.flatness)
    slices = [found for found in tables.landscapes if "line" in found]
    if slices:
        yield "landscape_line", _line_figure(slices)
    squares = [found for found in tables.landscapes if "square" in found]
    if squares:
        yield "landscape_square", _square_figure(squares)


def _risk_figure(rows: pd.DataFrame, objective: str, label: str, risk: str) -> Figure:
    """A panel for each model (and other levels), a line for each gradient strategy."""
    # A frozen graph under scores that read no features is a flat line, and said in the table.
    rows = rows[(rows["graph"] != ItemGraph.FROZEN.value) | _reached_anywhere(rows)]
    panels = _panels(rows)
    figure, axes = _grid(len(panels), f"{label.replace('_', ' ')}: {objective} against severity")
    for axis, (title, panel) in zip(axes, panels, strict=False):
        for (strategy, graph), line in panel.groupby(["gradient", "graph"], sort=False):
            colour = _colour(rows, strategy)
            name = strategy if graph == ItemGraph.NONE.value else f"{strategy}, graph {graph}"
            style = "--" if graph == ItemGraph.FROZEN.value else "-"
            axis.plot(
                line["severity"], line[objective], style, color=colour, marker="o", ms=3, label=name
            )
            axis.fill_between(line["severity"], line["low"], line["high"], color=colour, alpha=0.15)
        unreached = not _reached_anywhere(panel).any()
        axis.set_title(f"{title} (scores read no features)" if unreached else title, fontsize=9)
        axis.set_xlabel(risks.get(risk).severity, fontsize=8)
        axis.set_ylabel(objective, fontsize=8)
        axis.set_ylim(bottom=0)
        axis.legend(fontsize=7)
    figure.supxlabel(
        f"bands: {CONFIDENCE:.0%} bootstrap intervals over users and seeds", fontsize=7
    )
    return figure


def _flatness_figure(rows: pd.DataFrame) -> Figure:
    """A panel for each measure: a group of bars for each model, a bar for each strategy."""
    measures = [name for name in MEASURES if (rows["measure"] == name).any()]
    figure, axes = _grid(len(measures), "Flatness of the minimum: mean and standard deviation")
    strategies = list(dict.fromkeys(rows["gradient"]))
    for axis, measure in zip(axes, measures, strict=False):
        panels = _panels(rows[rows["measure"] == measure])
        width = 0.8 / len(strategies)
        for place, (_, panel) in enumerate(panels):
            for position, strategy in enumerate(strategies):
                of_strategy = panel[panel["gradient"] == strategy]
                if not of_strategy.empty:
                    axis.bar(
                        place + (position - (len(strategies) - 1) / 2) * width,
                        of_strategy["mean"].iloc[0],
                        width,
                        yerr=np.nan_to_num(of_strategy["deviation"].iloc[0]),
                        color=_colour(rows, strategy),
                        label=strategy if place == 0 else None,
                        error_kw={"lw": 0.8},
                    )
        axis.set_xticks(range(len(panels)), [title for title, _ in panels], fontsize=7)
        axis.set_title(MEASURES[measure], fontsize=9)
        positive = rows[rows["measure"] == measure]["mean"]
        if (positive > 0).all() and positive.max() > 30 * positive.min():
            axis.set_yscale("log")
    axes[0].legend(fontsize=7)
    return figure


def _line_figure(slices: Sequence[dict[str, Any]]) -> Figure:
    """The loss along a line, less its value at the weights, as panels of models."""
    rows = pd.DataFrame(slices)
    panels = _panels(rows)
    figure, axes = _grid(len(panels), "Training loss along a random direction (filter-normalised)")
    for axis, (title, panel) in zip(axes, panels, strict=False):
        for found in panel.to_dict("records"):
            coordinates = found["line"]["coordinates"]
            losses = np.array(found["line"]["losses"])
            at_rest = losses[len(losses) // 2]
            axis.plot(
                coordinates,
                losses - at_rest,
                color=_colour(rows, found["gradient"]),
                label=f"{found['gradient']} (loss {at_rest:.3g})",
            )
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("step over the length of each row", fontsize=8)
        axis.set_ylabel("rise of the loss", fontsize=8)
        axis.legend(fontsize=7)
    return figure


def _square_figure(squares: Sequence[dict[str, Any]]) -> Figure:
    """Contours of the loss over a square, a panel for each cell; a model's panels share levels."""
    rows = pd.DataFrame(squares)
    panels = [
        (f"{title}, {found['gradient']}", found, panel)
        for title, panel in _panels(rows)
        for found in panel.to_dict("records")
    ]
    figure, axes = _grid(len(panels), "Rise of the training loss over two random directions")
    for axis, (title, found, panel) in zip(axes, panels, strict=False):
        highest = max(_rise(other).max() for other in panel["square"])
        levels = np.linspace(0, highest or 1.0, 12)
        coordinates = found["square"]["coordinates"]
        rise = _rise(found["square"])
        drawn = axis.contourf(coordinates, coordinates, rise, levels, cmap="viridis", extend="both")
        figure.colorbar(drawn, ax=axis)
        axis.set_title(title, fontsize=9)
        axis.set_aspect("equal")
    return figure


def _rise(square: dict[str, Any]) -> NDArray[np.float64]:
    losses: NDArray[np.float64] = np.array(square["losses"])
    middle = len(losses) // 2
    rise: NDArray[np.float64] = losses - losses[middle, middle]
    return rise


def _panels(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The rows by everything that varies but the gradient strategy, with a title for each."""
    factors = [name for name in rows.columns[: rows.columns.get_loc("cell")] if name != "gradient"]
    varying = [name for name in factors if rows[name].nunique() > 1] or ["model"]
    return [
        (" ".join(str(level) for level in key), panel)
        for key, panel in rows.groupby(varying, sort=False)
    ]


def _reached_anywhere(rows: pd.DataFrame) -> pd.Series[bool]:
    return rows.groupby(["cell", "risk", "graph"])["reached"].transform("any")


def _colour(rows: pd.DataFrame, strategy: object) -> str:
    strategies = list(dict.fromkeys(rows["gradient"]))
    return _COLOURS[strategies.index(strategy) % len(_COLOURS)]


def _grid(count: int, title: str) -> tuple[Figure, list[Axes]]:
    columns = min(count, _MOST_COLUMNS)
    lines = -(-count // columns)
    figure = Figure(figsize=(_WIDTH * columns, _HEIGHT * lines + 0.5), layout="constrained")
    axes = list(figure.subplots(lines, columns, squeeze=False).flat)
    for axis in axes[count:]:
        axis.set_visible(False)
    for axis in axes:
        axis.tick_params(labelsize=7)
    figure.suptitle(title, fontsize=11)
    return figure, axes
