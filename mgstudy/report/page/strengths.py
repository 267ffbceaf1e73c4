"""The figures of the strengths that were searched: marginal and two at a time."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np
from scipy.interpolate import griddata

from mgstudy.report.figures import Drawing, Figure, Look, Panel, Series, Surface
from mgstudy.report.texts import parameter_names
from mgstudy.study.search.rounds import baseline_of
from mgstudy.study.search.state import CellState
from mgstudy.study.search.trials import RecordedTrial, best_of

_MOST_VALUES_WITH_A_MEDIAN = 10
_TRIALS_BEHIND_A_MEDIAN = 2
_FEWEST_TRIALS_FOR_A_SURFACE = 10
_GRID = 40
_STRENGTH_FACTORS = ("gradient", "robust")


def strengths(drawing: Drawing) -> Figure | None:
    """The score of every completed trial over each searched strength of what is compared."""
    known, panels = drawing.looks(), []
    called = parameter_names(cell.searched for cell in drawing.summary.cells)
    for title, cells in drawing.panels():
        reference = _baseline_best(drawing, cells)
        for name in _strength_names(cells):
            series, short = [], called[name]
            for cell in cells:
                if name in cell.searched:
                    series += _marginal(known[drawing.label(cell)], cell, name, short)
            if series:
                panels.append(
                    Panel(
                        title=f"{title}: {short}",
                        x_label=short,
                        y_label=drawing.summary.objective,
                        description=f"Scores of trials of {title} over {short}: "
                        + _extremes(cells, name),
                        series=series,
                        reference=reference,
                        x_is_logarithmic=name in drawing.logarithmic,
                    )
                )
    if not panels:
        return None
    shown = dict.fromkeys(series.look for panel in panels for series in panel.series)
    return Figure(
        "strengths",
        f"Best validation {drawing.summary.objective} of every completed trial over the strengths "
        "that were searched; the other parameters differ from dot to dot. Lines, where values "
        "repeat, join their medians. The dotted line is the baseline's best trial: dots above "
        "it are settings that beat it in the search.",
        panels,
        tuple(shown),
    )


def surfaces(drawing: Drawing) -> Figure | None:
    """The score over two strengths at a time, interpolated between completed trials."""
    panels = []
    for title, cells in drawing.panels():
        for cell in cells:
            names = [name for name in _strength_names([cell]) if _is_numeric(cell, name)][:2]
            trials = _completed(cell)
            if len(names) < 2 or len(trials) < _FEWEST_TRIALS_FOR_A_SURFACE:
                continue
            panel = _surface_panel(drawing, f"{title}, {drawing.label(cell)}", trials, names)
            if panel is not None:
                panels.append(panel)
    if not panels:
        return None
    return Figure(
        "surfaces",
        f"Validation {drawing.summary.objective} over two strengths at once. Dots are completed "
        "trials; the colour between them is linear interpolation, and nothing is known outside "
        "them.",
        panels,
    )


def _strength_names(cells: Sequence[CellState]) -> list[str]:
    return list(
        dict.fromkeys(
            name
            for cell in cells
            for trial in cell.trials[:1]
            for name in trial.parameters
            if name in cell.searched and name.partition(".")[0] in _STRENGTH_FACTORS
        )
    )


def _completed(cell: CellState) -> list[RecordedTrial]:
    return [trial for trial in cell.trials if trial.value is not None]


def _is_numeric(cell: CellState, name: str) -> bool:
    values = [trial.parameters.get(name) for trial in cell.trials]
    return bool(values) and all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in values
    )


def _marginal(look: Look, cell: CellState, name: str, short: str) -> list[Series]:
    trials = _completed(cell)
    if not trials or not _is_numeric(cell, name):
        return []
    points = [(float(trial.parameters[name]), float(trial.value or 0.0)) for trial in trials]
    dots = Series(
        look,
        [x for x, _ in points],
        [y for _, y in points],
        hover=[
            f"{look.label}, trial {trial.number}<br>{short} {x:.3g}: {y:.4f}"
            for trial, (x, y) in zip(trials, points, strict=True)
        ],
    )
    by_value: dict[float, list[float]] = {}
    for x, y in points:
        by_value.setdefault(x, []).append(y)
    is_repeated = len(points) >= _TRIALS_BEHIND_A_MEDIAN * len(by_value)
    if not is_repeated or not 1 < len(by_value) <= _MOST_VALUES_WITH_A_MEDIAN:
        return [dots]
    ascending = sorted(by_value)
    medians = [statistics.median(by_value[x]) for x in ascending]
    return [dots, Series(look, ascending, medians, shape="line")]


def _extremes(cells: Sequence[CellState], name: str) -> str:
    best = best_of(cell.best for cell in cells if name in cell.searched and cell.best is not None)
    if best is None:
        return "no completed trial"
    return f"the best is {best.value:.4f} at {best.parameters[name]}"


def _baseline_best(drawing: Drawing, cells: Sequence[CellState]) -> tuple[float, str] | None:
    for cell in cells:
        other = baseline_of(cell, drawing.summary.cells, drawing.baseline)
        if other is not None and other.best is not None and other.best.value is not None:
            return other.best.value, f"best {drawing.label(other)}"
    return None


def _surface_panel(
    drawing: Drawing, title: str, trials: Sequence[RecordedTrial], names: Sequence[str]
) -> Panel | None:
    points = np.array([[float(trial.parameters[name]) for name in names] for trial in trials])
    scores = np.array([float(trial.value or 0.0) for trial in trials])
    axes, scaled = [], []
    for column, name in enumerate(names):
        values = points[:, column]
        low, high = values.min(), values.max()
        if low == high:
            return None
        is_logarithmic = name in drawing.logarithmic
        axis = np.geomspace(low, high, _GRID) if is_logarithmic else np.linspace(low, high, _GRID)
        scale = np.log if is_logarithmic else np.asarray
        axes.append(axis)
        # Both axes from 0 to 1: neighbours are then judged by the range that was searched.
        start, width = scale(low), scale(high) - scale(low)
        scaled.append(((scale(values) - start) / width, (scale(axis) - start) / width))
    if len(np.unique(points, axis=0)) < 4:  # Not enough for a triangle and its neighbour.
        return None
    z = griddata(
        np.stack([places for places, _ in scaled], axis=1),
        scores,
        tuple(np.meshgrid(*(grid for _, grid in scaled))),
        method="linear",
    )
    called = parameter_names(cell.searched for cell in drawing.summary.cells)
    short = [called[name] for name in names]
    best = trials[int(scores.argmax())]
    return Panel(
        title=title,
        x_label=short[0],
        y_label=short[1],
        description=f"{drawing.summary.objective} over {short[0]} and {short[1]}, {title}: the "
        f"best completed trial has {best.parameters[names[0]]:.3g} and "
        f"{best.parameters[names[1]]:.3g}.",
        series=[
            Series(
                Look("completed trials", "#ffffff", "circle"),
                points[:, 0].tolist(),
                points[:, 1].tolist(),
                hover=[
                    f"trial {trial.number}: {trial.value:.4f}<br>{short[0]} {x:.3g}, "
                    f"{short[1]} {y:.3g}"
                    for trial, (x, y) in zip(trials, points, strict=True)
                ],
            )
        ],
        surface=Surface(axes[0], axes[1], z, drawing.summary.objective),
        x_is_logarithmic=names[0] in drawing.logarithmic,
    )
