"""The comparison as tables for a paper."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import pandas as pd

from mgstudy.errors import InputError
from mgstudy.report.comparison.formats import (
    against,
    caption,
    default_metrics,
    popularity,
    score_text,
    scored_cells,
    shown_factors,
)
from mgstudy.report.comparison.published import published_table
from mgstudy.report.comparison.studies import Comparison
from mgstudy.report.comparison.verdict import gain, mark
from mgstudy.report.latex import latex_table
from mgstudy.report.table import Table, model_as_shown
from mgstudy.report.texts import percent, score
from mgstudy.study.results.summary import StudySummary

_WITH_RESERVE = "†"
_METHOD = {"gradient": "plain", "robust": "none"}
"""The factors whose levels make up a method, and the level of each that adds nothing."""

_Place: TypeAlias = tuple[tuple[str, ...], str]
"""The names of a row, and a column."""


@dataclass(frozen=True)
class PaperStyle:
    """How a table for a paper looks.

    Attributes:
        digits: Decimals of a score; four, or two of per cent, when not given.
        percent: Whether scores are given in per cent.
        by_dataset: Whether each dataset has columns of its own, instead of rows.
        ablation: Whether a row is named by what its cell lacks of the method that the comparison
            has for its baseline, see ``whole_method``.
    """

    digits: int | None = None
    percent: bool = False
    by_dataset: bool = False
    ablation: bool = False

    @property
    def decimals(self) -> int:
        """Of a score."""
        return (2 if self.percent else 4) if self.digits is None else self.digits

    @property
    def scale(self) -> float:
        """What a score is multiplied by."""
        return 100.0 if self.percent else 1.0


def whole_method(summaries: Iterable[StudySummary]) -> dict[str, str]:
    """The levels of the method that every other of the studies is a part of: what an ablation
    compares with.

    Raises:
        InputError: If there is none.
    """
    methods = {
        frozenset(_parts(cell.levels)): {factor: cell.levels[factor] for factor in _METHOD}
        for summary in summaries
        for cell in summary.cells
    }
    whole = max(methods, key=len)
    beyond = sorted(part for parts in methods for part in parts - whole)
    if beyond or not whole:
        raise InputError(
            f"no method has all parts of the others{f': {beyond[0]}' if beyond else ''}; give the "
            "levels of the whole one: --baseline gradient=mirror_gradient,robust=none, say"
        )
    return methods[whole]


def to_latex(
    comparison: Comparison,
    asked: Sequence[str] | None = None,
    found: pd.DataFrame | None = None,
    style: PaperStyle = PaperStyle(),
) -> str:
    """The comparison as LaTeX with booktabs rules.

    Args:
        comparison: The comparison.
        asked: The metrics that are shown; ``default_metrics`` when not given.
        found: Published figures beside ours, see ``against_published``.
        style: How it looks.
    """
    label = "+".join(study.name for study in comparison.studies)
    if style.ablation:
        label += "-ablation"
    elif comparison.baseline != comparison.studies[0].baselines[0]:
        label += f"-{'-'.join(comparison.baseline.values())}"
    tables = [latex_table(paper_table(comparison, asked, style), label)]
    if found is not None and not found.empty:
        tables.append(latex_table(published_table(found, comparison), f"{label}-published"))
    return "\n".join(tables)


def paper_table(
    comparison: Comparison, asked: Sequence[str] | None = None, style: PaperStyle = PaperStyle()
) -> Table:
    """The table for a paper: scores and the objective's difference from the baseline, the best of
    each dataset and metric in bold and the second underlined, significance marked at each score,
    and below it what that rests on. Levels, metrics and factors are called as the studies'
    ``names`` say.

    Args:
        comparison: The comparison.
        asked: The metrics that are shown; ``default_metrics`` when not given.
        style: How it looks.
    """
    called = _called(comparison.studies)
    metrics = list(asked or default_metrics(comparison.studies))
    factors, label = _labels(comparison, style, called)
    columns = [*metrics, against(comparison)]
    texts: dict[tuple[str, ...], dict[str, str]] = {}
    reserves: dict[str, str] = {}
    cells: dict[_Place, str] = {}
    gains: dict[tuple[str, str], dict[_Place, float]] = {}
    spans: dict[str, tuple[str, str]] = {}
    titles = [_title(metric, called, style) for metric in metrics] + [
        _vs(comparison, called, style)
    ]
    scored_rows = scored_cells(comparison, metrics)
    for row, scored in scored_rows:
        levels = label(row)
        if levels is None:
            continue
        of_row = texts.setdefault(levels, {})
        place = [f"{row['dataset']} {name}" if style.by_dataset else name for name in columns]
        if style.by_dataset:
            dataset = called(str(row["dataset"]))
            spans |= {of: (dataset, title) for of, title in zip(place, titles, strict=True)}
        cell = f"{row['study']}/{row['cell']}"
        if (other := cells.setdefault((levels, place[-1]), cell)) != cell:
            advice = "compare without --ablation" if style.ablation else "give them other `names`"
            raise InputError(
                f"{other} and {cell} have one place in the table, {' '.join(levels)}; {advice}"
            )
        for metric, title, of_metric in zip(metrics, place, scored, strict=False):
            marks = mark(of_metric["p_holm"], of_metric["p_bh"])
            marks += _WITH_RESERVE if of_metric["reservations"] else ""
            of_row[title] = score_text(of_metric, style.decimals, style.scale, marks)
            if not pd.isna(of_metric["mean"]):
                of_dataset = gains.setdefault((row["dataset"], metric), {})
                of_dataset[levels, title] = gain(metric, of_metric["mean"])
        of_row[place[-1]] = percent(row["relative_difference"])
        if row["reservations"]:
            where = " ".join([*([dataset] if style.by_dataset else []), *levels])
            reserves[where] = f"{_WITH_RESERVE} {where}: {row['reservations']}."
    best, second = _best_and_second(gains.values())
    shown = list(spans) if style.by_dataset else columns
    ordered = list(texts)
    if style.ablation:
        groups = list(dict.fromkeys(levels[:-1] for levels in texts))
        ordered.sort(key=lambda levels: (groups.index(levels[:-1]), _gone(levels[-1])))
    rows = [[*levels, *(texts[levels].get(title, "") for title in shown)] for levels in ordered]
    scale = _popularity_rows(comparison, metrics, len(factors), shown, style)
    number = {levels: position for position, levels in enumerate(ordered)}
    heads = [called(factor) for factor in factors]
    final = shown if style.by_dataset else titles
    renamed = dict(zip(shown, final, strict=True))
    return Table(
        [*heads, *final],
        [*rows, *scale],
        heads,
        " ".join(
            [
                caption(comparison, metrics),
                *_said(comparison, style, called, len(scored_rows) - len(cells)),
                *reserves.values(),
            ]
        ),
        strong={(number[levels], renamed[title]) for levels, title in best},
        second={(number[levels], renamed[title]) for levels, title in second},
        rule_before={len(rows)} if scale else (),
        spans=spans,
    )


def _best_and_second(
    gains: Iterable[Mapping[_Place, float]],
) -> tuple[set[_Place], set[_Place]]:
    """Where the best and the second of each dataset and metric stand, by what each place has."""
    best: set[_Place] = set()
    second: set[_Place] = set()
    for of_dataset in gains:
        ranked = sorted(set(of_dataset.values()), reverse=True)
        for value, found in zip(ranked, (best, second), strict=False):
            found |= {place for place, gained in of_dataset.items() if gained == value}
    return best, second


def _called(studies: Sequence[StudySummary]) -> Callable[[str], str]:
    """Gives a level, a metric or a factor the name that the studies have for it."""
    names = {key: name for study in studies for key, name in study.manifest.config.names.items()}

    def called(word: str) -> str:
        return names.get(word) or " + ".join(names.get(part, part) for part in word.split("+"))

    return called


def _labels(
    comparison: Comparison, style: PaperStyle, called: Callable[[str], str]
) -> tuple[list[str], Callable[[Mapping[str, Any]], tuple[str, ...] | None]]:
    """The factors that head the rows, and what gives a cell's row its names: ``None`` for a cell
    that has no place in the table."""
    gone = {"dataset"} if style.by_dataset else set()
    gone |= _METHOD.keys() if style.ablation else set()
    kept = [factor for factor in shown_factors(comparison) if factor not in gone]
    if not kept and not style.ablation:
        kept = ["model"]
    whole = _parts(comparison.baseline)

    def names(row: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(
            model_as_shown(str(row[factor]), called(str(row[factor])))[0]
            if factor == "model"
            else called(str(row[factor]))
            for factor in kept
        )

    def ablated(row: Mapping[str, Any]) -> tuple[str, ...] | None:
        parts = _parts(row)
        if not set(parts) <= set(whole):
            return None
        lacking = [called(part) for part in whole if part not in parts]
        said = f"w/o {', '.join(lacking)}" if lacking else "full"
        return (*names(row), said)

    return ([*kept, "variant"], ablated) if style.ablation else (kept, names)


def _parts(levels: Mapping[str, Any]) -> list[str]:
    """What a cell's method is made of."""
    return [
        part
        for factor, nothing in _METHOD.items()
        for part in str(levels.get(factor, nothing)).split("+")
        if part != nothing
    ]


