"""The comparison in the formats people need it in."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from mgstudy.report.comparison.comparison import Comparison, known_metrics
from mgstudy.report.comparison.published import CAVEAT
from mgstudy.report.comparison.verdict import mark
from mgstudy.report.markdown import markdown_table
from mgstudy.report.numbers import duration
from mgstudy.study.results.summary import StudySummary

_DECIMALS = 4
_NO_BETTER_THAN_POPULARITY = "‡"
_POPULARITY = "popularity"


def caption(comparison: Comparison) -> str:
    """What the numbers are, and what they are not."""
    said = [_what_is_shown(comparison)]
    rows = comparison.of(comparison.objective)
    if (rows["beats_popularity"] == False).any():  # noqa: E712
        said.append(f"{_NO_BETTER_THAN_POPULARITY} no better than ranking by popularity.")
    unfinished = [study.name for study in comparison.studies if not study.finished]
    if unfinished:
        said.append(f"Not finished: {', '.join(unfinished)}.")
    if comparison.problems:
        said.append(f"Not tested over users: {'; '.join(comparison.problems)}.")
    return " ".join(said)


def _what_is_shown(comparison: Comparison) -> str:
    objective = comparison.objective
    if comparison.split == "validation":
        return (
            f"Validation scores at the best epoch of each cell's best trial, chosen by {objective} "
            "on the same split: they favour the luckier search. Nothing is confirmed yet, and the "
            "test split is not touched."
        )
    rows = comparison.of(objective)
    shown = (
        f"Test scores: mean ± half of the 95% interval over seeds; the trial was chosen by "
        f"{objective} on validation."
    )
    compared = int(rows["p_t"].count())
    if not compared:
        return f"{shown} No cell can be tested against its baseline yet."
    paired = rows["paired"].dropna()
    test = "the paired t test" if len(paired) and paired.all() else "Welch's t test"
    return (
        f"{shown} The verdict is on {objective}, by {test} over seeds, corrected for {compared} "
        f"tested {'cell' if compared == 1 else 'cells'}: ** holds after Holm, * after "
        "Benjamini-Hochberg alone."
    )


def default_metrics(studies: Sequence[StudySummary]) -> list[str]:
    """The metrics that a page has room for: the objective and its closest companion."""
    objective, known = studies[0].objective, known_metrics(studies)
    cutoff = objective.partition("@")[2]
    wanted = dict.fromkeys((objective, f"ndcg@{cutoff}", f"recall@{cutoff}"))
    return [name for name in wanted if name in known]


def _shown_metrics(comparison: Comparison, asked: Sequence[str] | None) -> list[str]:
    return list(asked or default_metrics(comparison.studies))


def print_comparison(
    comparison: Comparison, console: Console, asked: Sequence[str] | None = None
) -> None:
    """Show the comparison for a person."""
    titles, rows = short_table(comparison, _shown_metrics(comparison, asked))
    questions = dict.fromkeys(study.question for study in comparison.studies if study.question)
    for question in questions:
        console.print(question, highlight=False, markup=False, soft_wrap=True)
    _print_table(titles, rows, len(_names(comparison)), console)
    console.print(caption(comparison), style="dim", soft_wrap=True, highlight=False)


def _print_table(
    titles: Sequence[str], rows: Sequence[Sequence[str]], left: int, console: Console
) -> None:
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for position, title in enumerate(titles):
        is_text = position < left or title in ("verdict", "source")
        shown.add_column(title, justify="left" if is_text else "right", no_wrap=title != "verdict")
    for row in rows:
        shown.add_row(*row)
    console.print(shown, highlight=False)


def to_markdown(comparison: Comparison, asked: Sequence[str] | None = None) -> str:
    """The table a terminal shows, as Markdown."""
    titles, rows = short_table(comparison, _shown_metrics(comparison, asked))
    return f"{_markdown(titles, rows, len(_names(comparison)))}\n\n{caption(comparison)}"


def _markdown(titles: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    texts = [i for i, title in enumerate(titles) if i < left or title in ("verdict", "source")]
    return markdown_table(titles, rows, texts)


def short_table(
    comparison: Comparison, metrics: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    """Titles and rows of the table for people: a row for each cell, then one for popularity on
    each dataset."""
    names = _names(comparison)
    by_metric = {name: comparison.of(name).to_dict("records") for name in metrics}
    main = comparison.of(comparison.objective).to_dict("records")
    against = ", ".join(comparison.baseline.values())
    titles = [*names, *metrics, f"vs {against}", "verdict", "trials", "gradients", "time"]
    rows = []
    for position, row in enumerate(main):
        difference = _percent(row["relative_difference"]) + mark(row["p_holm"], row["p_bh"])
        rows.append(
            [
                *(str(row[name]) for name in names),
                *(_score(by_metric[name][position]) for name in metrics),
                difference,
                row["verdict"],
                str(row["trials"]),
                _count(row["gradient_computations"]),
                duration(row["seconds"]),
            ]
        )
    for dataset, scores in _popularity_rows(comparison).items():
        shown = {"dataset": dataset, names[0]: _POPULARITY} | (
            {"dataset": dataset} if names[0] != "dataset" else {"dataset": f"{dataset}: popularity"}
        )
        rows.append(
            [
                *(shown.get(name, "") for name in names),
                *(_number(scores.get(name)) for name in metrics),
                *[""] * 5,
            ]
        )
    return titles, rows


def published_table(
    comparison: Comparison, found: pd.DataFrame
) -> tuple[list[str], list[list[str]]]:
    """Titles and rows of our figures beside published ones."""
    titles = ["dataset", "model", "gradient", "metric", "ours", "published", "difference", "source"]
    rows = [
        [
            *(str(row[name]) for name in ("dataset", "model", "gradient", "metric")),
            _interval(row),
            _number(row["published"]),
            _percent(row["relative_difference"]),
            row["source"],
        ]
        for row in found.to_dict("records")
    ]
    return titles, rows


def print_published(comparison: Comparison, found: pd.DataFrame, console: Console) -> None:
    """Show our figures beside published ones for a person."""
    console.print()
    if found.empty:
        console.print(no_published_text(comparison), highlight=False, soft_wrap=True)
        return
    titles, rows = published_table(comparison, found)
    _print_table(titles, rows, 4, console)
    console.print(CAVEAT, style="dim", soft_wrap=True, highlight=False)


def published_markdown(comparison: Comparison, found: pd.DataFrame) -> str:
    """Our figures beside published ones, as Markdown."""
    if found.empty:
        return no_published_text(comparison)
    return f"{_markdown(*published_table(comparison, found), left=4)}\n\n{CAVEAT}"


def no_published_text(comparison: Comparison) -> str:
    """That nothing is published for these cells."""
    datasets = sorted({cell.levels["dataset"] for s in comparison.studies for cell in s.cells})
    return (
        f"No published figures for the cells on {', '.join(datasets)}: those that are shipped are "
        "of Amazon Baby, Sports and Elec, for models with or without Mirror Gradient alone."
    )


def to_json(comparison: Comparison, found: pd.DataFrame | None = None) -> str:
    """The comparison as JSON: what it is, and one object per cell; missing values are null."""
    of_cell = ("seeds", "mean", "low", "high", "validation", "popularity", "beats_popularity")
    first, last = "baseline_mean", "verdict"
    columns = list(comparison.table.columns)
    measured = [*of_cell, *columns[columns.index(first) : columns.index(last) + 1]]
    cells: dict[tuple[str, str], dict[str, Any]] = {}
    for row in comparison.table.to_dict("records"):
        clean = {str(name): _json_value(value) for name, value in row.items()}
        rest = {name: clean[name] for name in clean if name not in {*measured, "metric"}}
        cell = cells.setdefault((row["study"], row["cell"]), {**rest, "metrics": {}})
        cell["metrics"][row["metric"]] = {name: clean[name] for name in measured}
    content: dict[str, Any] = {
        "studies": [study.name for study in comparison.studies],
        "questions": [study.question for study in comparison.studies],
        "caption": caption(comparison),
        "objective": comparison.objective,
        "split": comparison.split,
        "baseline_levels": dict(comparison.baseline),
        "popularity": {
            dataset: {name: _json_value(value) for name, value in scores.items()}
            for dataset, scores in _popularity_rows(comparison).items()
        },
        "cells": list(cells.values()),
    }
    if found is not None:
        content["published"] = [
            {str(name): _json_value(value) for name, value in row.items()}
            for row in found.to_dict("records")
        ]
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


def to_latex(
    comparison: Comparison,
    asked: Sequence[str] | None = None,
    found: pd.DataFrame | None = None,
) -> str:
    """The comparison as LaTeX with booktabs rules: the best of each dataset and metric in bold,
    and significance over seeds marked."""
    names, metrics = _names(comparison), _shown_metrics(comparison, asked)
    lines = [[*map(_latex, names), *map(_latex, metrics)]]
    by_metric = {name: comparison.of(name) for name in metrics}
    for position, row in enumerate(comparison.of(comparison.objective).to_dict("records")):
        lines.append(
            [
                *(_latex(str(row[name])) for name in names),
                *(_latex_score(by_metric[name], position) for name in metrics),
            ]
        )
    body = [_latex_row(line) for line in lines]
    popularity = [
        _latex_row(
            [
                _latex(f"popularity ({dataset})"),
                *[""] * (len(names) - 1),
                *(_number(scores.get(name)) or "--" for name in metrics),
            ]
        )
        for dataset, scores in _popularity_rows(comparison).items()
    ]
    rules = [r"\toprule", body[0], r"\midrule", *body[1:]]
    rules += [r"\midrule", *popularity] if popularity else []
    label = "+".join(study.name for study in comparison.studies)
    tables = [
        _latex_table("l" * len(names) + "r" * len(metrics), rules, caption(comparison), label)
    ]
    if found is not None and not found.empty:
        titles, rows = published_table(comparison, found)
        head, *body = (_latex_row([_latex(cell) for cell in line]) for line in (titles, *rows))
        rules = [r"\toprule", head, r"\midrule", *body]
        tables.append(_latex_table("llllrrrl", rules, CAVEAT, f"{label}-published"))
    return "\n".join(tables)


def _latex_table(columns: str, lines: Sequence[str], said: str, label: str) -> str:
    return "\n".join(
        [
            r"\begin{table}[t]",
            r"\centering",
            rf"\caption{{{_latex(said)}}}",
            rf"\label{{tab:{label}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _latex_score(rows: pd.DataFrame, position: int) -> str:
    row = rows.iloc[position].to_dict()
    if pd.isna(row["mean"]):
        return "--"
    rivals = rows[rows["dataset"] == row["dataset"]]["mean"]
    shown = f"{row['mean']:.{_DECIMALS}f}"
    shown = rf"\textbf{{{shown}}}" if row["mean"] == rivals.max() else shown
    half = (row["high"] - row["low"]) / 2
    spread = "" if math.isnan(half) else rf" $\pm$ {half:.{_DECIMALS}f}"
    marks = "".join((mark(row["p_holm"], row["p_bh"]), r"\ddagger" * _is_no_better(row)))
    return shown + spread + (f"$^{{{marks}}}$" if marks else "")


_LATEX_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "±": r"$\pm$", "‡": r"$\ddagger$", "<": r"$<$", ">": r"$>$",
}  # fmt: skip


def _latex(text: str) -> str:
    return "".join(_LATEX_SPECIAL.get(letter, letter) for letter in text)


def _names(comparison: Comparison) -> list[str]:
    several = len(comparison.studies) > 1
    return [*(["study"] if several else []), *comparison.varying_factors()]


def _popularity_rows(comparison: Comparison) -> dict[str, Mapping[str, float]]:
    found: dict[str, Mapping[str, float]] = {}
    for study in comparison.studies:
        for cell in study.cells:
            dataset = cell.levels["dataset"]
            scores = study.popularity.get(dataset, {}).get(comparison.split)
            if scores:
                found.setdefault(dataset, scores)
    return found


def _is_no_better(row: Mapping[Any, Any]) -> bool:
    beats = row["beats_popularity"]
    return beats is not None and not pd.isna(beats) and not beats


def _score(row: Mapping[Any, Any]) -> str:
    return _interval(row) + _NO_BETTER_THAN_POPULARITY * _is_no_better(row)


def _interval(row: Mapping[Any, Any]) -> str:
    half = (row["high"] - row["low"]) / 2
    return _number(row["mean"]) + ("" if math.isnan(half) else f" ± {half:.{_DECIMALS}f}")


def _number(value: float | None) -> str:
    return "" if value is None or pd.isna(value) else f"{value:.{_DECIMALS}f}"


def _percent(value: float | None) -> str:
    return "" if value is None or pd.isna(value) else f"{value:+z.1%}"


def _count(value: float) -> str:
    if value >= 1e6:
        return f"{value / 1e6:.1f}M"
    return f"{value / 1e3:.0f}k" if value >= 1e4 else f"{value:.0f}"


def _json_value(value: Any) -> Any:
    if value is None or pd.isna(value):
        return None
    return value.item() if hasattr(value, "item") else value
