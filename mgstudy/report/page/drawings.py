"""The figures of a study's report."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import griddata

from mgstudy.report.comparison import Comparison
from mgstudy.report.page.figures import Figure, Look, Panel, Series, Surface, looks
from mgstudy.study.summary import CellSummary, StudySummary, TrialSummary

_MOST_VALUES_WITH_A_MEDIAN = 10
_TRIALS_BEHIND_A_MEDIAN = 2
_FEWEST_TRIALS_FOR_A_SURFACE = 10
_GRID = 40
_STRENGTH_FACTORS = ("gradient", "robust")


@dataclass(frozen=True)
class Drawing:
    """What every figure of a study needs.

    Attributes:
        summary: The study.
        baseline: Levels that make a cell a baseline.
        logarithmic: Full names of the parameters that are searched on a logarithmic scale.
    """

    summary: StudySummary
    baseline: Mapping[str, str]
    logarithmic: frozenset[str]

    @property
    def compared(self) -> tuple[str, ...]:
        """The factors that the baseline fixes: their levels are what is compared in a panel."""
        return tuple(self.baseline)

    def panel_factors(self) -> list[str]:
        """The other factors that vary: each combination of their levels has a panel."""
        return [name for name in self.summary.varying_factors() if name not in self.baseline]

    def label(self, cell: CellSummary) -> str:
        """What a cell is called inside its panel."""
        return " ".join(cell.levels[factor] for factor in self.compared)

    def looks(self) -> dict[str, Look]:
        """How each label looks, the same in every figure."""
        labels = list(dict.fromkeys(self.label(cell) for cell in self.summary.cells))
        return looks(labels, " ".join(self.baseline.values()))

    def panels(self) -> Iterator[tuple[str, list[CellSummary]]]:
        """The title and the cells of every panel."""
        factors = self.panel_factors()
        grouped: dict[tuple[str, ...], list[CellSummary]] = {}
        for cell in self.summary.cells:
            grouped.setdefault(tuple(cell.levels[name] for name in factors), []).append(cell)
        for levels, cells in grouped.items():
            yield " · ".join(levels) or cells[0].levels["model"], cells


def baseline_cell(
    cell: CellSummary, cells: Sequence[CellSummary], baseline: Mapping[str, str]
) -> CellSummary | None:
    """The cell that differs from ``cell`` only in having the baseline's levels; ``None`` if that
    is the cell itself or there is none."""
    wanted = {**cell.levels, **baseline}
    if wanted == dict(cell.levels):
        return None
    return next((other for other in cells if dict(other.levels) == wanted), None)


def scores(drawing: Drawing, comparison: Comparison) -> Figure | None:
    """The mean score of every cell with its interval, cells of a panel in one row.

    Args:
        drawing: The study.
        comparison: Its cells beside their baselines.
    """
    known, objective = drawing.looks(), comparison.objective
    found = {row["cell"]: row for row in comparison.of(objective).to_dict("records")}
    by_dataset: dict[str, list[tuple[str, CellSummary]]] = {}
    for title, cells in drawing.panels():
        for cell in cells:
            by_dataset.setdefault(cell.levels["dataset"], []).append((title, cell))
    panels = []
    for dataset, named in by_dataset.items():
        series = []
        for label, look in known.items():
            rows = [
                (title, found[cell.key])
                for title, cell in named
                if drawing.label(cell) == label and not math.isnan(found[cell.key]["mean"])
            ]
            if rows:
                is_spread = any(not math.isnan(row["low"]) for _, row in rows)
                series.append(
                    Series(
                        look,
                        [row["mean"] for _, row in rows],
                        [title for title, _ in rows],
                        low=[_or(row["low"], row["mean"]) for _, row in rows]
                        if is_spread
                        else None,
                        high=[_or(row["high"], row["mean"]) for _, row in rows]
                        if is_spread
                        else None,
                        hover=[f"{title}, {label}: {row['mean']:.4f}" for title, row in rows],
                    )
                )
        if series:
            popularity = found[named[0][1].key]["popularity"]
            panels.append(
                Panel(
                    title=dataset,
                    x_label=f"{objective} on {comparison.split}",
                    y_label="",
                    description=f"{objective} on {comparison.split} of {dataset}: "
                    + "; ".join(hover for entry in series for hover in entry.hover),
                    series=series,
                    reference=None if math.isnan(popularity) else (popularity, "popularity"),
                    categories=list(dict.fromkeys(title for title, _ in named)),
                )
            )
    if not panels:
        return None
    meaning = (
        "Dots are means over seeds on the test split, bars their 95 % intervals."
        if comparison.split == "test"
        else "Dots are the best trials' scores on the validation split that chose them: one seed "
        "each, and no interval."
    )
    return Figure(
        "scores",
        f"{meaning} The dotted line is ranking by popularity alone.",
        panels,
        tuple(known.values()),
        wide=True,
    )


def _or(value: float, otherwise: float) -> float:
    return otherwise if math.isnan(value) else value


def curves(drawing: Drawing) -> Figure | None:
    """The validation objective by epoch of each cell's best trial."""
    known = drawing.looks()
    panels = []
    for title, cells in drawing.panels():
        trials = [(cell, cell.best) for cell in cells if cell.best is not None]
        series = [
            Series(
                look=known[drawing.label(cell)],
                x=sorted(best.values),
                y=[best.values[epoch] for epoch in sorted(best.values)],
                shape="line",
                hover=[
                    f"{drawing.label(cell)}, trial {best.number}<br>epoch {epoch}: "
                    f"{best.values[epoch]:.4f}"
                    for epoch in sorted(best.values)
                ],
            )
            for cell, best in trials
            if best is not None
        ]
        if series:
            ends = "; ".join(
                f"{drawing.label(cell)} ends at epoch {max(best.values)} "
                f"with its best {best.value:.4f} at epoch {best.outcome.get('best_epoch', '?')}"
                for cell, best in trials
                if best is not None and best.values
            )
            panels.append(
                Panel(
                    title,
                    "epoch",
                    drawing.summary.objective,
                    f"Learning curves, {title}: {ends}",
                    series,
                )
            )
    if not panels:
        return None
    return Figure(
        "curves",
        f"Validation {drawing.summary.objective} after every epoch of each cell's best trial. "
        "A curve ends where early stopping ended the training.",
        panels,
        tuple(known.values()),
    )


