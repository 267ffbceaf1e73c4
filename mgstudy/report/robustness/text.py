"""Robustness for people at a terminal, as Markdown and as JSON."""

from __future__ import annotations

import json
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
from rich.console import Console

from mgstudy.report.numbers import percent, score
from mgstudy.report.robustness.comparison import RobustnessTables
from mgstudy.report.table import Table
from mgstudy.robustness.trained_model import ItemGraph

_SPLITS = {"test": "test split", "validation": "validation split, of cells that are not confirmed"}


def robustness_content(tables: RobustnessTables) -> dict[str, Any]:
    """Summary and flatness as JSON-like data; missing values are null."""
    return {
        name: json.loads(table.to_json(orient="records", double_precision=15))
        for name, table in (("summary", tables.summary), ("flatness", tables.flatness))
    }


def robustness_texts(tables: RobustnessTables) -> list[Table]:
    """A row per cell: its clean score and the area under the drop curve of each risk, in a table
    for each split; then the measures of flatness. A star marks what differs significantly from the
    baseline."""
    return [
        *_drops(tables.summary),
        *([] if tables.flatness.empty else [_flatness(tables.flatness)]),
    ]


def print_robustness(tables: RobustnessTables, console: Console) -> None:
    """Show the tables of ``robustness_texts``."""
    for table in robustness_texts(tables):
        console.print(table.rich(), highlight=False)
        console.print(table.caption, style="dim", soft_wrap=True)


def robustness_markdown(tables: RobustnessTables) -> str:
    """The tables of ``robustness_texts`` as Markdown."""
    return "\n\n".join(
        f"{table.markdown()}\n\n{table.caption}" for table in robustness_texts(tables)
    )


def _drops(summary: pd.DataFrame) -> Iterator[Table]:
    """A table for each split that cells were measured on."""
    if summary.empty:
        return
    is_frozen = summary["graph"] == ItemGraph.FROZEN.value
    titles = summary["risk"].str.replace("_", " ") + is_frozen.map(
        {True: " (frozen graph)", False: ""}
    )
    summary = summary.assign(
        title=titles,
        clean=summary["clean"].map(score),
        text=[_area(row) for row in summary.to_dict("records")],
    )
    # A frozen graph keeps a score that reads no features as it is: a column of zeros.
    summary = summary[~is_frozen | summary["reached"]]
    factors = _varying(summary)
    for split, named in _SPLITS.items():
        rows = summary[summary["split"] == split]
        if not rows.empty:
            yield _cells_table(
                rows,
                [*factors, "clean"],
                "title",
                f"Relative drop of the score on the {named}, averaged over each risk's severities "
                "(area under the drop curve); of models with item graphs, with the graph built "
                "anew unless it says frozen. 0 (unreached): the scores do not depend on the "
                "features. *: differs from plain on the same split (Holm's p < 0.05, bootstrap "
                "over users and seeds).",
                texts=range(len(factors)),
            )


def _flatness(table: pd.DataFrame) -> Table:
    texts = [f"{row['mean']:.4g}{_star(row)}" for row in table.to_dict("records")]
    measures = table["measure"].str.replace("_", " ")
    factors = _varying(table)
    return _cells_table(
        table.assign(text=texts, measure=measures),
        factors,
        "measure",
        "Mean over replicates. *: differs from plain (Holm's p < 0.05, Welch's t test over "
        "replicates).",
        texts=range(len(factors)),
    )


def _cells_table(
    rows: pd.DataFrame, leading: Sequence[str], by: str, caption: str, texts: Collection[int]
) -> Table:
    """A row for each cell: columns that are the same in all its rows, then the column ``text`` by
    the values of another."""
    cells = rows.groupby("cell", sort=False)
    wide = (
        cells[list(leading)]
        .first()
        .join(
            rows.pivot_table(index="cell", columns=by, values="text", aggfunc="first", sort=False)
        )
    )
    return Table(
        list(map(str, wide)), wide.fillna("").astype(str).to_numpy().tolist(), texts, caption
    )


def _varying(table: pd.DataFrame) -> list[str]:
    factors = list(table.columns[: table.columns.get_loc("cell")])
    return [name for name in factors if table[name].nunique() > 1] or ["model"]


def _area(row: Mapping[Hashable, Any]) -> str:
    if not pd.isna(row["area"]) and not row["reached"]:
        return "0 (unreached)"
    return percent(row["area"]) + _star(row)


def _star(row: Mapping[Hashable, Any]) -> str:
    return "*" if row["significant"] else ""
