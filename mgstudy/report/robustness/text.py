"""Robustness for people at a terminal, as Markdown and as JSON."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from mgstudy.report.markdown import markdown_table
from mgstudy.report.robustness.comparison import RobustnessTables

_FACTORS_END = "cell"


def robustness_content(tables: RobustnessTables) -> dict[str, Any]:
    """Summary and flatness as JSON-like data; missing values are null."""
    return {
        name: json.loads(table.to_json(orient="records", double_precision=15))
        for name, table in (("summary", tables.summary), ("flatness", tables.flatness))
    }


@dataclass(frozen=True)
class TextTable:
    """A table of texts.

    Attributes:
        titles: Of the columns.
        rows: A text for each column.
        factors: How many columns tell the cells apart; the others hold numbers.
        caption: What it shows.
    """

    titles: Sequence[str]
    rows: Sequence[Sequence[str]]
    factors: int
    caption: str


def robustness_texts(tables: RobustnessTables) -> list[TextTable]:
    """A row per cell: its clean score and the area under the drop curve of each risk; then the
    measures of flatness. A star marks what differs significantly from the baseline."""
    return [
        *([] if tables.summary.empty else [_drops(tables)]),
        *([] if tables.flatness.empty else [_flatness(tables)]),
    ]


def print_robustness(tables: RobustnessTables, console: Console) -> None:
    """Show the tables of ``robustness_texts``."""
    for texts in robustness_texts(tables):
        shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for place, title in enumerate(texts.titles):
            shown.add_column(title, justify="left" if place < texts.factors else "right")
        for row in texts.rows:
            shown.add_row(*row)
        console.print(shown)
        console.print(texts.caption, style="dim", soft_wrap=True)


def robustness_markdown(tables: RobustnessTables) -> str:
    """The tables of ``robustness_texts`` as Markdown."""
    return "\n\n".join(
        f"{markdown_table(texts.titles, texts.rows, range(texts.factors))}\n\n{texts.caption}"
        for texts in robustness_texts(tables)
    )


def _drops(tables: RobustnessTables) -> TextTable:
    summary = tables.summary.copy()
    summary["title"] = [
        risk if graph != "frozen" else f"{risk} ({graph} graph)"
        for risk, graph in zip(summary["risk"], summary["graph"], strict=True)
    ]
    # A frozen graph keeps a score that reads no features as it is: a column of zeros.
    summary = summary[(summary["graph"] != "frozen") | summary["reached"]]
    factors = _varying(summary)
    titles = list(dict.fromkeys(summary["title"]))
    rows = []
    for _, of_cell in summary.groupby("cell", sort=False):
        first = of_cell.iloc[0]
        by_title = {row["title"]: row for row in of_cell.to_dict("records")}
        rows.append(
            [
                *(str(first[factor]) for factor in factors),
                f"{first['clean']:.4f}",
                *(_area(by_title.get(title)) for title in titles),
            ]
        )
    return TextTable(
        [*factors, "clean", *(title.replace("_", " ") for title in titles)],
        rows,
        len(factors),
        "Relative drop of the score, averaged over each risk's severities (area under the drop "
        "curve); of models with item graphs, with the graph built anew unless it says frozen. "
        "0 (unreached): the scores do not depend on the features. *: differs from plain "
        "(Holm's p < 0.05, bootstrap over users and seeds).",
    )


def _flatness(tables: RobustnessTables) -> TextTable:
    factors = _varying(tables.flatness)
    measures = list(dict.fromkeys(tables.flatness["measure"]))
    rows = []
    for _, of_cell in tables.flatness.groupby("cell", sort=False):
        by_measure = {row["measure"]: row for row in of_cell.to_dict("records")}
        rows.append(
            [
                *(str(of_cell.iloc[0][factor]) for factor in factors),
                *(
                    f"{by_measure[name]['mean']:.4g}{_star(by_measure[name])}"
                    if name in by_measure
                    else ""
                    for name in measures
                ),
            ]
        )
    return TextTable(
        [*factors, *(name.replace("_", " ") for name in measures)],
        rows,
        len(factors),
        "Mean over replicates. *: differs from plain (Holm's p < 0.05, Welch's t test over "
        "replicates).",
    )


def _varying(table: pd.DataFrame) -> list[str]:
    factors = list(table.columns[: table.columns.get_loc(_FACTORS_END)])
    return [name for name in factors if table[name].nunique() > 1] or ["model"]


def _area(row: Mapping[Hashable, Any] | None) -> str:
    if row is None or pd.isna(row["area"]):
        return ""
    if not row["reached"]:
        return "0 (unreached)"
    return f"{row['area']:+z.1%}{_star(row)}"


def _star(row: Mapping[Hashable, Any]) -> str:
    return "*" if row["significant"] else ""
