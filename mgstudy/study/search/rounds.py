"""The rounds of a confirmation that goes on until it is decided: which cells are compared, which of
these comparisons are decided, and how many seeds each winner therefore gets.

All of it follows from the trials, so that a launch that goes on decides as the first would have.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from mgstudy.config.study import Confirmation, StudyConfig
from mgstudy.significance import ALPHA, FEWEST_SEEDS, exceedance_test, holm
from mgstudy.study.search.state import CellState
from mgstudy.study.search.trials import RecordedTrial


def is_baseline(cell: CellState, baseline: Mapping[str, str]) -> bool:
    """Whether a cell has the baseline's levels."""
    return all(cell.levels.get(factor) == level for factor, level in baseline.items())


def baseline_of(
    cell: CellState, candidates: Iterable[CellState], baseline: Mapping[str, str]
) -> CellState | None:
    """The candidate that differs from the cell only in having the baseline's levels.

    Args:
        cell: The cell.
        candidates: What it may be compared with.
        baseline: Levels that make a cell a baseline.

    Returns:
        ``None`` if the cell is a baseline itself, or there is none.
    """
    if is_baseline(cell, baseline):
        return None
    wanted = {**cell.levels, **baseline}
    return next((found for found in candidates if dict(found.levels) == wanted), None)


def looks(confirmation: Confirmation) -> list[int]:
    """The seeds after each of which it is looked at whether a comparison is decided."""
    step, most = confirmation.seeds, confirmation.up_to
    if most is None or step == 0:
        return [step]
    return [*range(step, most, step), most]


def looks_taken(confirmation: Confirmation, *sides: Sequence[RecordedTrial]) -> int:
    """How many of its looks a comparison has had, by the replicates of either side that ended."""
    ended = min(sum(trial.state.is_ended for trial in side) for side in sides)
    return sum(size <= ended for size in looks(confirmation))


def first_scores(
    trials: Sequence[RecordedTrial], others: Sequence[RecordedTrial], size: int, metric: str
) -> tuple[list[float], list[float], bool]:
    """The test scores among the first so many replicates of a cell and of its baseline, and whether
    they are pairs: then only those of common seeds."""
    sides = [
        {
            trial.seed: float(trial.test_metrics[metric])
            for trial in side[:size]
            if trial.test_metrics.get(metric) is not None
        }
        for side in (trials, others)
    ]
    common = [seed for seed in sides[0] if seed in sides[1]]
    ours, theirs = ([side[seed] for seed in common or side] for side in sides)
    return ours, theirs, bool(common)


def search_scores(cell: CellState) -> list[float]:
    """The validation scores of a search's ended trials; what failed or was pruned counts as worse
    than all that completed."""
    return [_search_score(trial) for trial in cell.trials if trial.state.is_ended]


def with_rounds(cells: Sequence[CellState], config: StudyConfig) -> list[CellState]:
    """The cells with the seeds that their confirmation gets by now.

    A round begins for the cells of all comparisons that are undecided, when every replicate of the
    round before has ended. A comparison is decided when its difference is significant, or shown to
    be smaller than the margin, after the corrections for its looks and for all comparisons with the
    same baseline; and when more seeds cannot change anything: because its searches do not tell a
    difference from luck, nothing varies, or a side has no score.

    Args:
        cells: Every cell of the study.
        config: The study.
    """
    sizes = looks(config.confirmation)
    found = {cell.key: sizes[0] for cell in cells}
    # Each question has a table of its own, in which p is corrected.
    families = [
        [
            _Pair(cell, other)
            for cell in cells
            if (other := baseline_of(cell, cells, baseline)) is not None
        ]
        for baseline in config.baselines
    ]
    pairs = [pair for family in families for pair in family]
    # Hidden cells count where p is corrected, and get no more seeds.
    undecided = [pair for pair in pairs if not (pair.cell.is_hidden or pair.baseline.is_hidden)]
    for number, size in enumerate(sizes[1:], start=1):
        if not all(_has_ended(cell, found[cell.key]) for cell in cells):
            break
        for pair in pairs:
            sides = pair.cell.confirmations, pair.baseline.confirmations
            if pair in undecided:
                pair.looks = number
            elif not pair.looks:
                pair.looks = looks_taken(config.confirmation, *sides)
        decided = [pair for family in families for pair in _decided(family, config)]
        undecided = [pair for pair in undecided if pair not in decided]
        for pair in undecided:
            found |= {pair.cell.key: size, pair.baseline.key: size}
    return [c if c.is_hidden else replace(c, seeds=found[c.key]) for c in cells]


@dataclass(eq=False)
class _Pair:
    """A cell, its baseline, and how often the two were looked at."""

    cell: CellState
    baseline: CellState
    looks: int = 0


