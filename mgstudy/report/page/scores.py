"""The figures of scores: of every cell, of its best trial by epoch, and against robustness."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mgstudy.report.comparison.answer import pooled, tested
from mgstudy.report.comparison.studies import Comparison
from mgstudy.report.figures import Drawing, Figure, Look, Panel, Series
from mgstudy.report.table import Table
from mgstudy.report.texts import percent, score
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
    looks, objective = drawing.looks(), comparison.objective
    found = {row["cell"]: row for row in comparison.of(objective).to_dict("records")}
    by_dataset: dict[str, list[tuple[str, CellState]]] = {}
    for title, cells in drawing.panels():
        for cell in cells:
            by_dataset.setdefault(cell.levels["dataset"], []).append((title, cell))
    panels = []
    for dataset, named in by_dataset.items():
        series = []
        for label, look in looks.items():
            rows = [(t, found[cell.key]) for t, cell in named if drawing.label(cell) == label]
            if scored := [(t, row) for t, row in rows if not math.isnan(row["mean"])]:
                series.append(_means(look, scored))
        if series:
            popularity = found[named[0][1].key]["popularity"]
            panels.append(
                Panel(
                    title=dataset,
                    x_label=f"{objective} on {comparison.split}",
                    y_label="",
                    description=f"{objective} on {comparison.split} of {dataset}: {_said(series)}",
                    series=series,
                    reference=None if math.isnan(popularity) else (popularity, "popularity"),
                    categories=list(dict.fromkeys(title for title, _ in named)),
                )
            )
    meaning = (
        "Dots are means over seeds on the test split, bars their 95 % intervals."
        if comparison.split == "test"
        else "Dots are the best trials' scores on the validation split that chose them: one seed "
        "each, and no interval."
    )
    caption = f"{meaning} The dotted line is ranking by popularity alone."
    return Figure("scores", caption, panels, tuple(looks.values()), wide=True) if panels else None


def differences(drawing: Drawing, comparison: Comparison) -> Figure | None:
    """The forest plot: the relative difference of every cell from its baseline with its interval,
    and what they come to when pooled; nothing where no cell was tested."""
    rows, looks = tested(comparison), drawing.looks()
    if rows.empty:
        return None
    factors = [name for name in drawing.panel_factors() if name != "dataset"] or ["model"]
    names = rows[factors].astype(str).agg(" · ".join, axis=1)
    against = ", ".join(comparison.baseline.values())
    x_label = f"{comparison.objective} against {against} (%)"
    panels = []
    for dataset, of_dataset in rows.assign(name=names).groupby("dataset", sort=False):
        series = []
        for label, found in of_dataset.groupby("label", sort=False):
            scale = found["relative_difference"] / found["difference"]
            scale = scale.where(found["difference"] != 0, 1 / found["baseline_mean"].abs())
            numbers = (
                [float(value) for value in values]
                for values in (
                    found["relative_difference"],
                    found["difference_low"] * scale,
                    found["difference_high"] * scale,
                )
            )
            series.append(_forest(looks[str(label)], list(found["name"]), *numbers))
        panels.append(_forest_panel(str(dataset), x_label, series))
    together = [
        _forest(
            looks[estimate.label],
            [f"{estimate.label} ({estimate.comparisons})"],
            [estimate.estimate],
            [estimate.low],
            [estimate.high],
        )
        for estimate in pooled(comparison)
    ]
    if together:
        panels.append(_forest_panel("pooled (comparisons)", x_label, together))
    caption = (
        "What each cell scores beside its baseline, as a share of the baseline's score: the "
        "difference of the confirmed configurations on the test split with its 95 % interval over "
        "seeds. The luck of the searches is not in the intervals; the table's verdicts have it."
    )
    if together:
        caption += (
            " Pooled: the mean over models and datasets with its 95 % interval, from a "
            "random-effects meta-analysis (Paule and Mandel; Hartung and Knapp)."
        )
    shown = tuple(look for label, look in looks.items() if label in set(rows["label"]))
    return Figure("differences", caption, panels, shown, wide=True)


def _forest(
    look: Look,
    names: Sequence[str],
    means: Sequence[float],
    lows: Sequence[float],
    highs: Sequence[float],
) -> Series:
    """Relative differences with their intervals, in percent."""
    x, low, high = ([100 * float(value) for value in values] for values in (means, lows, highs))
    hover = [
        f"{name}, {look.label}: {at:+.1f} % ({first:+.1f} to {last:+.1f} %)"
        for name, at, first, last in zip(names, x, low, high, strict=True)
    ]
    return Series(look, x, list(names), low=low, high=high, hover=hover)


def _forest_panel(title: str, x_label: str, series: Sequence[Series]) -> Panel:
    names = dict.fromkeys(str(name) for entry in series for name in entry.y)
    return Panel(
        title=title,
        x_label=x_label,
        y_label="",
        description=f"{x_label}, {title}: {_said(series)}",
        series=series,
        reference=(0.0, "no difference"),
        categories=list(names),
    )


def _means(look: Look, rows: Sequence[tuple[str, Mapping[Any, Any]]]) -> Series:
    low, high = (
        [row["mean"] if math.isnan(row[end]) else row[end] for _, row in rows]
        for end in ("low", "high")
    )
    is_spread = any(not math.isnan(row["low"]) for _, row in rows)
    return Series(
        look,
        [row["mean"] for _, row in rows],
        [title for title, _ in rows],
        low=low if is_spread else None,
        high=high if is_spread else None,
        hover=[f"{title}, {look.label}: {row['mean']:.4f}" for title, row in rows],
    )


def curves(drawing: Drawing) -> Figure | None:
    """The validation objective by epoch of each cell's best trial."""
    looks, objective, panels = drawing.looks(), drawing.summary.objective, []
    for title, cells in drawing.panels():
        series, ends = [], []
        for cell in cells:
            if (best := cell.best) is None:
                continue
            label, epochs = drawing.label(cell), sorted(best.values)
            values = [best.values[epoch] for epoch in epochs]
            hover = [
                f"{label}, trial {best.number}<br>epoch {epoch}: {value:.4f}"
                for epoch, value in zip(epochs, values, strict=True)
            ]
            series.append(Series(looks[label], epochs, values, shape="line", hover=hover))
            if epochs:
                ends.append(
                    f"{label} ends at epoch {epochs[-1]} with its best {best.value:.4f} at epoch "
                    f"{best.outcome.get('best_epoch', '?')}"
                )
        if series:
            said = f"Learning curves, {title}: {'; '.join(ends)}"
            panels.append(Panel(title, "epoch", objective, said, series))
    caption = (
        f"Validation {objective} after every epoch of each cell's best trial. A curve ends where "
        "early stopping ended the training."
    )
    return Figure("curves", caption, panels, tuple(looks.values())) if panels else None


