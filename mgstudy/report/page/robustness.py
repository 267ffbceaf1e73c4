"""Accuracy against robustness: a plot for each risk, and the numbers behind the dots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mgstudy.report.numbers import percent, score
from mgstudy.report.page.drawing import Drawing
from mgstudy.report.page.figures import Figure, Panel, Series
from mgstudy.report.table import Table

_AREA = "area/"
_ON = {
    "test": "on the test split; cells without a model confirmed there are left out",
    "validation": "on the validation split that chose them",
}


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
            series = _series(drawing, of_dataset, risk)
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
        _table(drawing, rows, risks),
    ]


def _series(drawing: Drawing, rows: Sequence[Mapping[str, Any]], risk: str) -> list[Series]:
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


def _table(drawing: Drawing, rows: Sequence[Mapping[str, Any]], risks: Sequence[str]) -> Table:
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
