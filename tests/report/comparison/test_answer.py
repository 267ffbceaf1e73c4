"""What a study's comparisons say together."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats
from states import METRIC, summary_of
from states import confirmed_cell as cell

from mgstudy.report.comparison.answer import answer, pooled
from mgstudy.report.comparison.formats import to_json
from mgstudy.report.comparison.studies import Comparison, compare_studies
from mgstudy.report.figures import Drawing
from mgstudy.report.page.scores import differences
from mgstudy.study.search.state import CellState

PLAIN = [0.200, 0.201, 0.199, 0.202, 0.198]
NONE: frozenset[str] = frozenset()


def compared(*cells: CellState) -> Comparison:
    training = {"epochs": 100, "objective": METRIC, "early_stopping": None}
    return compare_studies([summary_of(cells, training=training)])


def against_plain(**changes: float) -> Comparison:
    """A comparison for each model whose score changes by this share; nothing is searched."""
    cells = []
    for number, (model, change) in enumerate(changes.items()):
        cells.append(cell("plain", [0.3], PLAIN, model, NONE))
        tests = [score * (1 + change) + number * 1e-5 for score in PLAIN]
        cells.append(cell("mg", [0.3], tests, model, NONE))
    return compared(*cells)


def test_the_answer_counts_gains_losses_and_what_is_excluded() -> None:
    said = answer(against_plain(A=0.5, B=-0.5, C=0.0, D=0.001))
    comparison = against_plain(A=0.5, B=-0.5, C=0.0, D=0.001)
    rows = comparison.of(METRIC)
    largest = rows.loc[rows["model"].isin(["C", "D"]) & (rows["gradient"] == "mg"), "at_most"].max()
    assert said == (
        "No: of 4 comparisons one shows a gain, one a loss; differences above "
        f"{largest:.1%} are excluded for two."
    )
    assert answer(against_plain(A=0.5, B=0.6)) == (
        "Yes: of 2 comparisons two show a gain, none a loss."
    )
    assert answer(against_plain(A=0.001, B=0.0)).endswith("% are excluded for all.")
    assert answer(against_plain(A=0.001)).startswith(
        "No difference is shown: of one comparison none shows a gain, none a loss; differences"
    )
    assert answer(compared(cell("plain", [0.3], PLAIN))) == ""


def test_what_searches_may_have_made_is_told_apart_from_gains() -> None:
    luck = [cell("plain", [0.3, 0.2, 0.1], PLAIN), cell("mg", [0.4, 0.2, 0.1], [0.5, 0.51, 0.52])]
    assert answer(compared(*luck)) == (
        "No difference is shown: of one comparison none shows a gain, none a loss; one between "
        "configurations alone, which may be the searches' luck."
    )


def test_the_pooled_estimate_is_hartungs_and_knapps() -> None:
    """By hand: with the spread between comparisons far above that over seeds, all weigh alike."""
    changes = {"A": 0.3, "B": 0.1, "C": -0.1, "D": 0.5}
    comparison = against_plain(**changes)
    (found,) = pooled(comparison)
    effects = np.array(
        comparison.of(METRIC).query("gradient == 'mg'")["relative_difference"], np.float64
    )
    half = stats.t.ppf(0.975, 3) * effects.std(ddof=1) / 2
    assert found.label == "mg" and found.comparisons == 4
    assert found.estimate == pytest.approx(effects.mean(), rel=1e-3)
    assert found.high - found.low == pytest.approx(2 * half, rel=1e-2)
    assert found.heterogeneity > 0.99
    assert found.spread == pytest.approx(effects.std(ddof=1), rel=1e-2)
    content = json.loads(to_json(comparison))
    assert content["pooled"][0]["estimate"] == found.estimate
    assert content["answer"] == answer(comparison)
    assert pooled(against_plain(A=0.1)) == []


def test_the_forest_plot_has_every_comparison_and_the_pooled_one() -> None:
    comparison = against_plain(A=0.5, B=-0.5)
    drawing = Drawing(comparison.studies[0], comparison.baseline, frozenset())
    figure = differences(drawing, comparison)
    assert figure is not None
    forest, together = figure.panels
    assert list(forest.categories) == ["A", "B"]
    assert forest.reference == (0.0, "no difference")
    (series,) = forest.series
    assert series.x == pytest.approx([50, -50], abs=0.1)
    assert series.low is not None and series.high is not None
    assert all(
        low < x < high for low, x, high in zip(series.low, series.x, series.high, strict=True)
    )
    assert together.title == "pooled (comparisons)" and list(together.categories) == ["mg (2)"]
    assert differences(drawing, compared(cell("plain", [0.3], PLAIN))) is None
