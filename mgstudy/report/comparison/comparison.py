"""The comparison of cells with their baselines, on the test split once winners are confirmed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from mgstudy.errors import InputError, suggestion
from mgstudy.report.comparison.baselines import DEFAULT_BASELINE
from mgstudy.report.comparison.compared_cells import ComparedCell, compared_cells
from mgstudy.report.comparison.over_users import USER_COLUMNS, compare_over_users
from mgstudy.report.comparison.statistics import (
    SeedTests,
    benjamini_hochberg,
    holm,
    mean_interval,
    seed_tests,
)
from mgstudy.report.comparison.verdict import Evidence, verdict
from mgstudy.study.results.summary import CellSummary, StudySummary

Split = Literal["test", "validation"]


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
        cells = [cell for study in self.studies for cell in study.cells]
        factors = cells[0].levels if cells else {}
        return [f for f in factors if len({cell.levels[f] for cell in cells}) > 1] or ["model"]

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
        baseline: Levels that make a cell a baseline; ``gradient=plain`` when not given.
        metrics: What to compare besides the objective; everything that was measured when not given.

    Returns:
        A comparison whose table has, for each metric and cell: ``study``, ``cell``, a column for
        each factor; ``metric``, ``split``, ``seeds`` (completed replicates), ``mean``, ``low`` and
        ``high`` (the 95 % interval of the mean over seeds), ``validation`` (the winner's score in
        the search), ``popularity`` and ``beats_popularity``; ``baseline`` (its key),
        ``baseline_mean``, ``difference`` with ``difference_low`` and ``difference_high``,
        ``relative_difference``; ``paired``, ``p_t``, ``p_wilcoxon``, ``p_permutation`` over seeds,
        ``p_holm`` and ``p_bh`` (``p_t`` corrected), ``effect_size``; ``users_low``,
        ``users_high``, ``p_users_t``, ``p_users_wilcoxon``, ``p_users_permutation`` over users,
        and ``p_users_holm`` and ``p_users_bh`` (the permutation's, corrected); ``verdict``; and
        what the search of the cell has spent: ``trials``, ``complete``, ``pruned``, ``failed``,
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
    levels = dict(DEFAULT_BASELINE if baseline is None else baseline)
    entries = compared_cells(summaries, levels)
    is_confirmed = any(entry.complete for entry in entries)
    split: Split = "test" if is_confirmed else "validation"
    problems: list[str] = []
    users = compare_over_users(entries, chosen, problems) if is_confirmed else {}
    rows: list[dict[str, Any]] = []
    for metric in chosen:
        rows += _metric_rows(entries, metric, split, users)
    # Whole numbers stay whole beside missing ones.
    table = pd.DataFrame(rows).astype({"best_trial": "Int64", "best_epoch": "Int64"})
    return Comparison(list(summaries), levels, split, chosen, table, problems)


def _metric_rows(
    entries: Sequence[ComparedCell],
    metric: str,
    split: Split,
    users: Mapping[tuple[str, str, str], Mapping[str, float]],
) -> list[dict[str, Any]]:
    tests = [_seed_tests(entry, metric) for entry in entries]
    over_users = [users.get((entry.study.name, entry.cell.key, metric), {}) for entry in entries]
    p_t = [math.nan if test is None else test.p_t for test in tests]
    p_users = [found.get("p_users_permutation", math.nan) for found in over_users]
    corrected = zip(
        holm(p_t), benjamini_hochberg(p_t), holm(p_users), benjamini_hochberg(p_users), strict=True
    )
    rows = []
    for entry, test, by_users, (p_holm, p_bh, users_holm, users_bh) in zip(
        entries, tests, over_users, corrected, strict=True
    ):
        row = _scores(entry, metric, split) | _seeds_content(test) | _users_content(by_users)
        row |= {
            "p_holm": p_holm,
            "p_bh": p_bh,
            "p_users_holm": users_holm,
            "p_users_bh": users_bh,
        }
        row["verdict"] = _verdict(entry, row, test, split)
        rows.append(row | _spent(entry.cell))
    return rows


def _scores(entry: ComparedCell, metric: str, split: Split) -> dict[str, Any]:
    mean, low, high = _level(entry, metric, split)
    other = math.nan if entry.baseline is None else _level(entry.baseline, metric, split)[0]
    popularity = entry.study.popularity.get(entry.cell.levels["dataset"], {}).get(split, {})
    scale = popularity.get(metric, math.nan)
    return {
        "study": entry.study.name,
        "cell": entry.cell.key,
        **entry.cell.levels,
        "metric": metric,
        "split": split,
        "seeds": len(entry.scores(metric)),
        "mean": mean,
        "low": low,
        "high": high,
        "validation": entry.validation(metric),
        "popularity": scale,
        "beats_popularity": None if math.isnan(scale) or math.isnan(mean) else mean > scale,
        "baseline": None if entry.baseline is None else entry.baseline.cell.key,
        "baseline_mean": other,
        "difference": mean - other,
        "relative_difference": mean / other - 1 if other else math.nan,
    }


def _level(entry: ComparedCell, metric: str, split: Split) -> tuple[float, float, float]:
    if split == "validation":
        return entry.validation(metric), math.nan, math.nan
    scores = list(entry.scores(metric).values())
    if not scores:
        return math.nan, math.nan, math.nan
    interval = mean_interval(scores)
    return interval.mean, interval.low, interval.high


def _seed_tests(entry: ComparedCell, metric: str) -> SeedTests | None:
    """The tests over seeds; ``None`` without two replicates on both sides."""
    if entry.baseline is None:
        return None
    ours, theirs = entry.scores(metric), entry.baseline.scores(metric)
    paired = ours.keys() == theirs.keys()
    if min(len(ours), len(theirs)) < 2:
        return None
    if paired:
        theirs = {seed: theirs[seed] for seed in ours}
    return seed_tests(list(ours.values()), list(theirs.values()), paired)


def _seeds_content(test: SeedTests | None) -> dict[str, Any]:
    return {
        "difference_low": math.nan if test is None else test.difference.low,
        "difference_high": math.nan if test is None else test.difference.high,
        "paired": None if test is None else test.paired,
        "p_t": math.nan if test is None else test.p_t,
        "p_wilcoxon": math.nan if test is None else test.p_wilcoxon,
        "p_permutation": math.nan if test is None else test.p_permutation,
        "effect_size": math.nan if test is None else test.effect_size,
    }


def _users_content(found: Mapping[str, float]) -> dict[str, float]:
    return {name: found.get(name, math.nan) for name in USER_COLUMNS}


def _verdict(
    entry: ComparedCell, row: Mapping[str, Any], test: SeedTests | None, split: Split
) -> str:
    """The verdict on one cell, or why there is none."""
    lacking = _what_is_lacking(entry, split)
    if lacking is not None or entry.baseline is None:
        return lacking or "no baseline cell"
    seeds = min(row["seeds"], len(entry.baseline.scores(row["metric"])))
    evidence = Evidence(
        difference=row["difference"],
        seeds=seeds,
        p=math.nan if test is None else test.p_t,
        p_holm=row["p_holm"],
        p_bh=row["p_bh"],
        p_users=row["p_users_permutation"],
    )
    asked = max(entry.cell.seeds, entry.baseline.cell.seeds)
    missing = f" ({seeds} of {asked} seeds)" if seeds < asked else ""
    return verdict(evidence) + missing


def _what_is_lacking(entry: ComparedCell, split: Split) -> str | None:
    """What keeps a cell from being compared with its baseline, if anything does."""
    sides = [("", entry)]
    if entry.baseline is not None:
        sides.append(("baseline: ", entry.baseline))
    for who, side in sides:
        if side.cell.best is None:
            return f"{who}{'no trial completed' if side.cell.trials else 'not begun'}"
        if split == "test" and not side.complete:
            failed = any(r.outcome.get("failed") for r in side.cell.confirmations)
            return f"{who}{'failed in confirmation' if failed else 'not confirmed yet'}"
    if entry.is_baseline:
        return "baseline"
    is_compared = entry.baseline is not None
    return "validation only: nothing to say yet" if is_compared and split == "validation" else None


def _spent(cell: CellSummary) -> dict[str, Any]:
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