def _gone(variant: str) -> int:
    """How many parts a variant is without."""
    return 0 if variant == "full" else 1 + variant.count(", ")


def _title(metric: str, called: Callable[[str], str], style: PaperStyle) -> str:
    return f"{called(metric)} (%)" if style.percent else called(metric)


def _vs(comparison: Comparison, called: Callable[[str], str], style: PaperStyle) -> str:
    whole = style.ablation
    return "vs full" if whole else f"vs {', '.join(map(called, comparison.baseline.values()))}"


def _said(
    comparison: Comparison, style: PaperStyle, called: Callable[[str], str], hidden: int
) -> list[str]:
    labels = comparison.table["model"].unique() if "model" in shown_factors(comparison) else ()
    sources = [model_as_shown(label, called(label))[1] for label in labels]
    said = ["Of each dataset and metric the best is bold, the second underlined."]
    said += [source for source in sources if source]
    if style.ablation:
        parts = " + ".join(map(called, _parts(comparison.baseline)))
        said.append(f"The full method is {parts}; w/o names what a row lacks of it.")
    if hidden:
        said.append(f"Cells with other parts, which are not shown: {hidden}.")
    return said


def _popularity_rows(
    comparison: Comparison,
    metrics: Sequence[str],
    heads: int,
    shown: Sequence[str],
    style: PaperStyle,
) -> list[list[str]]:
    """What ranking by popularity scores: a row for each dataset, or one with all of them."""
    found = {
        dataset: {
            name: score(style.scale * value if value is not None else None, decimals=style.decimals)
            for name in metrics
            for value in [scores.get(name)]
        }
        for dataset, scores in popularity(comparison).items()
    }
    if not style.by_dataset:
        return [
            [f"popularity ({dataset})", *[""] * (heads - 1), *scores.values(), ""]
            for dataset, scores in found.items()
        ]
    texts = {f"{of} {name}": text for of, scores in found.items() for name, text in scores.items()}
    row = ["popularity", *[""] * (heads - 1), *(texts.get(title, "") for title in shown)]
    return [row] if texts else []
