"""Robustness for people at a terminal, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from mgstudy.report.robustness import RobustnessTables

_FACTORS_END = "cell"


def robustness_content(tables: RobustnessTables) -> dict[str, Any]:
    """Summary and flatness as JSON-like data; missing values are null."""
    return {
        name: json.loads(table.to_json(orient="records", double_precision=15))
        for name, table in (("summary", tables.summary), ("flatness", tables.flatness))
    }


def print_robustness(tables: RobustnessTables, console: Console) -> None:
    """Show a row per cell: its clean score, the area under the drop curve of each risk, and the
    measures of flatness. A star marks what differs significantly from the baseline."""
    if not tables.summary.empty:
        console.print(_drops(tables))
        console.print(
            "Relative drop of the score, averaged over each risk's severities (area under the drop "
            "curve); rebuilt: of models with item graphs, with the graph built anew. "
            "0 (unreached): the scores do not depend on the features. *: differs from plain "
            "(Holm's p < 0.05, bootstrap over users and seeds).",
            style="dim",
            soft_wrap=True,
        )
    if not tables.flatness.empty:
        console.print(_flatness(tables))
        console.print(
            "Mean over replicates. *: differs from plain (Holm's p < 0.05, Welch's t test over "
            "replicates).",
            style="dim",
            soft_wrap=True,
        )


def _drops(tables: RobustnessTables) -> Table:
    summary = tables.summary.copy()
    summary["title"] = [
        risk if graph != "frozen" else f"{risk} ({graph} graph)"
        for risk, graph in zip(summary["risk"], summary["graph"], strict=True)
    ]
    # A frozen graph keeps a score that reads no features as it is: a column of zeros.
    summary = summary[(summary["graph"] != "frozen") | summary["reached"]]
    factors = _varying(summary)
    titles = list(dict.fromkeys(summary["title"]))
    shown = _table([*factors, "clean", *titles], len(factors))
    for _, rows in summary.groupby("cell", sort=False):
        first = rows.iloc[0]
        by_title = {row["title"]: row for row in rows.to_dict("records")}
        shown.add_row(
            *(str(first[factor]) for factor in factors),
            f"{first['clean']:.4f}",
            *(_area(by_title.get(title)) for title in titles),
        )
    return shown


def _flatness(tables: RobustnessTables) -> Table:
    factors = _varying(tables.flatness)
    measures = list(dict.fromkeys(tables.flatness["measure"]))
    shown = _table([*factors, *(name.replace("_", " ") for name in measures)], len(factors))
    for _, rows in tables.flatness.groupby("cell", sort=False):
        by_measure = {row["measure"]: row for row in rows.to_dict("records")}
        shown.add_row(
            *(str(rows.iloc[0][factor]) for factor in factors),
            *(
                f"{by_measure[name]['mean']:.4g}{_star(by_measure[name])}"
                if name in by_measure
                else ""
                for name in measures
            ),
        )
    return shown


def _table(titles: list[str], levels: int) -> Table:
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for position, title in enumerate(titles):
        shown.add_column(title, justify="left" if position < levels else "right")
    return shown


def _varying(table: pd.DataFrame) -> list[str]:
    factors = list(table.columns[: table.columns.get_loc(_FACTORS_END)])
    return [name for name in factors if table[name].nunique() > 1] or ["model"]


def _area(row: Mapping[Hashable, Any] | None) -> str:
    if row is None or pd.isna(row["area"]):
        return ""
    if not row["reached"]:
        return "0 (unreached)"
    return f"{row['area']:+.1%}{_star(row)}"


def _star(row: Mapping[Hashable, Any]) -> str:
    return "*" if row["significant"] else ""
