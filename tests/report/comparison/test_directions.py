"""Metrics of which smaller is better, and scores below 0."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from states import METRIC, SEARCHED, confirmed_cell, summary_of

from mgstudy.report.comparison import formats
from mgstudy.report.comparison.answer import answer, pooled
from mgstudy.report.comparison.paper import to_latex
from mgstudy.report.comparison.studies import Comparison, compare_studies
from mgstudy.report.figures import Drawing
from mgstudy.report.page.scores import differences
from mgstudy.report.page.tables import every_metric
from mgstudy.report.robustness.scores import CellScores
from mgstudy.study.search.state import CellState

GINI = "gini@20"
POPULAR = {"sim": {"test": {METRIC: 0.05, GINI: 0.5}}}
EVEN, UNEVEN = [0.30, 0.31, 0.32, 0.33, 0.34], [0.70, 0.71, 0.72, 0.73, 0.74]
FOUND = [0.100, 0.101, 0.099, 0.102, 0.098]
LOWER, UPPER = ([start + step / 100 for step in range(6)] for start in (0.2, 0.3))


def measured(cell: CellState, gini: Sequence[float]) -> CellState:
    """The cell whose replicates have these scores, too."""
    replicates = []
    for trial, score in zip(cell.confirmations, gini, strict=True):
        metrics = {**trial.test_metrics, GINI: score}
        outcome = {**trial.outcome, "test_metrics": metrics, "best_metrics": metrics}
        replicates.append(replace(trial, outcome=outcome))
    return replace(cell, confirmations=replicates)


def by_gini(
    plain: Sequence[float],
    mirrored: Sequence[float],
    trials: tuple[Sequence[float], Sequence[float]] = ([0.3], [0.3]),
    searched: frozenset[str] = frozenset(),
) -> Comparison:
    """Two cells of the same recall, of which nothing is searched unless it is said."""
    cells = [
        measured(confirmed_cell(name, found, FOUND, searched=searched), gini)
        for name, found, gini in zip(("plain", "mg"), trials, (plain, mirrored), strict=True)
    ]
    return compare_studies([summary_of(cells, popularity=POPULAR)], metrics=[METRIC, GINI])


def verdict(comparison: Comparison) -> str:
    return str(comparison.of(GINI).iloc[1]["verdict"])


def test_less_of_what_is_to_be_small_is_better() -> None:
    assert verdict(by_gini(UNEVEN, EVEN)) == "better over seeds, p<0.001, holds after Holm"
    assert verdict(by_gini(EVEN, UNEVEN)) == "worse over seeds, p<0.001, holds after Holm"


def test_a_luckier_search_explains_what_is_better_not_what_is_larger() -> None:
    """The search that was ahead is that of the cell whose index is smaller."""
    said = verdict(by_gini(UNEVEN, EVEN, (LOWER, UPPER), SEARCHED))
    assert said == "better over seeds and searches, p=0.002, holds after Holm"
    said = verdict(by_gini(EVEN, UNEVEN, (LOWER, UPPER), SEARCHED))
    assert said.startswith("this configuration scores higher than the baseline's over seeds")


def test_less_than_popularity_beats_it_where_less_is_better() -> None:
    comparison = by_gini(UNEVEN, EVEN)
    assert list(comparison.of(GINI)["beats_popularity"]) == [False, True]
    _, _, plain, mirrored, *_ = formats.to_markdown(comparison, [GINI]).splitlines()
    assert "0.7200 ± 0.0196‡" in plain and "‡" not in mirrored


def test_the_mark_is_explained_where_it_is_shown() -> None:
    """No cell is below popularity by the objective, one is by the other metric."""
    comparison = by_gini(UNEVEN, EVEN)
    for table, is_explained in (
        (formats.to_markdown(comparison, [GINI]), True),
        (formats.to_markdown(comparison, [METRIC]), False),
        (to_latex(comparison, [GINI]), True),
        (to_latex(comparison, [METRIC]), False),
        (formats.to_json(comparison), True),
    ):
        assert ("no better than ranking by popularity." in table) == is_explained


def test_the_least_is_the_best_of_its_table_where_less_is_better() -> None:
    comparison = by_gini(UNEVEN, EVEN)
    rows = [line for line in to_latex(comparison, [GINI]).splitlines() if line.endswith(r"\\")]
    assert r"\underline{0.7200}" in rows[1] and r"\textbf{0.3200}" in rows[2]
    table = every_metric(comparison)
    assert {place for place in table.strong if place[1] == GINI} == {(1, GINI)}


# Scores below 0, which `fairness` may have.


def negative(**changes: float) -> Comparison:
    """A comparison for each model whose score of about -0.2 rises by this."""
    cells = []
    for number, (model, change) in enumerate(changes.items()):
        for name, shift in (("plain", 0.0), ("mg", change + number * 1e-5)):
            scores = [score - 0.3 + shift for score in FOUND]
            cells.append(confirmed_cell(name, [0.3], scores, model, frozenset()))
    study = summary_of(cells, settings={"confirmation": {"margin": 0.1}})
    return compare_studies([study], metrics=[METRIC])


def test_a_rise_from_below_0_is_a_rise() -> None:
    comparison = negative(A=0.1, B=-0.1)
    rows = comparison.of(METRIC)
    assert list(rows["relative_difference"].dropna()) == pytest.approx([0.5, -0.5], abs=1e-3)
    assert (rows["at_most"].dropna() > 0).all()
    (estimate,) = pooled(comparison)
    assert estimate.comparisons == 2
    assert estimate.estimate == pytest.approx(0.0, abs=1e-3)
    assert estimate.low < 0 < estimate.high


def test_intervals_around_what_is_below_0_are_drawn_from_low_to_high() -> None:
    comparison = negative(A=0.1, B=0.0)
    figure = differences(
        Drawing(comparison.studies[0], comparison.baseline, frozenset()), comparison
    )
    assert figure is not None
    (series,) = figure.panels[0].series
    assert series.x == pytest.approx([50, 0], abs=0.1)
    assert series.low is not None and series.high is not None
    assert all(
        low < x < high for low, x, high in zip(series.low, series.x, series.high, strict=True)
    )


def test_a_margin_is_as_wide_below_0() -> None:
    comparison = negative(A=0.001)
    row = comparison.of(METRIC).iloc[1]
    assert row["p_equivalence"] < 0.001
    assert row["verdict"].startswith("difference over seeds shown to be no larger than 10%")
    assert "excluded for one" in answer(comparison)


def test_at_equal_cost_a_rise_from_below_0_is_a_rise() -> None:
    cells = []
    for name, shift, cost in (("plain", 0.0, 100), ("mg", 0.1, 200)):
        scores = [score - 0.3 + shift for score in FOUND]
        cell = confirmed_cell(
            name, [0.3], scores, "M", frozenset(), epochs=2, gradient_computations=cost
        )
        replicates = [
            replace(trial, values={1: score, 2: score - 0.01})
            for trial, score in zip(cell.confirmations, scores, strict=True)
        ]
        cells.append(replace(cell, confirmations=replicates))
    row = compare_studies([summary_of(cells)], metrics=[METRIC]).of(METRIC).iloc[1]
    relative, low, high = (row[f"equal_cost_{name}"] for name in ("relative", "low", "high"))
    assert relative == pytest.approx(0.5)
    half = stats.t.ppf(0.975, 8) * stats.sem(FOUND) * 2**0.5 / 0.2
    assert (low, high) == (pytest.approx(0.5 - half), pytest.approx(0.5 + half))


def test_under_a_risk_a_fall_from_below_0_is_a_drop() -> None:
    """From -0.2 to -0.3 at the only severity: by half, and half of that is the area."""
    common = {"cell": "a", "replicate": 0, "split": "test", "users": 9, "objective": METRIC}
    clean, changed = (
        {
            **common, "kind": kind, "metrics": {METRIC: score}, "resampled": [score] * 20,
            "reached": True, "risk": "noise", "graph": "none", "severity": 1.0, "risk_seed": 0,
        }
        for kind, score in (("clean", -0.2), ("risk", -0.3))
    )  # fmt: skip
    area = CellScores("a", [clean, changed]).area("noise", "none")
    assert (area.drop, area.mean) == (pytest.approx(0.5), pytest.approx(0.25))
    assert np.asarray(area.samples) == pytest.approx(0.25)