def _has_ended(cell: CellState, seeds: int) -> bool:
    """Whether so many replicates have ended, or there is nothing more to confirm."""
    if cell.is_hidden:
        return True
    return cell.search_finished and (cell.best is None or cell.confirmed >= seeds)


def _decided(pairs: Sequence[_Pair], config: StudyConfig) -> list[_Pair]:
    """The comparisons that more seeds would not change, or need not."""
    # Whoever only counts waits for no statistics to be imported.
    margin, metric = config.confirmation.margin, config.training.objective

    def corrected(margin: float | None) -> list[float]:
        return [
            over_looks(
                (pair.cell.confirmations, pair.baseline.confirmations),
                metric,
                config.confirmation,
                pair.looks,
                margin,
            )
            for pair in pairs
        ]

    are_paired, over_seeds = config.search.paired, corrected(None)
    luck = [
        math.nan if math.isnan(p) else search_luck(pair.cell, pair.baseline, are_paired)[0]
        for pair, p in zip(pairs, over_seeds, strict=True)
    ]
    significant = holm([max(both) for both in zip(over_seeds, luck, strict=True)])
    equivalent = holm(corrected(margin)) if margin else [1.0] * len(pairs)
    return [
        pair
        for pair, least, different, alike in zip(
            pairs, holm(luck), significant, equivalent, strict=True
        )
        # Whatever the seeds say, p is no less than what the searches leave of it.
        if math.isnan(different)
        or different < ALPHA
        or alike < ALPHA
        or (least >= ALPHA and not margin)
    ]


def over_looks(
    sides: tuple[Sequence[RecordedTrial], Sequence[RecordedTrial]],
    metric: str,
    confirmation: Confirmation,
    taken: int,
    margin: float | None = None,
) -> float:
    """p over the seeds of every look so far, corrected for these, see ``sequential_p``; NaN where
    nothing varied, or a side has no score.

    Args:
        sides: The replicates of a cell and of its baseline.
        metric: What they are compared by.
        confirmation: Says which looks there are.
        taken: How many were taken.
        margin: For equivalence tests, the difference over the baseline's score.
    """
    from mgstudy.statistics import equivalence_p, sequential_p, t_test_p  # noqa: PLC0415

    found, sizes = [], looks(confirmation)
    if not all(first_scores(*sides, sizes[-1], metric)[:2]):
        return math.nan
    for size in sizes[:taken]:
        ours, theirs, paired = first_scores(*sides, size, metric)
        if min(len(ours), len(theirs)) < FEWEST_SEEDS:
            found.append(1.0)
        elif margin is None:
            found.append(t_test_p(ours, theirs, paired))
        else:
            width = margin * sum(theirs) / len(theirs)
            found.append(equivalence_p(ours, theirs, paired, width))
    return sequential_p(found, tuple(size / sizes[-1] for size in sizes))


def search_luck(cell: CellState, baseline: CellState, paired: bool) -> tuple[float, int]:
    """How likely the searches of two cells, were both of one space, would differ as they do, and
    which of them is ahead: 1 for the cell, -1 for its baseline, 0 for neither.

    Args:
        cell: The cell.
        baseline: Its baseline.
        paired: Whether trials of one number have the same parameters of model and optimizer. Then
            their scores are compared in pairs (Wilcoxon's signed ranks), else those of either
            search together (``exceedance_test``).

    Returns:
        p is 0 where either has no parameter to search, for then at most one of the two can be lucky
        and its winner is confirmed anew.
    """
    from mgstudy.statistics import signed_ranks  # noqa: PLC0415

    if not (cell.searched and baseline.searched):
        return 0.0, 0
    if paired:
        pairs = search_pairs(cell, baseline)
        return signed_ranks([0.0 if one == other else one - other for one, other in pairs])
    return exceedance_test(search_scores(cell), search_scores(baseline))


def search_pairs(cell: CellState, baseline: CellState) -> list[tuple[float, float]]:
    """The score of each ended trial, and of the baseline's with the same parameters of model and
    optimizer; what failed or was pruned counts as worse than all that completed."""
    theirs = {trial.number: trial for trial in baseline.trials if trial.state.is_ended}
    found = []
    for ours in cell.trials:
        other = theirs.get(ours.number)
        if other is None or not ours.state.is_ended or not _is_pair(ours, other):
            continue
        found.append((_search_score(ours), _search_score(other)))
    return found


def _is_pair(trial: RecordedTrial, other: RecordedTrial) -> bool:
    common = trial.parameters.keys() & other.parameters.keys()
    return all(
        trial.parameters[name] == other.parameters[name]
        for name in common
        if name.startswith(("model.", "optimizer."))
    )


def _search_score(trial: RecordedTrial) -> float:
    return -math.inf if trial.value is None else trial.value
