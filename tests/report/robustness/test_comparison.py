"""Drops, areas and their intervals, against numbers worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mgstudy.report.robustness.comparison import RobustnessTables, _summary, _welch_p
from mgstudy.report.robustness.formats import robustness_markdown
from mgstudy.report.robustness.scores import CellScores, significance

BASELINES = {"mg": "plain", "sam": "plain"}

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
    scores = CellScores("a", found)
    rows = list(scores.curves())
    assert [row["severity"] for row in rows] == [0.0, 1.0, 4.0]
    assert [row["recall@20"] for row in rows] == pytest.approx([0.4, 0.3, 0.1])
    assert [row["relative_drop"] for row in rows] == pytest.approx([0, 0.25, 0.75])
    assert (rows[0]["drop_low"], rows[0]["drop_high"]) == (0, 0)  # The same users on both sides.
    assert rows[1]["drop_low"] < 0.25 < rows[1]["drop_high"]
    assert (rows[1]["replicates"], rows[1]["risk_seeds"]) == (2, 2)
    area = scores.area("noise", "none")
    assert area.mean == pytest.approx(1.625 / 4)
    assert area.drop == pytest.approx(0.75)
    assert (area.severity, area.reached) == (4, True)
    assert area.samples.mean() == pytest.approx(area.mean, abs=0.02)


def test_a_severity_that_is_not_measured_for_every_model_is_left_out() -> None:
    found = [measured("a", 0, 0.4), measured("a", 1, 0.4)]
    found += [measured("a", 0, 0.3, **under(1.0)), measured("a", 1, 0.3, **under(1.0))]
    found += [measured("a", 0, 0.1, **under(2.0))]
    assert [point.severity for point in CellScores("a", found).curve("noise", "none")] == [0.0, 1.0]


def test_what_was_not_reached_drops_by_exactly_zero() -> None:
    values = [0.1, 0.2, 0.4]
    found = [measured("a", r, value) for r, value in enumerate(values)]
    found += [
        {**measured("a", r, value, **under(1.0, seed, reached=False)), "resampled": None}
        for r, value in enumerate(values)
        for seed in range(3)
    ]
    rows = list(CellScores("a", found).curves())
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
        scores[cell] = CellScores(cell, found)
    table = _summary(scores, levels, BASELINES).set_index("cell")
    assert table.loc["plain", "area"] == pytest.approx(0.25)
    assert table.loc["mg", "area"] == pytest.approx(0.125)
    assert table.loc["mg", "difference"] == pytest.approx(-0.125)
    assert table.loc["mg", "p"] == table.loc["mg", "p_holm"]  # The only test there is.
    assert bool(table.loc["mg", "significant"]) is True
    assert math.isnan(table.loc["plain", "p"])
    assert math.isnan(table.loc["other", "p"])  # It has no plain beside it.


def simulated(cells: Mapping[str, Mapping[str, Any]], at_one: float = 0.3) -> pd.DataFrame:
    """The summary of plain, which drops by a half, and of others that drop less, each measured as
    said: a replicate, clean and at severity 1."""
    levels = {key: {"model": "VBPR", "gradient": key} for key in cells}
    scores = {}
    for key, measured_as in cells.items():
        risky = measured(key, 0, 0.2 if key == "plain" else at_one, **under(1.0))
        scores[key] = CellScores(
            key, [{**found, **measured_as} for found in (measured(key, 0, 0.4), risky)]
        )
    return _summary(scores, levels, BASELINES).set_index("cell")


TEST = {"split": "test", "users": 90}
VALIDATION = {"split": "validation", "users": 40}


@pytest.mark.parametrize(
    "other", [VALIDATION, {**TEST, "split": "validation"}, {**TEST, "users": 89}]
)
def test_no_difference_between_splits_or_users(other: dict[str, Any]) -> None:
    """mg's confirmation has failed, so that it was measured where its search was."""
    table = simulated({"plain": TEST, "sam": TEST, "mg": other})
    assert bool(table.loc["sam", "significant"]) is True
    columns = ["difference", "difference_low", "difference_high", "p", "p_holm"]
    assert table.loc["mg", columns].isna().all()
    assert bool(table.loc["mg", "significant"]) is False
    assert table.loc["mg", "split"] == other["split"]
    # The family has one test, which another split's cell does not make harder.
    assert table.loc["sam", "p"] == table.loc["sam", "p_holm"]


