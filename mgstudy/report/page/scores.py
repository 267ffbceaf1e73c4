"""The figures of scores: of every cell, of its best trial by epoch, and against robustness."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mgstudy.report.comparison.studies import Comparison
from mgstudy.report.figures import Drawing, Figure, Panel, Series
from mgstudy.report.numbers import percent, score
from mgstudy.report.table import Table
from mgstudy.study.search.state import CellState

_AREA = "area/"
_ON = {
    "test": "on the test split; cells without a model confirmed there are left out",
    "validation": "on the validation split that chose them",
}


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


def accuracy_against_robustness(drawing: Drawing, measured: pd.DataFrame) -> list[Figure | Table]:
    """The clean score of every measured cell against the area under its drop curve.

    Args:
        drawing: The study.
        measured: What ``mgstudy.report.robustness.comparison.load_robustness`` returns for it.

    Returns:
        A figure with a panel for each dataset and risk, and a table; nothing if no cell of the
        study was measured.
    """
    by_key = {cell.key: cell for cell in drawing.summary.cells}
    rows = [row for row in _records(measured) if row["cell"] in by_key]
    risks = [str(name).removeprefix(_AREA) for name in measured if str(name).startswith(_AREA)]
    datasets = list(dict.fromkeys(by_key[row["cell"]].levels["dataset"] for row in rows))
    split = str(measured["split"].iloc[0]) if rows else ""
    panels = []
    for dataset in datasets:
        of_dataset = [row for row in rows if by_key[row["cell"]].levels["dataset"] == dataset]
        for risk in risks:
            title = risk.replace("_", " ")
            title = f"{dataset} · {title}" if len(datasets) > 1 else title
            series = _dots(drawing, of_dataset, risk)
            if series:
                panels.append(
                    Panel(
                        title=title,
                        x_label=f"{drawing.summary.objective} on {split}, clean",
                        y_label="area under the drop curve (%)",
                        description=f"Clean {drawing.summary.objective} against the area under "
                        f"the drop curve, {title}: "
                        + "; ".join(
                            hover.replace("<br>", ", ") for entry in series for hover in entry.hover
                        ),
                        series=series,
                    )
                )
    if not panels:
        return []
    shown = {entry.look.label for panel in panels for entry in panel.series}
    return [
        Figure(
            "robustness",
            "A dot is a cell: its score on the features it was trained with, and the relative "
            "drop of that score averaged over the severities of a risk (the area under the drop "
            "curve over the length of its axis), means over the measured replicates, "
            f"{_ON[split]}. The best place is the lower right: a high score that the risk hardly "
            "lowers. An area of exactly 0 may mean that the model's scores read no features.",
            panels,
            tuple(look for label, look in drawing.looks().items() if label in shown),
        ),
        _areas_table(drawing, rows, risks),
    ]


def _dots(drawing: Drawing, rows: Sequence[Mapping[str, Any]], risk: str) -> list[Series]:
    by_key = {cell.key: cell for cell in drawing.summary.cells}
    found = []
    for label, look in drawing.looks().items():
        dots = [
            row
            for row in rows
            if drawing.label(by_key[row["cell"]]) == label and not pd.isna(row[_AREA + risk])
        ]
        if dots:
            names = [_name(drawing, by_key[row["cell"]].levels) for row in dots]
            found.append(
                Series(
                    look,
                    [float(row["clean"]) for row in dots],
                    [100 * float(row[_AREA + risk]) for row in dots],
                    hover=[
                        f"{name}, {label}<br>clean {score(row['clean'])}, "
                        f"area {percent(row[_AREA + risk])}"
                        for name, row in zip(names, dots, strict=True)
                    ],
                )
            )
    return found


def _name(drawing: Drawing, levels: Mapping[str, str]) -> str:
    return " · ".join(
        levels[name] for name in drawing.panel_factors() or ["model"] if name != "dataset"
    )


def _areas_table(
    drawing: Drawing, rows: Sequence[Mapping[str, Any]], risks: Sequence[str]
) -> Table:
    factors = drawing.summary.varying_factors() or ["model"]
    levels = {cell.key: cell.levels for cell in drawing.summary.cells}
    return Table(
        [*factors, "clean", *(risk.replace("_", " ") for risk in risks)],
        [
            [
                *(levels[row["cell"]][name] for name in factors),
                score(row["clean"]),
                *(percent(row[_AREA + risk]) for risk in risks),
            ]
            for row in rows
        ],
        range(len(factors)),
        "Score on the features it was trained with, and the area under the drop curve of every "
        f"risk: lower is more robust. `mgstudy robustness {drawing.summary.name}` shows which "
        "differences are significant.",
    )


def _records(measured: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(k): v for k, v in row.items()} for row in measured.to_dict("records")]