def strengths(drawing: Drawing) -> Figure | None:
    """The score of every completed trial over each searched strength of what is compared."""
    known = drawing.looks()
    panels = []
    for title, cells in drawing.panels():
        reference = _baseline_best(drawing, cells)
        for name in _strength_names(cells):
            series = []
            for cell in cells:
                if name in cell.searched:
                    series += _marginal(known[drawing.label(cell)], cell, name)
            short = name.rpartition(".")[2]
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
    shown = {label: look for label, look in known.items() if _searches_strength(drawing, label)}
    return Figure(
        "strengths",
        f"Best validation {drawing.summary.objective} of every completed trial over the strengths "
        "that were searched; the other parameters differ from dot to dot. Lines, where values "
        "repeat, join their medians. The dotted line is the baseline's best trial: dots above "
        "it are settings that beat it in the search.",
        panels,
        tuple(shown.values()),
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


def _strength_names(cells: Sequence[CellSummary]) -> list[str]:
    return list(
        dict.fromkeys(
            name
            for cell in cells
            for trial in cell.trials[:1]
            for name in trial.parameters
            if name in cell.searched and name.partition(".")[0] in _STRENGTH_FACTORS
        )
    )


def _searches_strength(drawing: Drawing, label: str) -> bool:
    cells = [cell for cell in drawing.summary.cells if drawing.label(cell) == label]
    return bool(_strength_names(cells))


def _completed(cell: CellSummary) -> list[TrialSummary]:
    return [trial for trial in cell.trials if trial.value is not None]


def _is_numeric(cell: CellSummary, name: str) -> bool:
    values = [trial.parameters.get(name) for trial in cell.trials]
    return bool(values) and all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in values
    )


def _marginal(look: Look, cell: CellSummary, name: str) -> list[Series]:
    trials = _completed(cell)
    if not trials or not _is_numeric(cell, name):
        return []
    points = [(float(trial.parameters[name]), float(trial.value or 0.0)) for trial in trials]
    short = name.rpartition(".")[2]
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


def _extremes(cells: Sequence[CellSummary], name: str) -> str:
    best = max(
        (trial for cell in cells if name in cell.searched for trial in _completed(cell)),
        key=lambda trial: trial.value or 0.0,
        default=None,
    )
    if best is None or best.value is None:
        return "no completed trial"
    return f"the best is {best.value:.4f} at {best.parameters[name]}"


def _baseline_best(drawing: Drawing, cells: Sequence[CellSummary]) -> tuple[float, str] | None:
    for cell in cells:
        other = baseline_cell(cell, drawing.summary.cells, drawing.baseline)
        if other is not None and other.best is not None and other.best.value is not None:
            return other.best.value, f"best {drawing.label(other)}"
    return None


def _surface_panel(
    drawing: Drawing, title: str, trials: Sequence[TrialSummary], names: Sequence[str]
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
    short = [name.rpartition(".")[2] for name in names]
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
