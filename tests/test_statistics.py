from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats import weightstats

from mgstudy.significance import holm
from mgstudy.statistics import (
    benjamini_hochberg,
    cohen_dz,
    equivalence_p,
    hedges_g,
    mean_interval,
    seed_tests,
    t_test_p,
    user_tests,
)


def test_the_interval_of_a_mean_is_students() -> None:
    interval = mean_interval([1, 2, 3, 4, 5])
    # s = 1.5811, s / √5 = 0.70711, t(0.975, 4) = 2.77645.
    assert interval.mean == 3
    assert interval.high - 3 == pytest.approx(2.77645 * 0.70711, abs=1e-4)
    assert 3 - interval.low == pytest.approx(interval.high - 3)
    lonely = mean_interval([0.5])
    assert lonely.mean == 0.5
    assert math.isnan(lonely.low)
    assert math.isnan(lonely.high)


def test_independent_seeds_are_tested_by_welch_ranks_and_labels() -> None:
    ours, theirs = [5.0, 6.0, 7.0, 9.0], [1.0, 2.0, 3.0, 4.5]
    found = seed_tests(ours, theirs, paired=False)
    # Means 6.75 and 2.625, variances 2.9167 and 2.2292, so t = 4.125 / √(5.1459 / 4).
    t = 4.125 / math.sqrt((np.var(ours, ddof=1) + np.var(theirs, ddof=1)) / 4)
    parts = np.var(ours, ddof=1) / 4, np.var(theirs, ddof=1) / 4
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / 3 + parts[1] ** 2 / 3)
    assert found.p_t == pytest.approx(2 * stats.t.sf(t, freedom))
    # Of the 70 ways to choose four of eight, this one and its mirror image are the most extreme.
    assert found.p_wilcoxon == pytest.approx(2 / 70)
    assert found.p_permutation == pytest.approx(2 / 70)
    assert found.difference.mean == 4.125
    half = stats.t.ppf(0.975, freedom) * math.sqrt(sum(parts))
    assert found.difference.low == pytest.approx(4.125 - half)
    assert found.difference.high == pytest.approx(4.125 + half)


def test_common_seeds_are_tested_in_pairs() -> None:
    ours, theirs = [1.1, 2.3, 3.2, 4.6, 5.3], [1.0, 2.0, 3.0, 4.0, 5.0]
    found = seed_tests(ours, theirs, paired=True)
    differences = np.array([0.1, 0.3, 0.2, 0.6, 0.3])
    t = differences.mean() / (differences.std(ddof=1) / math.sqrt(5))
    assert found.p_t == pytest.approx(2 * stats.t.sf(t, 4))
    # All five have one sign: of 32 patterns of signs, two are as extreme.
    assert found.p_wilcoxon == pytest.approx(2 / 32)
    assert found.p_permutation == pytest.approx(2 / 32)
    assert found.effect_size == pytest.approx(differences.mean() / differences.std(ddof=1))
    # What is common to a pair does not count.
    assert found.p_t < seed_tests(ours, theirs, paired=False).p_t


@pytest.mark.parametrize("paired", [True, False])
def test_equal_scores_differ_in_nothing(paired: bool) -> None:
    for scores in ([0.3] * 5, [0.1, 0.2, 0.3, 0.4, 0.5]):
        found = seed_tests(scores, scores, paired)
        assert found.difference.mean == 0
        assert (found.p_t, found.p_permutation, found.p_wilcoxon) == (1, 1, 1)


@pytest.mark.parametrize(
    ("ours", "theirs", "paired"),
    [
        ([0.3] * 5, [0.2] * 5, False),
        ([0.3] * 5, [0.2] * 5, True),
        # Equal but for rounding.
        ([0.1 + 0.2, 0.3, 0.3], [0.2] * 3, False),
        # Pairs that all differ by the same amount, exactly and but for rounding.
        ([0.25, 0.5, 0.75], [0.125, 0.375, 0.625], True),
        ([0.3, 0.6, 0.9], [0.3 - 0.1, 0.6 - 0.1, 0.9 - 0.1], True),
    ],
)
def test_what_never_varies_cannot_be_tested(
    ours: list[float], theirs: list[float], paired: bool
) -> None:
    found = seed_tests(ours, theirs, paired)
    assert found.difference.low == found.difference.mean == found.difference.high
    assert found.difference.mean == pytest.approx(np.mean(ours) - np.mean(theirs))
    assert found.at_most == pytest.approx(found.difference.mean)
    for p in (found.p_t, found.p_wilcoxon, found.p_permutation, t_test_p(ours, theirs, paired)):
        assert math.isnan(p)
    assert math.isnan(found.effect_size)


@pytest.mark.parametrize("paired", [True, False])
def test_there_is_one_t_test(paired: bool) -> None:
    ours, theirs = [0.1 + 0.2] * 3, [0.3] * 3
    assert seed_tests(ours, theirs, paired).p_t == t_test_p(ours, theirs, paired) == 1
    ours, theirs = [0.3, 0.4, 0.6], [0.2, 0.25, 0.35]
    assert seed_tests(ours, theirs, paired).p_t == t_test_p(ours, theirs, paired) < 0.2


