"""The comparison in the formats people need it in."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from mgstudy.report.comparison.answer import answer, pooled, said_together
from mgstudy.report.comparison.published import published_table
from mgstudy.report.comparison.studies import Comparison, known_metrics
from mgstudy.report.comparison.verdict import mark
from mgstudy.report.table import Table
from mgstudy.report.texts import count, duration, hidden_text, percent, score
from mgstudy.study.results.summary import StudySummary

COSTS = ("trials", "gradients", "time")
"""Columns of what the search of a cell has spent."""

NO_BETTER_THAN_POPULARITY = "‡"


def caption(comparison: Comparison, asked: Sequence[str] | None = None) -> str:
    """What the numbers are, and what they are not.

    Args:
        comparison: The comparison.
        asked: The metrics that are shown; ``default_metrics`` when not given.
    """
    said = [_what_is_shown(comparison)]
    metrics = asked or default_metrics(comparison.studies)
    shown = comparison.table[comparison.table["metric"].isin(metrics)]
    if (shown["beats_popularity"] == False).any():  # noqa: E712
        said.append(f"{NO_BETTER_THAN_POPULARITY} no better than ranking by popularity.")
    said += _what_is_seen(comparison.of(comparison.objective))
    unfinished = [study.name for study in comparison.studies if not study.finished]
    if unfinished:
        said.append(f"Not finished: {', '.join(unfinished)}.")
    hidden = [key for study in comparison.studies for key in study.hidden]
    said += [f"{study.name}: {study.forked}." for study in comparison.studies if study.forked]
    if hidden:
        said.append(f"{hidden_text(hidden)}.")
    if "seed" in comparison.varying_factors():
        said.append(
            "Each seed of factors.seed is a search of its own and has rows of its own; for means "
            "over seeds use `confirmation: {seeds: N}`."
        )
    if comparison.problems:
        said.append(f"Not tested over users: {'; '.join(comparison.problems)}.")
    return " ".join(said)


def _what_is_shown(comparison: Comparison) -> str:
    objective = comparison.objective
    if comparison.split == "validation":
        return (
            f"Validation scores of the search, at the best epoch of each cell's best trial, chosen "
            f"by {objective} on the same split: they favour the luckier search. Nothing is "
            "confirmed yet, and the test split is not touched."
        )
    rows = comparison.of(objective)
    shown = (
        f"Test scores of the confirmation: mean ± half of the 95% interval over seeds; which "
        f"configuration that is was chosen by {objective} on validation, in the search."
    )
    compared = int(rows["p_t"].count())
    if not compared:
        return f"{shown} No cell can be tested against its baseline yet."
    paired = set(rows["paired"].dropna())
    test = " or ".join(
        name
        for name, is_paired in (
            ("the paired t test over common seeds", True),
            ("Welch's t test over seeds", False),
        )
        if is_paired in paired
    )
    # Where seeds are added until it is decided.
    looks = int(rows["looks"].fillna(0).max())
    looked = f" and for the {looks} looks taken at them as seeds were added" if looks else ""
    only_p = " Only p is corrected for looks: differences, intervals and pooled estimates are not."
    return (
        f"{shown} The verdict is on {objective}, by {test}, and by the exceedance test over the "
        f"trials of the searches where both had one, corrected for {compared} "
        f"tested {'cell' if compared == 1 else 'cells'}{looked}: ** holds after Holm, "
        f"* after Benjamini-Hochberg alone.{only_p if looks > 1 else ''}"
    )


def _range(shares: pd.Series[float]) -> str:
    ends = dict.fromkeys(percent(share).lstrip("+") for share in (shares.min(), shares.max()))
    return " to ".join(ends)


def _what_is_seen(rows: pd.DataFrame) -> list[str]:
    """How large a difference must be to be found, over the cells of the table."""
    found = [
        f"{_range(finite)} {between}"
        for name, between in (
            ("seen_over_seeds", "between two configurations"),
            ("seen_over_searches", "between what two searches found"),
        )
        if len(finite := rows[name][np.isfinite(rows[name])])
    ]
    return [f"Seen 4 times of 5 are differences of {', and of '.join(found)}."] if found else []


def default_metrics(studies: Sequence[StudySummary]) -> list[str]:
    """The metrics that a page has room for: the objectives and their closest companion."""
    training, known = studies[0].manifest.config.training, known_metrics(studies)
    cutoff = training.clean_objective.partition("@")[2]
    wanted = dict.fromkeys((*training.objectives, f"ndcg@{cutoff}", f"recall@{cutoff}"))
    return [name for name in wanted if name in known]


def comparison_table(
    comparison: Comparison, asked: Sequence[str] | None = None, costs: bool = True
) -> Table:
    """The table for people: a row for each cell, then one for popularity on each dataset.

    Args:
        comparison: The comparison.
        asked: The metrics that are shown; ``default_metrics`` when not given.
        costs: Whether what the search of a cell has spent is shown.
    """
    names, metrics = shown_factors(comparison), asked or default_metrics(comparison.studies)
    spent = COSTS if costs else ()
    rows = [
        [
            *(str(row[name]) for name in names),
            *(score_text(of_metric) for of_metric in scored),
            percent(row["relative_difference"]) + mark(row["p_holm"], row["p_bh"]),
            row["verdict"],
            *([str(row["trials"]), count(row["gradient_computations"])] if costs else ()),
            *([duration(row["seconds"])] if costs else ()),
        ]
        for row, scored in scored_cells(comparison, metrics)
    ]
    for dataset, scores in popularity(comparison).items():
        called = {names[0]: "popularity", "dataset": dataset}
        if names[0] == "dataset":
            called = {"dataset": f"{dataset}: popularity"}
        shown = (score(scores.get(name)) for name in metrics)
        rows.append([*(called.get(name, "") for name in names), *shown, *[""] * (2 + len(spent))])
    return Table(
        [*names, *metrics, against(comparison), "verdict", *spent],
        rows,
        names,
        caption(comparison, metrics),
        notes=("verdict",),
        spare=spent,
        lead=(against(comparison), "verdict"),
    )


def print_comparison(
    comparison: Comparison,
    console: Console,
    asked: Sequence[str] | None = None,
    found: pd.DataFrame | None = None,
) -> None:
    """Show the comparison for a person.

    Args:
        comparison: The comparison.
        console: Where to show it.
        asked: The metrics that are shown; ``default_metrics`` when not given.
        found: Published figures beside ours, see ``against_published``.
    """
    for question in dict.fromkeys(study.question for study in comparison.studies):
        if question:
            console.print(question, highlight=False, markup=False)
    for sentence in said_together(comparison):
        console.print(sentence, highlight=False, markup=False)
    for number, table in enumerate(_tables(comparison, asked, found)):
        if number:
            console.print()
        console.print(table)


def to_markdown(
    comparison: Comparison,
    asked: Sequence[str] | None = None,
    found: pd.DataFrame | None = None,
) -> str:
    """The tables that a terminal shows, as Markdown."""
    return "\n\n".join(
        f"{table.markdown()}\n\n{table.caption}" if table.rows else table.caption
        for table in _tables(comparison, asked, found)
    )


def _tables(
    comparison: Comparison, asked: Sequence[str] | None, found: pd.DataFrame | None
) -> list[Table]:
    published = [] if found is None else [published_table(found, comparison)]
    return [comparison_table(comparison, asked), *published]


def to_json(comparison: Comparison, found: pd.DataFrame | None = None) -> str:
    """The comparison as JSON: what it is, and one object per cell; missing values are null."""
    of_cell = ("seeds", "mean", "low", "high", "validation", "popularity", "beats_popularity")
    first, last = "baseline_mean", "verdict"
    columns = list(comparison.table.columns)
    measured = [*of_cell, *columns[columns.index(first) : columns.index(last) + 1]]
    cells: dict[tuple[str, str], dict[str, Any]] = {}
    for clean in _json_records(comparison.table):
        rest = {name: clean[name] for name in clean if name not in {*measured, "metric"}}
        cell = cells.setdefault((clean["study"], clean["cell"]), {**rest, "metrics": {}})
        cell["metrics"][clean["metric"]] = {name: clean[name] for name in measured}
    content: dict[str, Any] = {
        "studies": [study.name for study in comparison.studies],
        "questions": [study.question for study in comparison.studies],
        "answer": answer(comparison),
        "pooled": [asdict(estimate) for estimate in pooled(comparison)],
        "caption": caption(comparison, comparison.metrics),
        "objective": comparison.objective,
        "split": comparison.split,
        "baseline_levels": dict(comparison.baseline),
        "popularity": {
            dataset: {name: _json_value(value) for name, value in scores.items()}
            for dataset, scores in popularity(comparison).items()
        },
        "cells": list(cells.values()),
    }
    if found is not None:
        content["published"] = _json_records(found)
    return json.dumps(content, indent=2)


def to_csv(comparison: Comparison, found: pd.DataFrame | None = None) -> str:
    """The comparison as CSV: a row for each metric and cell, in full precision."""
    table = comparison.table
    if found is not None:
        keys = ["study", "cell", "metric"]
        # Two sources may have published the same figure; a row has room for the first.
        first = found[[*keys, "published", "source"]].drop_duplicates(keys)
        table = table.merge(first.rename(columns={"source": "published_source"}), "left", keys)
    return str(table.to_csv(index=False))


def score_text(
    row: Mapping[str, Any], decimals: int = 4, scale: float = 1.0, marks: str = ""
) -> str:
    """A mean with its interval, marked, also where popularity is as good."""
    if pd.isna(row["mean"]):
        return ""
    beats = row["beats_popularity"]
    no_better = NO_BETTER_THAN_POPULARITY if not pd.isna(beats) and not beats else ""
    mean, low, high = (scale * row[name] for name in ("mean", "low", "high"))
    return score(mean, low, high, decimals) + marks + no_better


def against(comparison: Comparison) -> str:
    """The title of the column of differences."""
    return f"vs {', '.join(comparison.baseline.values())}"


def shown_factors(comparison: Comparison) -> list[str]:
    """The columns that tell the cells of a table apart."""
    several = len(comparison.studies) > 1
    return [*(["study"] if several else []), *comparison.varying_factors()]


def scored_cells(
    comparison: Comparison, metrics: Sequence[str]
) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Each cell's row on the objective, and its rows on these metrics."""
    rows, *scored = (_records(comparison.of(name)) for name in (comparison.objective, *metrics))
    return [(row, list(of_metrics)) for row, *of_metrics in zip(rows, *scored, strict=True)]


def popularity(comparison: Comparison) -> dict[str, Mapping[str, float]]:
    """What ranking by popularity scores on each dataset, where that is known."""
    found: dict[str, Mapping[str, float]] = {}
    for study in comparison.studies:
        for cell in study.cells:
            dataset = cell.levels["dataset"]
            scores = study.popularity.get(dataset, {}).get(comparison.split)
            if scores:
                found.setdefault(dataset, scores)
    return found


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): v for name, v in row.items()} for row in table.to_dict("records")]


def _json_records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{name: _json_value(v) for name, v in row.items()} for row in _records(table)]


def _json_value(value: Any) -> Any:
    if value is None or pd.isna(value) or value in (math.inf, -math.inf):
        return None
    return value.item() if hasattr(value, "item") else value