def test_no_difference_between_severities() -> None:
    levels = {key: {"model": "VBPR", "gradient": key} for key in ("plain", "mg")}
    scores = {}
    for key, severities in (("plain", (1.0, 2.0)), ("mg", (1.0,))):
        risky = [measured(key, 0, 0.4 - 0.1 * s, **under(s)) for s in severities]
        scores[key] = CellScores(key, [measured(key, 0, 0.4), *risky])
    assert math.isnan(_summary(scores, levels, BASELINES).set_index("cell").loc["mg", "p"])


def test_a_column_has_one_split() -> None:
    table = simulated({"plain": TEST, "sam": TEST, "mg": VALIDATION}).reset_index()
    table.insert(2, "cell", table.pop("cell"))
    tables = RobustnessTables(pd.DataFrame(), table, pd.DataFrame(), [])
    on_test, said, on_validation, said_too = robustness_markdown(tables).split("\n\n")
    assert "on the test split" in said
    assert "on the validation split, of cells that are not confirmed" in said_too
    assert [line[:7] for line in on_test.splitlines()[2:]] == ["| plain", "| sam |"]
    assert [line[:6] for line in on_validation.splitlines()[2:]] == ["| mg |"]


def test_the_table_as_markdown() -> None:
    levels = {
        "plain": {"model": "VBPR", "gradient": "plain"},
        "mg": {"model": "VBPR", "gradient": "mg"},
    }
    scores = {}
    for cell, at_one in (("plain", 0.2), ("mg", 0.3)):
        found = [measured(cell, 0, 0.4), measured(cell, 0, at_one, **under(1.0))]
        scores[cell] = CellScores(cell, found)
    tables = RobustnessTables(
        pd.DataFrame(), _summary(scores, levels, BASELINES), pd.DataFrame(), []
    )
    table, caption = robustness_markdown(tables).split("\n\n")
    assert table.splitlines() == [
        "| gradient | clean | noise |",
        "| --- | ---: | ---: |",
        "| plain | 0.4000 | +25.0% |",
        "| mg | 0.4000 | +12.5%* |",
    ]
    assert caption.startswith("Relative drop of the score")


def test_p_values_against_known_ones() -> None:
    samples = np.random.default_rng(0).normal(1.0, 0.5, 20_000)
    over_users = significance(1.0, samples, freedom=0)
    assert over_users.p == pytest.approx(2 * stats.norm.sf(2), rel=0.05)
    assert over_users.low == pytest.approx(1 - 1.96 * 0.5, abs=0.02)
    over_replicates = significance(1.0, samples, freedom=8)
    assert over_replicates.p == pytest.approx(2 * stats.t(8).sf(2), rel=0.05)
    assert over_replicates.high == pytest.approx(1 + 2.306 * 0.5, abs=0.02)
    assert math.isnan(significance(0.0, np.zeros(100), 8).p)
    expected = stats.ttest_ind([1.0, 2, 3], [2.0, 4, 7], equal_var=False).pvalue
    assert _welch_p([1.0, 2, 3], [2.0, 4, 7]) == pytest.approx(expected)
    assert math.isnan(_welch_p([1.0], [2.0]))
    # No test where nothing varies, however far apart the two are.
    assert math.isnan(_welch_p([0.1, 0.1, 0.1], [0.2, 0.2, 0.2]))


@pytest.mark.parametrize("seeds", [1, 3])
def test_false_positives_come_at_the_nominal_rate(seeds: int) -> None:
    """Two strategies whose replicates drop alike, 5 of each: 5 % of 500 tests are below 0.05.

    The standard error of a share of 0.05 is 1 %; drawing all 5 replicates and calling the
    difference normal would give twice as many.
    """
    random = np.random.default_rng(3)
    positives = 0
    for _ in range(500):
        areas = []
        of_seed = random.normal(0, 0.05, seeds)  # The same harm to both.
        for cell in ("plain", "mirror"):
            found = [measured(cell, replicate, 0.4) for replicate in range(5)]
            found += [
                measured(cell, replicate, 0.3 + trained + of_seed[seed], **under(1.0, seed))
                for replicate, trained in enumerate(random.normal(0, 0.02, 5))
                for seed in range(seeds)
            ]
            areas.append(CellScores(cell, found).area("noise", "none"))
        samples = areas[0].samples - areas[1].samples
        positives += significance(areas[0].mean - areas[1].mean, samples, 8).p < 0.05
    assert 13 <= positives <= 38
