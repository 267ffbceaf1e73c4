"""Statistics of a comparison: intervals, tests over seeds and over users, corrections, effect size.

Everything is two-sided, and comes from scipy. Our own are the corrections for looks at growing
data, which it lacks, and the sign-flip test over users, because scipy's draws the signs anew for
each column and would take minutes for a table.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

from mgstudy.significance import ALPHA, CONFIDENCE

RESAMPLES = 9999
BOOTSTRAPS = 2000
_ROUNDING = 1e-12
"""Numbers that differ by less, over the largest of them, are equal but for rounding."""
_ROWS_AT_ONCE = 500
_NUMBERS_AT_ONCE = 8_000_000
"""Resamples are drawn in blocks of so many rows at most, and of so many numbers (64 MB)."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % confidence interval; the ends are NaN where one cannot be given."""

    mean: float
    low: float
    high: float


def mean_interval(values: Sequence[float]) -> Interval:
    """Student's t interval of the mean: mean ± t(0.975, n − 1) · s / √n."""
    sample = np.asarray(values, dtype=np.float64)
    mean = float(sample.mean())
    if len(sample) < 2:
        return Interval(mean, math.nan, math.nan)
    spread = float(stats.sem(sample))
    half = spread * float(stats.t.ppf((1 + CONFIDENCE) / 2, len(sample) - 1))
    return Interval(mean, mean - half, mean + half)


@dataclass(frozen=True)
class SeedTests:
    """A cell against its baseline, over the seeds of both.

    Attributes:
        paired: Whether replicates were paired by a common seed; ``None`` without a test.
        difference: Mean of the cell minus mean of the baseline, with its interval.
        p_t: Paired t test, or Welch's where the seeds differ.
        p_wilcoxon: Wilcoxon's signed-rank test, or his rank-sum test where the seeds differ.
        p_permutation: Permutation of signs, or of labels where the seeds differ; of all of them
            where they are few, else of 9999.
        effect_size: Cohen's d_z of pairs, or Hedges' g where the seeds differ.
        at_most: The largest difference, of either sign, that two one-sided tests at 5 % leave:
            where the 90 % interval ends that is farther from 0.
        error: Standard error of the difference.
    """

    paired: bool | None
    difference: Interval
    p_t: float
    p_wilcoxon: float
    p_permutation: float
    effect_size: float
    at_most: float
    error: float


_NOTHING = Interval(math.nan, math.nan, math.nan)
NO_TESTS = SeedTests(None, _NOTHING, *[math.nan] * 6)
"""Where there are too few scores for any test."""


def seed_tests(values: Sequence[float], baseline: Sequence[float], paired: bool) -> SeedTests:
    """Test whether a cell's score differs from its baseline's over seeds.

    Args:
        values: One score for each replicate of the cell, at least 2.
        baseline: The same for the baseline; in the same order of seeds when ``paired``.
        paired: Whether the replicates share their seeds.
    """
    ours, theirs = np.asarray(values, np.float64), np.asarray(baseline, np.float64)
    difference = float(ours.mean() - theirs.mean())
    p_t = t_test_p(ours, theirs, paired)
    if _nothing_varies(ours, theirs, paired):
        # Neither t nor ranks say anything.
        exact = Interval(difference, difference, difference)
        effect = 0.0 if p_t == 1 else math.nan
        return SeedTests(paired, exact, p_t, p_t, p_t, effect, abs(difference), 0.0)
    with warnings.catch_warnings():
        # Ties make scipy say that it approximates.
        warnings.simplefilter("ignore")
        tested = _t_test(ours, theirs, paired)
        ranked = stats.wilcoxon(ours, theirs) if paired else stats.mannwhitneyu(ours, theirs)
        permuted = stats.permutation_test(
            (ours, theirs),
            _mean_difference,
            permutation_type="samples" if paired else "independent",
            vectorized=True,
            n_resamples=RESAMPLES,
            rng=np.random.default_rng(0),
        )
        bounds = tested.confidence_interval(CONFIDENCE)
        one_sided = tested.confidence_interval(1 - 2 * ALPHA)
    return SeedTests(
        paired=paired,
        difference=Interval(difference, float(bounds.low), float(bounds.high)),
        p_t=p_t,
        p_wilcoxon=float(ranked.pvalue),
        p_permutation=float(permuted.pvalue),
        effect_size=cohen_dz(ours - theirs) if paired else hedges_g(ours, theirs),
        at_most=max(abs(float(one_sided.low)), abs(float(one_sided.high))),
        error=_standard_error(ours, theirs, paired),
    )


def _standard_error(ours: Numbers, theirs: Numbers, paired: bool) -> float:
    if paired:
        return float(stats.sem(ours - theirs))
    return math.hypot(float(stats.sem(ours)), float(stats.sem(theirs)))