def test_effect_sizes_are_those_of_their_definitions() -> None:
    ours, theirs = np.array([2.0, 4.0, 6.0]), np.array([1.0, 2.0, 3.0])
    # Pooled variance (2·4 + 2·1) / 4 = 2.5; with 4 degrees of freedom the correction is
    # Γ(2) / (√2 · Γ(1.5)) = 0.79788.
    assert hedges_g(ours, theirs) == pytest.approx(2 / math.sqrt(2.5) * 0.79788, abs=1e-4)
    assert cohen_dz(np.array([1.0, 2.0, 3.0])) == 2
    assert math.isnan(cohen_dz(np.array([1.0, 1.0])))


def test_corrections_are_those_of_their_definitions() -> None:
    p_values = [0.01, 0.04, 0.03, math.nan]
    assert holm(p_values)[:3] == pytest.approx([0.03, 0.06, 0.06])
    assert benjamini_hochberg(p_values)[:3] == pytest.approx([0.03, 0.04, 0.04])
    assert math.isnan(holm(p_values)[3])
    assert holm([0.5, 0.01, 0.9, 0.6]) == pytest.approx([1, 0.04, 1, 1])
    for correct in (holm, benjamini_hochberg):
        assert correct([]) == []
        assert all(math.isnan(p) for p in correct([math.nan, math.nan]))


def test_signs_over_users_are_flipped_as_by_trying_all() -> None:
    random = np.random.default_rng(1)
    differences = random.normal(0.4, 1.0, (12, 3))
    found = user_tests(list(differences.T))
    for column in range(3):
        values = differences[:, column]
        sums = [abs(np.dot(signs, values)) for signs in itertools.product((-1, 1), repeat=12)]
        exact = np.mean(np.array(sums) >= abs(values.sum()) * (1 - 1e-9))
        assert found.p_permutation[column] == pytest.approx(exact, abs=0.02)
        assert found.p_t[column] == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
        assert found.p_wilcoxon[column] == pytest.approx(stats.wilcoxon(values).pvalue)


def test_the_bootstrap_interval_of_many_users_is_that_of_the_normal_law() -> None:
    differences = np.random.default_rng(2).normal(0.1, 1.0, 4000)
    found = user_tests([differences])
    half = 1.96 * differences.std() / math.sqrt(4000)
    assert found.low[0] == pytest.approx(differences.mean() - half, abs=0.15 * half)
    assert found.high[0] == pytest.approx(differences.mean() + half, abs=0.15 * half)


def test_users_who_do_not_differ_give_no_difference() -> None:
    found = user_tests([np.zeros(50)])
    assert (found.p_t[0], found.p_wilcoxon[0], found.p_permutation[0]) == (1, 1, 1)
    assert (found.low[0], found.high[0]) == (0, 0)


def test_users_who_all_differ_by_as_much_allow_no_t_test() -> None:
    assert math.isnan(user_tests([np.full(50, 0.1)]).p_t[0])


@pytest.mark.parametrize("paired", [False, True])
def test_equivalence_is_two_one_sided_tests(paired: bool) -> None:
    """Against statsmodels, where variances are equal or there are pairs; and the interval that
    leaves 5 % on either side is within the margin just where it is shown."""
    random = np.random.default_rng(4)
    ours, theirs = random.normal(0.02, 0.1, 9), random.normal(0, 0.1, 9)
    tests = weightstats.ttost_paired if paired else weightstats.ttost_ind
    settings = {} if paired else {"usevar": "unequal"}
    edge = seed_tests(ours, theirs, paired).at_most
    for margin in (0.05, 0.99 * edge, 1.01 * edge, 0.5):
        p = equivalence_p(ours, theirs, paired, margin)
        assert p == pytest.approx(tests(ours, theirs, -margin, margin, **settings)[0])
        assert (p < 0.05) == (margin > edge)
        # Which of the two is the baseline does not matter, nor where both lie.
        assert equivalence_p(theirs + 1, ours + 1, paired, margin) == pytest.approx(p)


def test_a_difference_as_large_as_the_margin_is_called_smaller_in_a_twentieth_of_studies() -> None:
    random, studies, margin = np.random.default_rng(0), 1500, 0.3
    found = dict.fromkeys((margin, 0.0), 0)
    for difference in found:
        for _ in range(studies):
            ours, theirs = random.normal(difference, 0.1, 8), random.normal(0, 0.1, 8)
            found[difference] += equivalence_p(ours, theirs, False, margin) < 0.05
    assert found[margin] / studies == pytest.approx(0.05, abs=0.017)
    assert found[0.0] > 0.95 * studies


def test_what_does_not_vary_is_equivalent_within_the_margin_alone() -> None:
    same = [0.5, 0.5, 0.5]
    assert equivalence_p(same, [0.45] * 3, False, 0.06) == 0
    assert equivalence_p(same, [0.45] * 3, True, 0.04) == 1
    pairs = [0.25, 0.5, 0.75], [0.125, 0.375, 0.625]
    assert [equivalence_p(*pairs, True, margin) for margin in (0.13, 0.125, 0.12)] == [0, 1, 1]
