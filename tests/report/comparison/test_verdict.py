"""What a verdict rests on: on simulated searches whose truth is known, and case by case."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from states import METRIC, summary_of
from states import confirmed_cell as cell

from mgstudy.report.comparison.answer import answer, pooled
from mgstudy.report.comparison.formats import caption, to_csv, to_json, to_markdown
from mgstudy.report.comparison.paper import to_latex
from mgstudy.report.comparison.studies import Comparison, compare_studies
from mgstudy.report.comparison.verdict import fewest_trials
from mgstudy.significance import exceedance_test
from mgstudy.study.search.state import CellState


def compared(*cells: CellState, epochs: int = 100) -> Comparison:
    training = {"epochs": epochs, "objective": METRIC, "early_stopping": None}
    return compare_studies([summary_of(cells, training=training)])


def verdict(*cells: CellState, epochs: int = 100) -> str:
    rows = compared(*cells, epochs=epochs).of(METRIC)
    (said,) = rows.loc[rows["gradient"] == "mg", "verdict"]
    return str(said)


HIGH = [0.300, 0.301, 0.302, 0.301, 0.300]
LOW = [0.200, 0.201, 0.202, 0.201, 0.200]
"""Test scores of five seeds, far from each other."""
UPPER = [0.31, 0.32, 0.33, 0.34, 0.35, 0.36]
LOWER = [0.21, 0.22, 0.23, 0.24, 0.25, 0.26]
"""Validation scores of searches, likewise."""


@pytest.mark.parametrize("sizes", [(3, 3), (2, 5), (6, 2)])
def test_the_exceedance_test_is_exact(sizes: tuple[int, int]) -> None:
    """Its p is the share of all ways of parting the values whose run is as long."""
    n, total = sizes[0], sum(sizes)

    def run(ours: set[int]) -> int:
        sides = [value in ours for value in reversed(range(total))]
        return next((k for k, side in enumerate(sides) if side is not sides[0]), total)

    ways = [set(chosen) for chosen in itertools.combinations(range(total), n)]
    for ours in ways:
        p, direction = exceedance_test(sorted(ours), sorted(set(range(total)) - ours))
        assert p == pytest.approx(sum(run(way) >= run(ours) for way in ways) / len(ways))
        assert direction == (1 if total - 1 in ours else -1)


def test_equal_bests_say_nothing() -> None:
    assert exceedance_test([0.1, 0.3], [0.3, 0.2]) == (1.0, 0)
    assert exceedance_test([], [0.3]) == (1.0, 0)


def simulated(
    random: np.random.Generator, model: str, trials: int, seeds: int, effect: float
) -> list[CellState]:
    """A cell and its baseline, which draw their configurations from one distribution, but for an
    effect; the spread of configurations is ten times that of seeds."""
    cells = []
    for gradient, shift in (("plain", 0.0), ("mg", effect)):
        quality = 0.5 + shift + random.normal(0, 0.05, trials)
        validation = quality + random.normal(0, 0.005, trials)
        test = quality[validation.argmax()] + random.normal(0, 0.005, seeds)
        cells.append(cell(gradient, validation.tolist(), test.tolist(), model))
    return cells


@pytest.mark.parametrize(
    ("trials", "seeds", "comparisons"), [(1, 3, 1), (3, 3, 2), (6, 5, 1), (12, 5, 3), (30, 10, 1)]
)
def test_no_method_is_called_better_for_the_luck_of_its_search(
    trials: int, seeds: int, comparisons: int
) -> None:
    """In at most 6 % of whole studies, though the test over seeds alone is sure in most."""
    random = np.random.default_rng(trials)
    studies, misled, sure = 80, 0, 0
    for _ in range(studies):
        cells = [
            one
            for model in range(comparisons)
            for one in simulated(random, f"M{model}", trials, seeds, 0.0)
        ]
        rows = compared(*cells).of(METRIC)
        misled += rows["verdict"].str.match("better|worse").any()
        sure += (rows["p_t"] < 0.05).any()
    assert stats.binomtest(misled, studies, 0.06, alternative="greater").pvalue > 0.01
    assert sure > studies / 2


def test_a_method_that_is_better_is_called_so() -> None:
    random = np.random.default_rng(1)
    found = [verdict(*simulated(random, "M", 12, 5, 0.15)) for _ in range(60)]
    assert sum(said.startswith("better") for said in found) / len(found) > 0.8


def test_what_rests_on_nothing_but_seeds_and_searches_needs_no_word() -> None:
    assert verdict(cell("plain", LOWER, LOW), cell("mg", UPPER, HIGH)) == (
        "better over seeds and searches, p=0.002, holds after Holm"
    )


@pytest.mark.parametrize(("trials", "p"), [(1, "p=1.00"), (3, "p=0.10")])
def test_a_search_too_small_for_its_space_gives_no_verdict(trials: int, p: str) -> None:
    said = verdict(cell("plain", LOWER[:trials], LOW), cell("mg", UPPER[:trials], HIGH))
    assert said == (
        "this configuration scores higher than the baseline's over seeds, p<0.001; "
        f"searches of {trials} and {trials} trials do not tell that from luck, {p} "
        "(fewer than 4 of each never do)"
    )


def test_searches_that_point_the_other_way_give_no_verdict() -> None:
    said = verdict(cell("plain", UPPER, LOW), cell("mg", LOWER, HIGH))
    assert said.startswith(
        "this configuration scores higher than the baseline's over seeds, p<0.001; "
    )


def test_where_nothing_is_searched_seeds_decide() -> None:
    one = [cell(name, [0.3], tests, searched=frozenset()) for name, tests in
           (("plain", LOW), ("mg", HIGH))]  # fmt: skip
    assert verdict(*one) == "better over seeds, p<0.001, holds after Holm"


@pytest.mark.parametrize("confirmation", [{"seeds": 5}, {"seeds": 5, "up_to": 30}])
@pytest.mark.parametrize("apart", [1000, 0])
def test_what_does_not_vary_is_never_called_better(
    confirmation: dict[str, int], apart: int
) -> None:
    """Nor does it count among the comparisons."""
    still = [
        cell(gradient, [0.5], [score] * 5, searched=frozenset(), apart=apart)
        for gradient, score in (("plain", 0.1), ("mg", 0.2))
    ]
    other = [
        cell(gradient, [0.5], scores, "N", frozenset())
        for gradient, scores in (("plain", LOW), ("mg", HIGH))
    ]
    study = summary_of(
        [*still, *other], training={"objective": METRIC}, settings={"confirmation": confirmation}
    )
    rows = compare_studies([study], metrics=[METRIC]).of(METRIC).set_index("cell")
    said = rows.loc[still[1].key]
    assert said["verdict"].startswith("nothing varies over seeds: no test is possible")
    assert np.isnan([said["p_t"], said["p_seeds"], said["p_search"], said["p_holm"]]).all()
    assert rows.loc[other[1].key, "comparisons"] == 1
    assert rows.loc[other[1].key, "verdict"].startswith("better")


def test_trainings_that_were_cut_short_are_named() -> None:
    cut = {"reason": "epochs", "best_epoch": 6}
    both = [cell("plain", LOWER, LOW, **cut), cell("mg", UPPER, HIGH, **cut)]
    assert verdict(*both, epochs=6).endswith(
        "; not trained out (5 of 5 best at the end of 6 epochs)"
        "; baseline not trained out (5 of 5 best at the end of 6 epochs)"
    )
    out = {"reason": "epochs", "best_epoch": 50}
    both = [cell("plain", LOWER, LOW, **out), cell("mg", UPPER, HIGH, **out)]
    assert verdict(*both).endswith("Holm")


@pytest.mark.parametrize(("cost", "said"), [(133, "; at 1.33 times"), (105, "holds after Holm")])
def test_costs_that_differ_are_said(cost: int, said: str) -> None:
    plain = cell("plain", LOWER, LOW, gradient_computations=100)
    assert said in verdict(plain, cell("mg", UPPER, HIGH, gradient_computations=cost))


def curve(cell: CellState, per_epoch: int, *curves: Sequence[float]) -> CellState:
    """The cell with these validation scores by epoch, of as many replicates."""
    replicates = [
        replace(
            trial,
            values=dict(enumerate(values, start=1)),
            outcome={
                **trial.outcome,
                "epochs": len(values),
                "gradient_computations": per_epoch * len(values),
            },
        )
        for trial, values in zip(cell.confirmations, curves, strict=True)
    ]
    return replace(cell, confirmations=replicates)


def test_where_costs_differ_the_comparison_within_equal_ones_stands_beside() -> None:
    """A training of 4 epochs at 150 against one of 4 at 100: within 400, two epochs of it count."""
    rising = [[0.10, 0.20, 0.30, 0.40], [0.10, 0.22, 0.31, 0.42], [0.12, 0.24, 0.33, 0.41]]
    plain = curve(cell("plain", LOWER, LOW[:3]), 100, *([0.1, 0.2, 0.2, 0.1] for _ in range(3)))
    dear = curve(cell("mg", UPPER, HIGH[:3]), 150, *rising)
    comparison = compared(plain, dear)
    row = comparison.of(METRIC).iloc[1]
    assert row["cost_ratio"] == pytest.approx(1.5)
    assert row["equal_cost"] == 400
    # (0.20 + 0.22 + 0.24) / 3 over 0.2, and Student's interval of three.
    assert row["equal_cost_relative"] == pytest.approx(0.1)
    half = stats.t.ppf(0.975, 2) * 0.02 / 3**0.5 / 0.2
    assert row["equal_cost_high"] == pytest.approx(0.1 + half)
    said = (
        "at 1.50 times the gradient computations, and within the same 400 +10.0% "
        "(-14.8% to +34.8%) on validation"
    )
    assert said in row["verdict"]
    written = [to_latex(comparison), to_json(comparison), to_csv(comparison)]
    assert all("within the same 400" in text for text in written)


def test_luck_of_the_search_is_said_in_every_format() -> None:
    few = compared(cell("plain", LOWER[:3], LOW), cell("mg", UPPER[:3], HIGH))
    said = "searches of 3 and 3 trials do not tell that from luck"
    for text in (to_latex(few), to_json(few), to_csv(few), to_markdown(few)):
        assert said in text.replace("\n", " ")


@pytest.mark.parametrize(("comparisons", "trials"), [(1, 4), (2, 5), (10, 6), (30, 7)])
def test_how_many_trials_a_search_must_have(comparisons: int, trials: int) -> None:
    """With one fewer of each, not even all of one side above all of the other pass Holm."""
    assert fewest_trials(comparisons) == trials
    best, _ = exceedance_test(range(trials, 2 * trials), range(trials))
    assert best * comparisons < 0.05
    worse, _ = exceedance_test(range(trials, 2 * trials - 1), range(1, trials))
    assert worse * comparisons >= 0.05


@pytest.mark.parametrize(
    ("seeds", "apart", "said"),
    [(3, 1000, "; by the t test on 3 seeds alone"), (4, 1000, "holds after Holm"),
     (5, 0, "; by the t test on 5 pairs of seeds alone")],
)  # fmt: skip
def test_seeds_too_few_for_any_other_test_are_said(seeds: int, apart: int, said: str) -> None:
    plain = cell("plain", LOWER, LOW[:seeds])
    tests = [score + 0.0001 * number for number, score in enumerate(HIGH[:seeds])]
    assert verdict(plain, cell("mg", UPPER, tests, apart=apart)).endswith(said)


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [(3, 30, ""), (3, 5, ""), (3, 4, "by the t test on 3 and 4 seeds alone"),
     (4, 3, "by the t test on 4 and 3 seeds alone")],
)  # fmt: skip
def test_seeds_are_too_few_by_the_number_of_either_side(ours: int, theirs: int, said: str) -> None:
    """The least p of a permutation is 2 / C(8, 3) = 0.036 of 3 against 5, 2 / C(7, 3) = 0.057 of 3
    against 4."""
    row = compared(
        cell("plain", LOWER, [LOW[0] + number * 1e-4 for number in range(theirs)]),
        cell("mg", UPPER, [HIGH[0] + number * 1e-4 for number in range(ours)]),
    ).of(METRIC).iloc[1]  # fmt: skip
    assert (row["p_permutation"] < 0.05) == (not said)
    assert row["reservations"] == said
    assert row["verdict"].startswith("better over seeds and searches, p=0.002, holds after Holm")


def test_what_two_seeds_found_is_neither_marked_nor_counted() -> None:
    found = compared(
        cell("plain", [0.3], LOW[:2], "A", frozenset()),
        cell("mg", [0.3], HIGH[:2], "A", frozenset()),
        cell("plain", [0.3], LOW, "B", frozenset()),
        cell("mg", [0.3], HIGH, "B", frozenset()),
    )
    few, enough = (found.of(METRIC).iloc[place] for place in (1, 3))
    assert few["verdict"] == "too few seeds to say"
    assert np.isnan([few["p_t"], few["p_seeds"], few["p_holm"]]).all()
    assert enough["comparisons"] == 1 and enough["p_holm"] == enough["p_seeds"]
    assert [row.count("**") for row in to_markdown(found).splitlines()[2:6]] == [0, 0, 0, 1]
    assert answer(found) == "Yes: of one comparison one shows a gain, none a loss."
    assert pooled(found) == []
    assert "corrected for 1 tested cell" in caption(found)


def looked_at(seeds: int) -> Comparison:
    """A comparison of so many seeds by now, which are added five by five."""
    cells = [
        cell(name, [0.3], [start + number * 1e-4 for number in range(seeds)], "M", frozenset())
        for name, start in (("plain", 0.2), ("mg", 0.3))
    ]
    confirmation = {"seeds": 5, "up_to": 30}
    return compare_studies([summary_of(cells, settings={"confirmation": confirmation})])


def test_looks_are_counted_before_the_first_too() -> None:
    said = looked_at(1).of(METRIC)["verdict"].iloc[1]
    assert said == "too few seeds to say (1 seed, 0 of at most 6 looks)"
    said = looked_at(10).of(METRIC)["verdict"].iloc[1]
    assert said.endswith("holds after Holm (10 seeds, 2 of at most 6 looks)")


def test_where_seeds_were_added_it_is_said_that_only_p_is_corrected_for_it() -> None:
    said = "Only p is corrected for looks: differences, intervals and pooled estimates are not."
    assert said in caption(looked_at(10))
    assert said not in caption(looked_at(5))


def test_a_table_for_a_paper_marks_what_rests_on_something() -> None:
    fine = [cell("plain", LOWER, LOW), cell("mg", UPPER, HIGH)]
    assert "dagger" not in to_latex(compared(*fine))
    three = [cell("plain", LOWER, LOW[:3]), cell("mg", UPPER, HIGH[:3])]
    table = to_latex(compared(*three))
    assert "{**\\dagger}" in table
    assert "mg: by the t test on 3 seeds alone." in table


def test_p_is_never_rounded_to_the_level_that_it_is_below() -> None:
    # All of 6 trials are above all of 12. Of 18,564 choices 925 have as long a run: 0.04983.
    said = verdict(cell("plain", [*LOWER, *LOWER], LOW), cell("mg", UPPER, HIGH))
    assert said == "better over seeds and searches, p=0.0498, holds after Holm"