def equivalence_p(
    values: Sequence[float], baseline: Sequence[float], paired: bool, margin: float
) -> float:
    """How likely the difference would seem so small if it were as large as the margin: the greater
    p of two one-sided t tests, paired or Welch's (Schuirmann 1987).

    Args:
        values: One score for each replicate of the cell, at least 2.
        baseline: The same for the baseline; in the same order of seeds when ``paired``.
        paired: Whether the replicates share their seeds.
        margin: The difference, of either sign, that is to be excluded; of a baseline whose score
            is negative, the share is too.
    """
    ours, theirs = np.asarray(values, np.float64), np.asarray(baseline, np.float64)
    margin = abs(margin)
    if _nothing_varies(ours, theirs, paired):
        return 0.0 if abs(float(ours.mean() - theirs.mean())) < margin else 1.0
    above = _t_test(ours + margin, theirs, paired, "greater")
    below = _t_test(ours - margin, theirs, paired, "less")
    return max(float(above.pvalue), float(below.pvalue))


def t_test_p(
    values: Sequence[float] | Numbers, baseline: Sequence[float] | Numbers, paired: bool
) -> float:
    """p of the t test alone, see ``seed_tests``. Where nothing varies there is no test: NaN, or 1
    if both are equal."""
    ours, theirs = np.asarray(values, np.float64), np.asarray(baseline, np.float64)
    if _nothing_varies(ours, theirs, paired):
        return 1.0 if np.isclose(ours.mean(), theirs.mean(), rtol=_ROUNDING, atol=0) else math.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(_t_test(ours, theirs, paired).pvalue)


def _nothing_varies(ours: Numbers, theirs: Numbers, paired: bool) -> bool:
    """Whether there is no spread to measure a difference by: neither side varies, or all pairs
    differ by the same amount."""
    spreads = [np.ptp(ours - theirs)] if paired else [np.ptp(ours), np.ptp(theirs)]
    largest = max(np.abs(ours).max(), np.abs(theirs).max())
    return bool(max(spreads) <= _ROUNDING * largest)


def _t_test(
    ours: Numbers,
    theirs: Numbers,
    paired: bool,
    alternative: Literal["two-sided", "greater", "less"] = "two-sided",
) -> Any:
    if paired:
        return stats.ttest_rel(ours, theirs, alternative=alternative)
    return stats.ttest_ind(ours, theirs, equal_var=False, alternative=alternative)


def signed_ranks(differences: Sequence[float]) -> tuple[float, int]:
    """Wilcoxon's signed-rank test of pairs; infinite differences have the largest rank together.

    Returns:
        p, two-sided; and the sign of the sum of ranks.
    """
    given = np.asarray(differences, np.float64)
    finite = np.abs(given[np.isfinite(given)])
    given = np.clip(given, -2 * finite.max(initial=1.0), 2 * finite.max(initial=1.0))
    given = given[given != 0]
    if not len(given):
        return 1.0, 0
    ahead = float(np.sign(given) @ stats.rankdata(np.abs(given)))
    return float(stats.wilcoxon(given).pvalue), int(np.sign(ahead))


def cohen_dz(differences: Numbers) -> float:
    """Mean difference of pairs over its standard deviation (Cohen 1988); NaN without spread."""
    spread = float(differences.std(ddof=1))
    return float(differences.mean()) / spread if spread > 0 else math.nan


def hedges_g(values: Numbers, baseline: Numbers) -> float:
    """Difference of means over the pooled standard deviation, corrected for small samples by
    Γ(m/2) / (√(m/2) · Γ((m−1)/2)) with m degrees of freedom (Hedges 1981); NaN without spread."""
    freedom = len(values) + len(baseline) - 2
    squares = (len(values) - 1) * values.var(ddof=1) + (len(baseline) - 1) * baseline.var(ddof=1)
    pooled = math.sqrt(squares / freedom)
    if pooled == 0:
        return math.nan
    correction = math.exp(math.lgamma(freedom / 2) - math.lgamma((freedom - 1) / 2))
    return float(values.mean() - baseline.mean()) / pooled * correction / math.sqrt(freedom / 2)


@dataclass(frozen=True)
class UserTests:
    """Differences between a cell and its baseline over the test's users, many at once.

    Each attribute has shape ``[columns]``.

    Attributes:
        low: Lower end of the bootstrap interval of the mean difference (percentiles).
        high: Its upper end.
        p_t: Paired t test.
        p_wilcoxon: Wilcoxon's signed-rank test.
        p_permutation: Permutation of signs, 9999 of them.
    """

    low: Numbers
    high: Numbers
    p_t: Numbers
    p_wilcoxon: Numbers
    p_permutation: Numbers


