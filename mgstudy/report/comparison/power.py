"""Which differences a study can see: from how much the seed moves a score, how many seeds there
are, what the tests are corrected for, and how much the luck of a search is."""

from __future__ import annotations

import csv
import functools
import importlib.resources
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from mgstudy.config.study import DEFAULT_BASELINE
from mgstudy.significance import ALPHA, CONFIDENCE, FEWEST_SEEDS, exceedance_p
from mgstudy.study.search.rounds import baseline_of, search_pairs
from mgstudy.study.search.state import CellState

POWER = 0.8
"""A difference is seen if it is found significant in so large a share of studies."""
MOST_SEEDS = 10_000
_LARGEST = 100.0
_PRECISION = 2e-3
_BEYOND_DOUBT, _NORMAL_FROM = 50.0, 200
_SEARCHES = 1000
_FEWEST_FOR_LUCK = 5

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Spread:
    """How much the seed of a training moves its score.

    Attributes:
        share: Standard deviation over seeds, over the mean.
        trainings: How many it was measured on.
        source: Where, in words.
    """

    share: float
    trainings: int
    source: str


def planned_power(
    cells: Sequence[CellState],
    metric: str,
    seeds: int,
    paired: bool = False,
    wanted: float | None = None,
    baseline: Mapping[str, str] = DEFAULT_BASELINE,
    paired_searches: bool = False,
) -> list[dict[str, Any]]:
    """What a study can see of each comparison, ``POWER`` of the time.

    Args:
        cells: Where its cells stand.
        metric: Its objective.
        seeds: Replicates that each winner gets.
        paired: Whether they are pairs.
        wanted: The relative difference that it is to see.
        baseline: Levels that make a cell a baseline.
        paired_searches: Whether searches try the same configurations.

    Returns:
        For each cell with a baseline: ``cell``, ``dataset``, ``model``, ``spread`` (of the score,
        over seeds), ``spread_trainings`` and ``spread_source``, ``comparisons`` (that are tested
        together), the relative differences ``over_seeds`` (between two configurations) and
        ``over_searches`` (over both, where trials were completed that tell how much the luck of a
        search is; else null); ``seeds_wanted`` (over seeds, for the difference that is wanted).
        Infinity is null, and so is what takes 10,000 seeds or more.
    """
    found = ((cell, baseline_of(cell, cells, baseline)) for cell in cells)
    pairs = [(cell, other) for cell, other in found if other is not None]

    rows = []
    for cell, other in pairs:
        spread, count = spread_of(cell.levels, metric, cells), len(pairs)
        share = spread.share
        enough = MOST_SEEDS if wanted is None else seeds_for(wanted, share, count, paired)
        rows.append(
            {
                "cell": cell.key,
                "dataset": cell.levels["dataset"],
                "model": cell.levels["model"],
                "spread": share,
                "spread_trainings": spread.trainings,
                "spread_source": spread.source,
                "comparisons": count,
                "seeds_wanted": enough if enough < MOST_SEEDS else None,
                **{
                    name: None if math.isinf(difference) else difference
                    for name, difference in detectable(
                        cell, other, share, seeds, count, paired, paired_searches
                    ).items()
                },
            }
        )
    return rows


def detectable(
    cell: CellState,
    other: CellState,
    spread: float,
    seeds: int,
    comparisons: int,
    paired: bool = False,
    paired_searches: bool = False,
) -> dict[str, float]:
    """The relative differences between a cell and its baseline that are seen ``POWER`` of the time.

    Args:
        cell: The cell.
        other: Its baseline.
        spread: Standard deviation of a score over seeds, over its mean.
        seeds: Replicates of each.
        comparisons: How many are tested together.
        paired: Whether the replicates are pairs.
        paired_searches: Whether the searches try the same configurations; then these are drawn
            again with what either cell makes of them.

    Returns:
        ``over_seeds``, between two configurations; and ``over_searches``, over seeds and searches,
        infinite where too few trials have ended to say how lucky a search can be.
    """
    luck = _luck_of_pairs(cell, other) if paired_searches else luck_of(other, cell)
    sizes = cell.budget, other.budget

    def over_seeds(difference: float) -> float:
        return power_over_seeds(difference, spread, seeds, comparisons, paired)

    def over_both(difference: float) -> float:
        assert luck is not None
        if paired_searches:
            found = power_over_pairs(difference, luck, min(sizes), comparisons)
        else:
            found = power_over_searches(difference, luck, *sizes, comparisons)
        return over_seeds(difference) * found

    nothing = seeds < FEWEST_SEEDS
    return {
        "over_seeds": math.inf if nothing else smallest(over_seeds),
        "over_searches": math.inf if nothing or luck is None else smallest(over_both),
    }


