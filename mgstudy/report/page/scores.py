"""The figures of scores: of every cell, and of its best trial by epoch."""

from __future__ import annotations

import math

from mgstudy.report.comparison.studies import Comparison
from mgstudy.report.page.drawing import Drawing
from mgstudy.report.page.figures import Figure, Panel, Series
from mgstudy.study.search.state import CellState


def scores(drawing: Drawing, comparison: Comparison) -> Figure | None:
    """The mean score of every cell with its interval, cells of a panel in one row.

    Args:
        drawing: The study.
        comparison: Its cells beside their baselines.
    """
    known, objective = drawing.looks(), comparison.objective
    found = {row["cell"]: row for row in comparison.of(objective).to_dict("records")}
    by_dataset: dict[str, list[tuple[str, CellState]]] = {}
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