def accuracy_against_robustness(drawing: Drawing, measured: pd.DataFrame) -> list[Figure | Table]:
    """The clean score of every measured cell against the area under its drop curve.

    Args:
        drawing: The study.
        measured: What ``StudyResults.robustness`` returns for it.

    Returns:
        A figure with a panel for each dataset and risk, and a table; nothing if no cell of the
        study was measured.
    """
    by_key = {cell.key: cell for cell in drawing.summary.cells}
    rows = [
        (by_key[row["cell"]], {str(name): value for name, value in row.items()})
        for row in measured.to_dict("records")
        if row["cell"] in by_key
    ]
    risks = [str(name).removeprefix(_AREA) for name in measured if str(name).startswith(_AREA)]
    datasets = list(dict.fromkeys(cell.levels["dataset"] for cell, _ in rows))
    objective, split = (
        drawing.summary.clean_objective,
        str(measured["split"].iloc[0]) if rows else "",
    )
    panels = []
    for dataset in datasets:
        of_dataset = [(cell, row) for cell, row in rows if cell.levels["dataset"] == dataset]
        for risk in risks:
            called = risk.replace("_", " ")
            title = f"{dataset} · {called}" if len(datasets) > 1 else called
            if series := _dots(drawing, of_dataset, risk):
                panels.append(
                    Panel(
                        title=title,
                        x_label=f"{objective} on {split}, clean",
                        y_label="area under the drop curve (%)",
                        description=f"Clean {objective} against the area under the drop curve, "
                        f"{title}: {_said(series).replace('<br>', ', ')}",
                        series=series,
                    )
                )
    if not panels:
        return []
    shown = {entry.look.label for panel in panels for entry in panel.series}
    figure = Figure(
        "robustness",
        "A dot is a cell: its score on the features it was trained with, and the relative drop of "
        "that score averaged over the severities of a risk (the area under the drop curve over "
        f"the length of its axis), means over the measured replicates, {_ON[split]}. The best "
        "place is the lower right: a high score that the risk hardly lowers. An area of exactly 0 "
        "may mean that the model's scores read no features.",
        panels,
        tuple(look for label, look in drawing.looks().items() if label in shown),
    )
    table = Table.of_cells(
        [
            (cell.levels, [score(row["clean"]), *(percent(row[_AREA + risk]) for risk in risks)])
            for cell, row in rows
        ],
        ["clean", *(risk.replace("_", " ") for risk in risks)],
        among=[cell.levels for cell in drawing.summary.cells],
        caption="Score on the features it was trained with, and the area under the drop curve of "
        f"every risk: lower is more robust. `mgstudy robustness {drawing.summary.name}` shows "
        "which differences are significant.",
    )
    return [figure, table]


def _dots(
    drawing: Drawing, rows: Sequence[tuple[CellState, Mapping[str, Any]]], risk: str
) -> list[Series]:
    factors = [name for name in drawing.panel_factors() or ["model"] if name != "dataset"]
    found = []
    for label, look in drawing.looks().items():
        dots = [
            (
                " · ".join(filter(None, map(cell.levels.get, factors))),
                row["clean"],
                row[_AREA + risk],
            )
            for cell, row in rows
            if drawing.label(cell) == label and not pd.isna(row[_AREA + risk])
        ]
        if dots:
            hover = [
                f"{name}, {label}<br>clean {score(clean)}, area {percent(area)}"
                for name, clean, area in dots
            ]
            areas = [100 * float(area) for *_, area in dots]
            found.append(Series(look, [float(clean) for _, clean, _ in dots], areas, hover=hover))
    return found


def _said(series: Sequence[Series]) -> str:
    return "; ".join(hover for entry in series for hover in entry.hover)