@functools.cache
def recorded_spreads() -> list[dict[str, Any]]:
    """What studies that are published with the package found of scores over seeds.

    Returns:
        Of each ``dataset``, ``model``, ``gradient``, ``metric``, ``mean`` and ``half_interval``
        (Student's, 95 %) over ``seeds`` trainings, ``source`` (the page that has them), and
        ``share``: the standard deviation that follows, over the mean.
    """
    file = importlib.resources.files("mgstudy.report.comparison").joinpath("spreads.csv")
    rows: list[dict[str, Any]] = list(csv.DictReader(file.read_text("utf-8").splitlines()))
    for row in rows:
        seeds, mean, half = (float(row[name]) for name in ("seeds", "mean", "half_interval"))
        quantile = special.stdtrit(seeds - 1, (1 + CONFIDENCE) / 2)
        spread = half * math.sqrt(seeds) / quantile
        row |= {"seeds": int(seeds), "mean": mean, "half_interval": half, "share": spread / mean}
    return rows


def spread_of(levels: Mapping[str, str], metric: str, states: Sequence[CellState]) -> Spread:
    """How much the seed moves a model's score on a dataset: as this study's own replicates of that
    model on that dataset say, else what is recorded for the two, for the model, or for any.

    Args:
        levels: The levels of a cell.
        metric: The metric; where nothing is recorded of it, recall@20 stands in.
        states: The cells of the study.
    """
    dataset, model = levels["dataset"], levels["model"]
    alike = [s for s in states if (s.levels["dataset"], s.levels["model"]) == (dataset, model)]
    measured = [
        (float(np.std(scores, ddof=1) / np.mean(scores)), len(scores))
        for state in alike
        if len(scores := _test_scores(state, metric)) > 1 and np.mean(scores) > 0
    ]
    if any(share for share, _ in measured):
        return _pooled(measured, "measured in this study")
    table = recorded_spreads()
    known = metric if metric in {row["metric"] for row in table} else "recall@20"
    table = [row for row in table if row["metric"] == known]
    of_model = [row for row in table if row["model"] == model]
    for found, of in (
        ([row for row in of_model if row["dataset"] == dataset], f"{model} on {dataset}"),
        (of_model, model),
        (table, "other models"),
    ):
        if found:
            pages = ", ".join(dict.fromkeys(row["source"] for row in found))
            rows = [(row["share"], row["seeds"]) for row in found]
            return _pooled(rows, f"recorded for {known} of {of}, {pages}")
    raise AssertionError("no spread is recorded")


def luck_of(*cells: CellState) -> Scores | None:
    """The scores that the trials of a search reached, over their best one, from which others of
    the same space can be drawn; 0 for what failed or was pruned.

    Args:
        cells: The first that has enough trials counts.
    """
    for state in cells:
        found = [t.value or 0.0 for t in state.trials if t.state.is_ended]
        scores: Scores = np.asarray(found, np.float64)
        if state.searched and len(found) >= _FEWEST_FOR_LUCK and max(found) > 0:
            relative: Scores = scores / max(found)
            return relative
    return None


def _luck_of_pairs(cell: CellState, other: CellState) -> Scores | None:
    """What ``power_over_pairs`` draws from; ``None`` where too few pairs have ended."""
    pairs = np.asarray(search_pairs(cell, other), np.float64).reshape(-1, 2)
    if not (cell.searched and other.searched) or len(pairs) < _FEWEST_FOR_LUCK:
        return None
    ended = np.isfinite(pairs)
    both = ended.all(axis=1)
    ours, theirs = np.where(ended, pairs, 0.0).T
    total = theirs[both].sum()
    apart = ours - theirs * (ours[both].sum() / total if total > 0 else 1.0)
    # One that alone was pruned or failed is behind by more than all others.
    alone = np.where(ended.any(axis=1), np.inf, 0.0)
    return np.stack([theirs, np.where(both, apart, alone)], axis=1)


def power_over_seeds(
    difference: float, spread: float, seeds: int, comparisons: int, paired: bool = False
) -> float:
    """How often the t test finds a difference at the level of so many comparisons, the first of
    Holm's.

    Args:
        difference: Between the two means.
        spread: Standard deviation over seeds of each side, in the same unit; pairs are taken for
            no more alike than others.
        seeds: Replicates on either side, at least 2.
        comparisons: How many are tested together.
        paired: Whether the test is of pairs, which have half the degrees of freedom.
    """
    if spread == 0:
        return 1.0
    freedom = seeds - 1 if paired else 2 * seeds - 2
    # What is beyond all doubt needs no number, and takes scipy long to give.
    shift = min(difference / spread * math.sqrt(seeds / 2), _BEYOND_DOUBT)
    level = ALPHA / comparisons / 2
    if freedom > _NORMAL_FROM:  # Where scipy's noncentral t fails.
        return float(special.ndtr(special.ndtri(level) + shift))
    critical = special.stdtrit(freedom, 1 - level)
    # Not a number where it is too small for one.
    missed = np.nan_to_num(special.nctdtr(freedom, shift, [critical, -critical]))
    return float(1 - missed[0] + missed[1])


