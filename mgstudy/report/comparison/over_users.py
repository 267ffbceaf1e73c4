"""Cells compared with their baselines over the users of the test split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mgstudy.report.comparison.compared_cells import ComparedCell
from mgstudy.report.comparison.statistics import UserTests, user_tests
from mgstudy.study.results.summary import ConfirmationSummary

USER_COLUMNS = {
    "users_low": "low",
    "users_high": "high",
    "p_users_t": "p_t",
    "p_users_wilcoxon": "p_wilcoxon",
    "p_users_permutation": "p_permutation",
}
"""The comparison's columns, and the attributes of ``UserTests`` that they hold."""


def compare_over_users(
    entries: Sequence[ComparedCell], metrics: Sequence[str], problems: list[str]
) -> dict[tuple[str, str, str], dict[str, float]]:
    """The tests over users of every pair with test scores.

    Args:
        entries: The cells with their baselines.
        metrics: What to test.
        problems: Gets a line for each table of scores that cannot be read.

    Returns:
        The columns of ``USER_COLUMNS`` by study, cell and metric.
    """
    means: dict[tuple[str, str], pd.DataFrame] = {}
    stacked: dict[bytes, tuple[list[tuple[str, str, str]], list[np.ndarray[Any, Any]]]] = {}
    for entry in entries:
        if entry.baseline is None or not entry.complete or not entry.baseline.complete:
            continue
        for side in (entry, entry.baseline):
            key = (side.study.name, side.cell.key)
            if key not in means:
                means[key] = _mean_users(side.complete, problems)
        ours = means[entry.study.name, entry.cell.key]
        theirs = means[entry.baseline.study.name, entry.baseline.cell.key]
        if not ours.index.equals(theirs.index):
            continue
        # Pairs with the same users are tested together.
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
                for column, attribute in USER_COLUMNS.items()
            }
    return results


def _mean_users(replicates: Sequence[ConfirmationSummary], problems: list[str]) -> pd.DataFrame:
    """Every user's scores, averaged over replicates: a column for each metric, users ascending; no
    users if one of the tables cannot be read, which is noted among the problems."""
    tables = []
    for replicate in replicates:
        try:
            tables.append(pd.read_parquet(replicate.test_users))
        except (OSError, ValueError) as error:
            said = " ".join(str(error).split())
            problems.append(f"{replicate.test_users}: users' test scores cannot be read: {said}")
            return pd.DataFrame()
    return pd.concat(tables).groupby("user").mean()
