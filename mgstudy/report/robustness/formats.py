"""Robustness in the formats people need it in: in a terminal, as Markdown, JSON and CSV."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from mgstudy.config.robustness import ItemGraph
from mgstudy.files import written_whole
from mgstudy.report.robustness.comparison import RobustnessTables
from mgstudy.report.table import Table
from mgstudy.report.texts import percent, score
from mgstudy.significance import CONFIDENCE
from mgstudy.study.robustness.plan import RobustnessPlan
from mgstudy.study.robustness.results import RobustnessResults

_SPLITS = {"test": "test split", "validation": "validation split, of cells that are not confirmed"}


def write_tables(
    tables: RobustnessTables, plan: RobustnessPlan, results: RobustnessResults
) -> list[Path]:
    """Write the tables as CSV files, and the same numbers as ``robustness.json``.

    Returns:
        The files.

    Raises:
        MgstudyError: If the disk is full or cannot be written to.
    """
    written = []
    content: dict[str, Any] = {
        "study": plan.summary.name,
        "objective": plan.summary.clean_objective,
        "confidence": CONFIDENCE,
        "models": [
            {"cell": model.cell.key, "model": model.key, "seed": model.seed, "split": model.split}
            for model in plan.trained
        ],
    }
    for name in ("curves", "summary", "flatness"):
        table: pd.DataFrame = getattr(tables, name)
        content[name] = _json_records(table)
        written.append(results.path / f"{name}.csv")
        with written_whole(written[-1]) as file:
            file.write(table.to_csv(index=False).encode())
    content["landscapes"] = tables.landscapes
    written.append(results.path / "robustness.json")
    with written_whole(written[-1]) as file:
        file.write(json.dumps(content, indent=2).encode() + b"\n")
    return written


def robustness_content(tables: RobustnessTables) -> dict[str, Any]:
    """Summary and flatness as JSON-like data; missing values are null."""
    return {name: _json_records(getattr(tables, name)) for name in ("summary", "flatness")}


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
        console.print(table)


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
                factors,
                ["clean"],
                "title",
                f"Relative drop of the score on the {named}, averaged over each risk's severities "
                "(area under the drop curve); of models with item graphs, with the graph built "
                "anew unless it says frozen. 0 (unreached): the scores do not depend on the "
                "features. *: differs from plain on the same split (Holm's p < 0.05, bootstrap "
                "over users and seeds).",
            )


def _flatness(table: pd.DataFrame) -> Table:
    texts = [f"{row['mean']:.4g}{_star(row)}" for row in table.to_dict("records")]
    measures = table["measure"].str.replace("_", " ")
    return _cells_table(
        table.assign(text=texts, measure=measures),
        _varying(table),
        [],
        "measure",
        "Mean over replicates. *: differs from plain (Holm's p < 0.05, Welch's t test over "
        "replicates).",
    )


def _cells_table(
    rows: pd.DataFrame, factors: Sequence[str], numbers: Sequence[str], by: str, caption: str
) -> Table:
    """A row for each cell: factors and numbers, which are the same in all its rows, then the column
    ``text`` by the values of another."""
    cells = rows.groupby("cell", sort=False)[[*factors, *numbers]].first()
    texts = rows.pivot_table(index="cell", columns=by, values="text", aggfunc="first", sort=False)
    wide = cells.join(texts).fillna("").astype(str)
    return Table(list(map(str, wide)), wide.to_numpy().tolist(), factors, caption)


def _json_records(table: pd.DataFrame) -> Any:
    return json.loads(table.to_json(orient="records", double_precision=15))


def _varying(table: pd.DataFrame) -> list[str]:
    factors = list(table.columns[: table.columns.get_loc("cell")])
    return [name for name in factors if table[name].nunique() > 1] or ["model"]


def _area(row: Mapping[Hashable, Any]) -> str:
    if not pd.isna(row["area"]) and not row["reached"]:
        return "0 (unreached)"
    return percent(row["area"]) + _star(row)


def _star(row: Mapping[Hashable, Any]) -> str:
    return "*" if row["significant"] else ""