def power_over_searches(
    difference: float, luck: Scores, trials: int, others: int, comparisons: int
) -> float:
    """How often the exceedance test tells a difference from the luck of two searches.

    Args:
        difference: Of a configuration's score, over that of the same in the other cell.
        luck: Scores that trials reach, see ``luck_of``; searches are drawn from them.
        trials: Of the one search.
        others: Of the other.
        comparisons: How many are tested together.
    """
    level = ALPHA / comparisons
    runs = range(1, trials + 1)
    needed = next((run for run in runs if exceedance_p(run, trials, others) < level), None)
    if needed is None:
        return 0.0
    ours, theirs = _searches(luck.tobytes(), trials, others)
    above = (ours * (1 + difference) > theirs.max(axis=1, keepdims=True)).sum(axis=1)
    return float(np.mean(above >= needed))


def power_over_pairs(difference: float, luck: Scores, trials: int, comparisons: int) -> float:
    """How often signed ranks tell a difference from the luck of two searches of the same
    configurations, see ``power_over_searches``.

    Args:
        difference: Of a configuration's score, over that of the same in the other cell.
        luck: The baseline's score of each configuration that was tried, and how far the other cell
            was from as many times it as over all of them, shape ``[pairs, 2]``; which of the two
            was ahead by that is drawn, too.
        trials: Pairs of a search.
        comparisons: How many are tested together.
    """
    needed = _least_sum_of_ranks(trials, ALPHA / comparisons)
    random = np.random.default_rng(0)
    scores, apart = np.moveaxis(random.choice(luck, (_SEARCHES, trials)), -1, 0)
    shifted = difference * scores + apart * random.choice([-1.0, 1.0], apart.shape)
    ranks = np.abs(shifted).argsort(axis=1).argsort(axis=1) + 1
    return float(np.mean((ranks * (shifted > 0)).sum(axis=1) >= needed))


@functools.lru_cache(maxsize=64)
def _least_sum_of_ranks(pairs: int, level: float) -> float:
    """From which sum of the ranks of what is above 0 on a two-sided test of signed ranks finds a
    difference; infinite where none does."""
    chances = np.ones(1)
    for rank in range(1, pairs + 1):
        with_rank = np.concatenate([np.zeros(rank), chances])
        chances = (with_rank + np.pad(chances, (0, rank))) / 2
    # The least sum whose tail is below: most chances are in the front.
    tails = 2 * chances[::-1].cumsum()[::-1]
    enough = np.flatnonzero(tails < level)
    return float(enough[0]) if len(enough) else math.inf


def smallest(power: Callable[[float], float]) -> float:
    """The smallest relative difference that is seen ``POWER`` of the time; infinite if none is
    that is up to a hundredfold.

    Args:
        power: How often a difference is found; rises with it.
    """
    low, high = 1e-4, _LARGEST
    if power(high) < POWER:
        return math.inf
    while high / low > 1 + _PRECISION:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if power(middle) >= POWER else (middle, high)
    return high


def seeds_for(difference: float, spread: float, comparisons: int, paired: bool = False) -> int:
    """The fewest seeds with which a relative difference is seen over seeds; ``MOST_SEEDS`` if it
    takes as many or more."""
    low, high = 2, MOST_SEEDS
    while high - low > 1:
        middle = (low + high) // 2
        is_seen = power_over_seeds(difference, spread, middle, comparisons, paired) >= POWER
        low, high = (low, middle) if is_seen else (middle, high)
    return high


def _pooled(of: Sequence[tuple[float, int]], source: str) -> Spread:
    freedom = sum(count - 1 for _, count in of)
    square = sum(share**2 * (count - 1) for share, count in of) / freedom
    return Spread(math.sqrt(square), sum(count for _, count in of), source)


def _test_scores(state: CellState, metric: str) -> list[float]:
    return [
        float(replicate.test_metrics[metric])
        for replicate in state.confirmations
        if replicate.test_metrics.get(metric) is not None
    ]


@functools.lru_cache(maxsize=64)
def _searches(luck: bytes, trials: int, others: int) -> tuple[Scores, Scores]:
    """Pairs of searches of one space, the same in every call."""
    random = np.random.default_rng(0)
    drawn = random.choice(np.frombuffer(luck), (_SEARCHES, trials + others))
    return drawn[:, :trials], drawn[:, trials:]
