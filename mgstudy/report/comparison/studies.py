"""The comparison of cells with their baselines, on the test split once winners are confirmed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mgstudy.config.factors import varying_factors
from mgstudy.errors import InputError, suggestion
from mgstudy.report.comparison.baselines import (
    NO_USERS,
    ComparedCell,
    Split,
    compare_over_users,
    compared_cells,
    over_seeds,
)
from mgstudy.report.comparison.costs import NO_COSTS, at_equal_cost
from mgstudy.report.comparison.power import detectable, spread_of
from mgstudy.report.comparison.verdict import gain, reservations, search_p, verdict
from mgstudy.significance import ALPHA, holm
from mgstudy.statistics import benjamini_hochberg, mean_interval
from mgstudy.study.results.summary import StudySummary
from mgstudy.study.search.state import CellState

_UNSEEN = dict.fromkeys(("seen_over_seeds", "seen_over_searches"), math.nan)


@dataclass(frozen=True)
class Comparison:
    """Cells beside their baselines.

    Attributes:
        studies: What was compared.
        baseline: Levels that make a cell a baseline.
        split: What the scores were measured on: test, or validation where nothing is confirmed.
        metrics: What was compared, the objective first.
        table: One row for each metric and cell, see ``compare_studies``.
        problems: What could not be read, in words; users are not tested there.
    """

    studies: Sequence[StudySummary]
    baseline: Mapping[str, str]
    split: Split
    metrics: Sequence[str]
    table: pd.DataFrame
    problems: Sequence[str] = ()

    @property
    def objective(self) -> str:
        """The metric that selected trials and epochs."""
        return self.studies[0].objective

    def varying_factors(self) -> list[str]:
        """The factors with more than one level among the cells."""
        levels = (cell.levels for study in self.studies for cell in study.cells)
        return varying_factors(levels) or ["model"]

    def further_questions(self) -> list[Comparison]:
        """The same with the baseline of each further question that the first study asks."""
        return [
            compare_studies(self.studies, baseline, self.metrics)
            for baseline in self.studies[0].baselines
            if baseline != self.baseline
        ]

    def of(self, metric: str) -> pd.DataFrame:
        """The rows of one metric, a row for each cell."""
        return self.table[self.table["metric"] == metric].reset_index(drop=True)


def known_metrics(summaries: Iterable[StudySummary]) -> list[str]:
    """Every metric that a trial of the studies was scored by, the objective first."""
    names: dict[str, None] = {}
    for summary in summaries:
        names[summary.objective] = None
        for cell in summary.cells:
            for trial in (*cell.trials, *cell.confirmations):
                names |= dict.fromkeys(trial.outcome.get("best_metrics", {}))
    return list(names)


def compare_studies(
    summaries: Sequence[StudySummary],
    baseline: Mapping[str, str] | None = None,
    metrics: Sequence[str] | None = None,
) -> Comparison:
    """Set every cell beside its baseline: the cell that differs from it only in the baseline's
    levels, in the same study, or else in another of them with the same data and protocol.

    Each metric is a family of its own for the corrections: over all cells of the table that have a
    baseline.

    Args:
        summaries: The studies, at least one; all with one objective.
        baseline: Levels that make a cell a baseline; those of the first study's first question when
            not given.
        metrics: What to compare besides the objective; everything that was measured when not given.

    Returns:
        A comparison whose table has, for each metric and cell: ``study``, ``cell``, a column for
        each factor; ``metric``, ``split``, ``seeds`` (completed replicates), ``mean``, ``low`` and
        ``high`` (the 95 % interval of the mean over seeds), ``validation`` (the winner's score in
        the search), ``popularity`` and ``beats_popularity``; ``baseline`` (its key),
        ``baseline_mean``, ``difference``, ``relative_difference``, ``difference_low`` and
        ``difference_high`` and ``difference_error`` (its standard error), of the pairs alone
        where the two have seeds in common; how many
        ``pairs`` those are, ``paired``, ``p_t``, ``p_wilcoxon``, ``p_permutation`` over seeds;
        ``looks`` taken of a confirmation that goes on until it is decided, and ``p_seeds`` (``p_t``
        corrected for them),
        ``p_search`` (of the searches), ``p_holm`` and ``p_bh`` (the greater of ``p_seeds`` and
        ``p_search``, corrected for so many ``comparisons``), ``effect_size``; ``at_most``
        (how large the difference may be, over the baseline's score), ``p_equivalence`` (that it is
        as large as the ``confirmation.margin``) and its corrections; ``cost_ratio`` and
        the others of ``at_equal_cost``; ``seen_over_seeds`` and ``seen_over_searches`` (the
        relative differences that are seen 4 times of 5, see ``detectable``); ``users_low``,
        ``users_high``, ``p_users_t``, ``p_users_wilcoxon``, ``p_users_permutation`` over users,
        and ``p_users_holm`` and ``p_users_bh`` (the permutation's, corrected); ``reservations``
        (what a verdict rests on besides, in words) and ``verdict``; and what the search of the
        cell has spent: ``trials``, ``complete``, ``pruned``, ``failed``,
        ``gradient_computations``, ``seconds_training``, ``seconds``; ``best_trial`` and
        ``best_epoch``.

    Raises:
        InputError: If the studies have different objectives, or a metric is not known.
    """
    objectives = {summary.objective for summary in summaries}
    if len(objectives) > 1:
        raise InputError(
            f"the studies select by different objectives ({', '.join(sorted(objectives))}): their "
            "winners are not comparable"
        )
    known = known_metrics(summaries)
    for metric in metrics or ():
        if metric not in known:
            raise InputError(f"no study measured {metric!r}; {suggestion(metric, known)}")
    chosen = list(dict.fromkeys([summaries[0].objective, *(metrics or known)]))
    levels = dict(summaries[0].baselines[0] if baseline is None else baseline)
    entries = compared_cells(summaries, levels)
    is_confirmed = any(entry.complete for entry in entries)
    split: Split = "test" if is_confirmed else "validation"
    problems: list[str] = []
    users = compare_over_users(entries, chosen, problems) if is_confirmed else {}
    rows: list[dict[str, Any]] = []
    for metric in chosen:
        rows += _metric_rows(entries, metric, split, users)
    # Whole numbers stay whole beside missing ones.
    table = pd.DataFrame(rows).astype(
        dict.fromkeys(("pairs", "looks", "best_trial", "best_epoch"), "Int64")
    )
    return Comparison(list(summaries), levels, split, chosen, table, problems)


def _metric_rows(
    entries: Sequence[ComparedCell],
    metric: str,
    split: Split,
    users: Mapping[tuple[str, str, str], dict[str, float]],
) -> list[dict[str, Any]]:
    factors = list(dict.fromkeys(factor for entry in entries for factor in entry.cell.levels))
    rows = [
        _scores(entry, metric, split, factors)
        | over_seeds(entry, metric, split)
        | users.get((entry.study.name, entry.cell.key, metric), NO_USERS)
        for entry in entries
    ]
    for entry, row in zip(entries, rows, strict=True):
        is_tested = not math.isnan(row["p_seeds"])
        gained = gain(metric, row["difference"])
        row["p_search"] = search_p(entry, gained) if is_tested else math.nan
        row["comparisons"] = sum(not math.isnan(other["p_seeds"]) for other in rows)
        row.update(at_equal_cost(entry, metric) if is_tested else NO_COSTS)
        is_objective = metric == entry.study.objective
        row.update(_seen(entry, row) if is_tested and is_objective else _UNSEEN)
    for name, of in (
        ("p", ("p_seeds", "p_search")),
        ("p_users", ("p_users_permutation",)),
        ("p_equivalence", ("p_equivalence",)),
    ):
        # What must hold over seeds and over searches is no surer than the less sure of the two.
        p_values = [max(row[p_value] for p_value in of) for row in rows]
        corrected = zip(rows, holm(p_values), benjamini_hochberg(p_values), strict=True)
        for row, by_holm, by_bh in corrected:
            row |= {f"{name}_holm": by_holm, f"{name}_bh": by_bh}
    return [
        row | _said(entry, row) | _spent(entry.cell)
        for entry, row in zip(entries, rows, strict=True)
    ]


def _seen(entry: ComparedCell, row: Mapping[str, Any]) -> dict[str, float]:
    """Which differences the comparison could see."""
    assert entry.baseline is not None
    spread = spread_of(entry.cell.levels, row["metric"], entry.study.cells).share
    seeds, paired = min(map(len, entry.replicates()[:2])), bool(row["paired"])
    searches = entry.study.manifest.config.search.paired
    cells = entry.cell, entry.baseline.cell
    found = detectable(*cells, spread, seeds, row["comparisons"], paired, searches)
    return {f"seen_{name}": difference for name, difference in found.items()}


def _said(entry: ComparedCell, row: Mapping[str, Any]) -> dict[str, Any]:
    rests = reservations(entry, row) if row["p_seeds"] < ALPHA else []
    said = {"reservations": "; ".join(rests)}
    return said | {"verdict": verdict(entry, {**row, **said})}


def _scores(
    entry: ComparedCell, metric: str, split: Split, factors: Iterable[str]
) -> dict[str, Any]:
    mean, low, high = _level(entry, metric, split)
    other = math.nan if entry.baseline is None else _level(entry.baseline, metric, split)[0]
    popularity = entry.study.popularity.get(entry.cell.levels["dataset"], {}).get(split, {})
    scale = popularity.get(metric, math.nan)
    beats = None if math.isnan(scale) or math.isnan(mean) else gain(metric, mean - scale) > 0
    return {
        "study": entry.study.name,
        "cell": entry.cell.key,
        **{factor: entry.cell.levels.get(factor, "") for factor in factors},
        "metric": metric,
        "split": split,
        "seeds": len(entry.scores(metric)),
        "mean": mean,
        "low": low,
        "high": high,
        "validation": entry.validation(metric),
        "popularity": scale,
        "beats_popularity": beats,
        "baseline": None if entry.baseline is None else entry.baseline.cell.key,
        "baseline_mean": other,
    }


def _level(entry: ComparedCell, metric: str, split: Split) -> tuple[float, float, float]:
    if split == "validation":
        return entry.validation(metric), math.nan, math.nan
    scores = list(entry.scores(metric).values())
    if not scores:
        return math.nan, math.nan, math.nan
    interval = mean_interval(scores)
    return interval.mean, interval.low, interval.high


def _spent(cell: CellState) -> dict[str, Any]:
    counts, best = cell.counts, cell.best
    return {
        "trials": len(cell.trials),
        **{state: counts[state] for state in ("complete", "pruned", "failed")},
        "gradient_computations": int(cell.spent("gradient_computations")),
        "seconds_training": cell.spent("seconds_training"),
        "seconds": cell.seconds(),
        "best_trial": best.number if best else None,
        "best_epoch": best.outcome.get("best_epoch") if best else None,
    }
