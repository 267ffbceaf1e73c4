"""Drops, areas and their intervals, against numbers worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from mgstudy.report.robustness import _bootstrap_p, _Scores, _summary, _welch_p

USERS, RESAMPLES = 100, 200


def measured(
    cell: str, replicate: int, value: float, shift: float = 0.0, **risk: Any
) -> dict[str, Any]:
    spread = np.linspace(-1, 1, RESAMPLES) * 0.01
    return {
        "kind": "risk" if risk else "clean",
        "cell": cell,
        "replicate": replicate,
        "split": "test",
        "users": USERS,
        "objective": "recall@20",
        "metrics": {"recall@20": value},
        "resampled": (value + shift + spread).tolist(),
        "reached": True,
        **risk,
    }


def under(severity: float, seed: int = 0, reached: bool = True) -> dict[str, Any]:
    return {
        "risk": "noise",
        "graph": "none",
        "severity": severity,
        "risk_seed": seed,
        "reached": reached,
    }


def test_drop_and_area_by_hand() -> None:
    """0.4 clean; 0.3 at severity 1 and 0.1 at 4: drops of 1/4 and 3/4, whose trapezoids are
    1/8 · 1 + 1/2 · 3 = 1.625 over a length of 4."""
    found = [measured("a", 0, 0.4), measured("a", 1, 0.4)]
    for replicate in (0, 1):
        for seed, off in ((0, -0.02), (1, 0.02)):
            found.append(measured("a", replicate, 0.3 + off, **under(1.0, seed)))
            found.append(measured("a", replicate, 0.1 + off, **under(4.0, seed)))
    scores = _Scores("a", found)
    rows = list(scores.curves())
    assert [row["severity"] for row in rows] == [0.0, 1.0, 4.0]
    assert [row["recall@20"] for row in rows] == pytest.approx([0.4, 0.3, 0.1])
    assert [row["relative_drop"] for row in rows] == pytest.approx([0, 0.25, 0.75])
    assert (rows[0]["drop_low"], rows[0]["drop_high"]) == (0, 0)  # The same users on both sides.
    assert rows[1]["drop_low"] < 0.25 < rows[1]["drop_high"]
    assert (rows[1]["replicates"], rows[1]["risk_seeds"]) == (2, 2)
    area, samples, drop, severity, reached = scores.area("noise", "none")
    assert (area, drop, severity, reached) == (
        pytest.approx(1.625 / 4),
        pytest.approx(0.75),
        4,
        True,
    )
    assert samples.mean() == pytest.approx(area, abs=0.02)


def test_a_severity_that_is_not_measured_for_every_model_is_left_out() -> None:
    found = [measured("a", 0, 0.4), measured("a", 1, 0.4)]
    found += [measured("a", 0, 0.3, **under(1.0)), measured("a", 1, 0.3, **under(1.0))]
    found += [measured("a", 0, 0.1, **under(2.0))]
    assert [point[0] for point in _Scores("a", found).curve("noise", "none")] == [0.0, 1.0]


def test_what_was_not_reached_drops_by_exactly_zero() -> None:
    values = [0.1, 0.2, 0.4]
    found = [measured("a", r, value) for r, value in enumerate(values)]
    found += [
        {**measured("a", r, value, **under(1.0, seed, reached=False)), "resampled": None}
        for r, value in enumerate(values)
        for seed in range(3)
    ]
    rows = list(_Scores("a", found).curves())
    assert rows[1]["relative_drop"] == rows[1]["drop_low"] == rows[1]["drop_high"] == 0


def test_the_difference_from_plain_and_its_significance() -> None:
    levels = {
        "plain": {"model": "VBPR", "gradient": "plain"},
        "mg": {"model": "VBPR", "gradient": "mg"},
        "other": {"model": "BPR", "gradient": "mg"},
    }
    scores = {}
    for cell, at_one in (("plain", 0.2), ("mg", 0.3), ("other", 0.3)):
        found = [measured(cell, 0, 0.4), measured(cell, 0, at_one, **under(1.0))]
        scores[cell] = _Scores(cell, found)
    table = _summary(scores, levels).set_index("cell")
    assert table.loc["plain", "area"] == pytest.approx(0.25)
    assert table.loc["mg", "area"] == pytest.approx(0.125)
    assert table.loc["mg", "difference"] == pytest.approx(-0.125)
    assert table.loc["mg", "p"] == table.loc["mg", "p_holm"]  # The only test there is.
    assert bool(table.loc["mg", "significant"]) is True
    assert math.isnan(table.loc["plain", "p"])
    assert math.isnan(table.loc["other", "p"])  # It has no plain beside it.


def test_p_values_against_known_ones() -> None:
    samples = np.random.default_rng(0).normal(1.0, 0.5, 20_000)
    assert _bootstrap_p(1.0, samples) == pytest.approx(2 * stats.norm.sf(2), rel=0.05)
    assert math.isnan(_bootstrap_p(0.0, np.zeros(100)))
    expected = stats.ttest_ind([1.0, 2, 3], [2.0, 4, 7], equal_var=False).pvalue
    assert _welch_p([1.0, 2, 3], [2.0, 4, 7]) == pytest.approx(expected)
    assert math.isnan(_welch_p([1.0], [2.0]))