def user_tests(differences: Sequence[Numbers]) -> UserTests:
    """Test whether the mean difference over users is zero.

    Signs and bootstrap samples are drawn once for all comparisons, so that a whole table takes
    seconds; what is found of one does not depend on the others.

    Args:
        differences: Of each comparison, the difference of every user, shape ``[users]``; all of the
            same users.
    """
    columns = np.column_stack(differences)
    users = len(columns)
    random = np.random.default_rng(0)
    means = columns.mean(axis=0)
    as_extreme = np.ones(len(means))
    # A sum over users in another order may differ in its last digits.
    threshold = np.abs(means) * (1 - 1e-9)
    for rows in _chunks(RESAMPLES, users):
        signs = random.integers(0, 2, (rows, users), dtype=np.int8).astype(np.float64)
        signs *= 2.0
        signs -= 1.0
        as_extreme += (np.abs(signs @ columns / users) >= threshold).sum(axis=0)
    del signs
    resampled = np.concatenate(
        [
            random.multinomial(users, np.full(users, 1 / users), rows) @ columns / users
            for rows in _chunks(BOOTSTRAPS, 2 * users)  # A product with whole numbers copies them.
        ]
    )
    ends = np.quantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    p_t, p_wilcoxon = np.array([_t_and_wilcoxon(column) for column in differences]).T
    return UserTests(ends[0], ends[1], p_t, p_wilcoxon, as_extreme / (RESAMPLES + 1))


def _t_and_wilcoxon(differences: Numbers) -> tuple[float, float]:
    """p of the paired t test and of Wilcoxon's; both 1 where all pairs are equal."""
    if not differences.any():
        return 1.0, 1.0
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        warnings.simplefilter("ignore")
        p_t = t_test_p(differences, np.zeros_like(differences), paired=True)
        return p_t, float(stats.wilcoxon(differences).pvalue)


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Benjamini and Hochberg's (1995) correction, which bounds the expected share of false
    positives among the positives; NaN is no test, and stays."""
    given = np.asarray(p_values, dtype=np.float64)
    corrected = np.full(len(given), np.nan)
    tested = ~np.isnan(given)
    corrected[tested] = stats.false_discovery_control(given[tested])
    return [float(p) for p in corrected]


def sequential_p(p_values: Sequence[float], fractions: tuple[float, ...]) -> float:
    """p corrected for looks at data that grow: the smallest α at which a group-sequential test with
    alpha spending would have stopped at one of them.

    By a look at the share t of the data, α · ln(1 + (e − 1) t) of the error is spent (Lan and
    DeMets 1983, Pocock's shape); levels follow from the joint normal distribution of the looks
    (Armitage, McPherson and Rowe 1969), and hold for p values of t tests. As levels rise with α,
    Holm corrects such p like others (Ye, Li, Liu and Yao 2013). One look at all data leaves p as it
    is.

    Args:
        p_values: Of the looks taken so far, two-sided; NaN is no test.
        fractions: The share of the data at each look that may be taken, ascending to 1.

    Returns:
        p; 1 before the first look, NaN if none of the looks allowed a test.
    """
    if len(fractions) == 1:
        return p_values[0] if p_values else 1.0
    found = [
        float(np.exp(np.interp(math.log(p), np.log(levels), np.log(_ALPHAS), right=0.0)))
        for p, levels in zip(p_values, _spending_levels(fractions).T, strict=False)
        for p in [max(p, 1e-300)]
        if not math.isnan(p)
    ]
    return min(found, default=math.nan if len(p_values) else 1.0)


_ALPHAS = np.geomspace(1e-6, 0.999, 60)
_GRID = 201


@functools.lru_cache(maxsize=16)
def _spending_levels(fractions: tuple[float, ...]) -> Numbers:
    """The two-sided level of each look for every α of ``_ALPHAS``, shape ``[alphas, looks]``."""
    spent = np.log1p((math.e - 1) * np.array(fractions))
    return np.array([_levels(alpha * spent, fractions) for alpha in _ALPHAS])


def _levels(spent: Numbers, fractions: tuple[float, ...]) -> list[float]:
    """The level of each look that spends so much by it.

    The sum of the data so far is followed from look to look, by its density where no look has
    stopped yet.
    """
    levels = [float(spent[0])]
    bound = stats.norm.isf(spent[0] / 2) * math.sqrt(fractions[0])
    places = np.linspace(-bound, bound, _GRID)
    density = stats.norm.pdf(places, scale=math.sqrt(fractions[0]))
    for number in range(1, len(fractions)):
        step = math.sqrt(fractions[number] - fractions[number - 1])
        weights = density * (places[1] - places[0])
        weights[[0, -1]] /= 2
        wanted = float(spent[number] - spent[number - 1])

        def too_much(
            end: float,
            places: Numbers = places,
            weights: Numbers = weights,
            step: float = step,
            wanted: float = wanted,
        ) -> float:
            beyond = special.ndtr((places - end) / step) + special.ndtr((-end - places) / step)
            return float(weights @ beyond) - wanted

        bound = float(optimize.brentq(too_much, 0.0, 10.0))
        levels.append(2 * float(stats.norm.sf(bound / math.sqrt(fractions[number]))))
        following = np.linspace(-bound, bound, _GRID)
        density = stats.norm.pdf(following[:, None], places, step) @ weights
        places = following
    return levels


def _mean_difference(ours: Numbers, theirs: Numbers, axis: int = -1) -> Numbers:
    return np.asarray(ours.mean(axis=axis) - theirs.mean(axis=axis))


def _chunks(total: int, users: int) -> list[int]:
    rows = max(1, min(_ROWS_AT_ONCE, _NUMBERS_AT_ONCE // users))
    return [min(rows, total - start) for start in range(0, total, rows)]
