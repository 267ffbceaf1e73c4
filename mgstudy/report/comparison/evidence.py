"""What speaks for a difference between a cell and its baseline: tests over seeds, tests over users,
and the verdict, in words that never say more than they allow."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mgstudy.report.comparison.baselines import ComparedCell, Split
from mgstudy.report.comparison.statistics import UserTests, seed_tests, user_tests

ALPHA = 0.05
FEWEST_SEEDS = 3

_USER_COLUMNS = {
    "users_low": "low",
    "users_high": "high",
    "p_users_t": "p_t",
    "p_users_wilcoxon": "p_wilcoxon",
    "p_users_permutation": "p_permutation",
}
"""The comparison's columns, and the attributes of ``UserTests`` that they hold."""
NO_USERS = dict.fromkeys(_USER_COLUMNS, math.nan)
"""The columns of a cell that has no test over users."""


def over_seeds(entry: ComparedCell, metric: str, split: Split) -> dict[str, Any]:
    """The difference from the baseline and its tests over seeds, as columns of the comparison; no
    tests without two scores on both sides."""
    ours, theirs, paired = entry.compared(metric, split)
    mean, other = (float(np.mean(side)) if side else math.nan for side in (ours, theirs))
    test = seed_tests(ours, theirs, paired) if min(len(ours), len(theirs)) > 1 else None
    return {
        "difference": mean - other,
        "relative_difference": mean / other - 1 if other else math.nan,
        "difference_low": math.nan if test is None else test.difference.low,
        "difference_high": math.nan if test is None else test.difference.high,
        "pairs": len(ours) if paired else None,
        "paired": None if test is None else test.paired,
        "p_t": math.nan if test is None else test.p_t,
        "p_wilcoxon": math.nan if test is None else test.p_wilcoxon,
        "p_permutation": math.nan if test is None else test.p_permutation,
        "effect_size": math.nan if test is None else test.effect_size,
    }


def compare_over_users(
    entries: Sequence[ComparedCell], metrics: Sequence[str], problems: list[str]
) -> dict[tuple[str, str, str], dict[str, float]]:
    """The tests over users of every pair of cells with test scores.

    Args:
        entries: The cells with their baselines.
        metrics: What to test.
        problems: Gets a line for each table of scores that cannot be read.

    Returns:
        ``users_low``, ``users_high``, ``p_users_t``, ``p_users_wilcoxon`` and
        ``p_users_permutation`` by study, cell and metric.
    """

    @functools.cache
    def mean_users(paths: tuple[Path, ...]) -> pd.DataFrame:
        return _mean_users(paths, problems)

    stacked: dict[bytes, tuple[list[tuple[str, str, str]], list[NDArray[np.float64]]]] = {}
    for entry in entries:
        if entry.baseline is None or not entry.complete or not entry.baseline.complete:
            continue
        pairs = entry.pairs()
        ours, theirs = (
            mean_users(tuple(r.test_users for r in side.complete if not pairs or r.seed in pairs))
            for side in (entry, entry.baseline)
        )
        if not ours.index.equals(theirs.index):
            continue
        # Cells with the same users are tested together.
        names, columns = stacked.setdefault(ours.index.to_numpy().tobytes(), ([], []))
        for metric in metrics:
            if metric in ours and metric in theirs:
                names.append((entry.study.name, entry.cell.key, metric))
                columns.append((ours[metric] - theirs[metric]).to_numpy())
    results: dict[tuple[str, str, str], dict[str, float]] = {}
    for names, columns in stacked.values():
        if not columns:
            continue
        tests: UserTests = user_tests(np.column_stack(columns))
        for position, name in enumerate(names):
            results[name] = {
                column: float(getattr(tests, attribute)[position])
                for column, attribute in _USER_COLUMNS.items()
            }
    return results


def _mean_users(paths: Sequence[Path], problems: list[str]) -> pd.DataFrame:
    """Every user's scores, averaged over replicates: a column for each metric, users ascending; no
    users if one of the tables cannot be read, which is noted among the problems."""
    tables = []
    for path in paths:
        try:
            tables.append(pd.read_parquet(path))
        except (OSError, ValueError) as error:
            said = " ".join(str(error).split())
            problem = f"{path}: users' test scores cannot be read: {said}"
            problems += [] if problem in problems else [problem]
            return pd.DataFrame()
    return pd.concat(tables).groupby("user").mean()


def verdict(entry: ComparedCell, row: Mapping[str, Any]) -> str:
    """The verdict on one cell, or why there is none.

    Only a difference that holds over seeds after Holm's correction is called better or worse
    without reserve. Users are a second question, asked of the same models: a difference that
    they do not show is said not to be shown over users.

    Args:
        entry: The cell with its baseline.
        row: Its row of the comparison: ``metric``, ``split``, ``difference``, ``p_t``, ``p_holm``,
            ``p_bh`` and ``p_users_permutation``.
    """
    lacking = _what_is_lacking(entry, row["split"])
    if lacking is not None or entry.baseline is None:
        return lacking or "no baseline cell"
    ours, theirs, paired = entry.compared(row["metric"], row["split"])
    seeds = min(len(ours), len(theirs))
    asked = max(entry.cell.seeds, entry.baseline.cell.seeds)
    counted = f"{seeds} of {asked} {'pairs of ' if paired else ''}seeds"
    return _verdict(row, seeds) + (f" ({counted})" if seeds < asked else "")


def _verdict(row: Mapping[str, Any], seeds: int) -> str:
    difference, p = row["difference"], row["p_t"]
    if seeds < FEWEST_SEEDS:
        return "too few seeds to say"
    if difference == 0:
        return "no difference"
    if math.isnan(p):
        return "nothing varies over seeds: no test is possible"
    word = "better" if difference > 0 else "worse"
    if p >= ALPHA:
        return f"no difference found, {_p_text(p)}"
    if row["p_bh"] >= ALPHA:
        return f"no difference found after correction, {_p_text(p)} before it"
    held = "holds after Holm"
    if row["p_holm"] >= ALPHA:
        word, held = f"perhaps {word}", "holds after Benjamini-Hochberg, not after Holm"
    users = "; not shown over users" if row["p_users_permutation"] >= ALPHA else ""
    return f"{word}, {_p_text(p)}, {held}{users}"


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


def mark(p_holm: float, p_bh: float) -> str:
    """The mark of a difference in a table: ``**`` if it holds after Holm, ``*`` if after
    Benjamini-Hochberg alone."""
    if p_holm < ALPHA:
        return "**"
    return "*" if p_bh < ALPHA else ""


def _p_text(p: float) -> str:
    """A p value in the digits that mean something."""
    return "p<0.001" if p < 0.001 else f"p={p:.3f}" if p < 0.1 else f"p={p:.2f}"
