"""The verdict on a cell, in words that say no more than the tests allow, and with what it rests on
besides: the luck of the searches, trainings that were cut short, what they cost, few seeds.

The test over seeds compares two configurations. Whether the *methods* differ is also a question to
the searches that found them: of two searches of one space, one is luckier, and more seeds only make
its luck more certain.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mgstudy.report.comparison.baselines import ComparedCell, Split
from mgstudy.report.comparison.statistics import ALPHA, exceedance_test
from mgstudy.study.search.state import RecordedTrial, State

FEWEST_SEEDS = 3
_END_OF_TRAINING = 0.1
"""A best epoch in this last share of the epochs says that more of them would have been better."""
_ALIKE = 0.1
"""Costs that differ by no more than this share are called equal."""


def verdict(entry: ComparedCell, row: Mapping[str, Any]) -> str:
    """The verdict on one cell, or why there is none.

    Only a difference that holds over seeds and over searches after Holm's correction is called
    better or worse, and what else it rests on is said with it. Users are a second question, asked
    of the same models: a difference that they do not show is said not to be shown over users.

    Args:
        entry: The cell with its baseline.
        row: Its row of the comparison: ``metric``, ``split``, ``difference``, ``p_t``,
            ``p_search``, ``p_holm``, ``p_bh``, ``p_users_permutation`` and ``reservations``.
    """
    lacking = _what_is_lacking(entry, row["split"])
    if lacking is not None or entry.baseline is None:
        return lacking or "no baseline cell"
    ours, theirs, paired = entry.compared(row["metric"], row["split"])
    seeds = min(len(ours), len(theirs))
    asked = max(entry.cell.seeds, entry.baseline.cell.seeds)
    counted = f"{seeds} of {asked} {'pairs of ' if paired else ''}seeds"
    return _verdict(entry, row, seeds) + (f" ({counted})" if seeds < asked else "")


def _verdict(entry: ComparedCell, row: Mapping[str, Any], seeds: int) -> str:
    difference, p, p_search = row["difference"], row["p_t"], row["p_search"]
    if seeds < FEWEST_SEEDS:
        return "too few seeds to say"
    if difference == 0:
        return "no difference"
    if math.isnan(p):
        return "nothing varies over seeds: no test is possible"
    if p >= ALPHA:
        return f"no difference found, {_p_text(p)}"
    rests = f"; {row['reservations']}" if row["reservations"] else ""
    if p_search >= ALPHA:
        found = "higher" if difference > 0 else "lower"
        return (
            f"this configuration scores {found} than the baseline's, {_p_text(p)}; searches of "
            f"{searches(entry)} do not tell that from luck, {_p_text(p_search)}{rests}"
        )
    return _corrected(row) + rests


def _corrected(row: Mapping[str, Any]) -> str:
    """What is left of a difference that would hold if it stood alone."""
    p = _p_text(max(row["p_t"], row["p_search"]))
    if row["p_bh"] >= ALPHA:
        return f"no difference found after correction, {p} before it"
    word, held = "better" if row["difference"] > 0 else "worse", "holds after Holm"
    if row["p_holm"] >= ALPHA:
        word, held = f"perhaps {word}", "holds after Benjamini-Hochberg, not after Holm"
    users = "; not shown over users" if row["p_users_permutation"] >= ALPHA else ""
    return f"{word}, {p}, {held}{users}"


def _what_is_lacking(entry: ComparedCell, split: Split) -> str | None:
    """What keeps a cell from being compared with its baseline, if anything does."""
    sides = [("", entry)]
    if entry.baseline is not None:
        sides.append(("baseline: ", entry.baseline))
    for who, side in sides:
        if side.cell.best is None:
            return f"{who}{'no trial completed' if side.cell.trials else 'not begun'}"
        if split == "test" and not side.complete:
            failed = any(r.outcome.get("failed") for r in side.cell.confirmations)
            return f"{who}{'failed in confirmation' if failed else 'not confirmed yet'}"
    if entry.is_baseline:
        return "baseline"
    is_compared = entry.baseline is not None
    return "validation only: nothing to say yet" if is_compared and split == "validation" else None


def mark(p_holm: float, p_bh: float) -> str:
    """The mark of a difference in a table: ``**`` if it holds after Holm, ``*`` if after
    Benjamini-Hochberg alone."""
    if p_holm < ALPHA:
        return "**"
    return "*" if p_bh < ALPHA else ""


def search_p(entry: ComparedCell, difference: float) -> float:
    """How likely the searches of a cell and of its baseline, were both of one space, would differ
    as they do in the confirmed difference's direction, see ``exceedance_test``.

    Trials are scored by their objective on validation; what failed or was pruned counts as worse
    than all that completed. The trials of a search are taken for independent, which those of a
    sampler that learns are not quite: after its first, random ones, p is smaller than it should be.

    Args:
        entry: The cell with its baseline.
        difference: What the confirmation found.

    Returns:
        0 where either has no parameter to search, for then at most one of the two can be lucky and
        its winner has been confirmed anew.
    """
    baseline = entry.baseline
    if baseline is None or not (entry.cell.searched and baseline.cell.searched):
        return 0.0
    ours, theirs = (_search(side) for side in (entry, baseline))
    p, direction = exceedance_test(ours, theirs)
    return p if direction * difference > 0 else 1.0


def searches(entry: ComparedCell) -> str:
    """How many trials the searches had whose winners are compared."""
    sides = (entry, entry.baseline)
    counted = [len(_search(side)) for side in sides if side is not None]
    return " and ".join(map(str, counted)) + " trials"


def reservations(entry: ComparedCell, seeds: int, paired: bool) -> list[str]:
    """What a reader must know before he believes a difference; nothing if it is as it should be.

    Args:
        entry: The cell with its baseline.
        seeds: The replicates on the side that has fewer.
        paired: Whether they are pairs.
    """
    if entry.baseline is None:
        return []
    said = [
        f"{whose}not trained out ({cut} of {len(trained)} best at the end of {epochs} epochs)"
        for whose, side in (("", entry), ("baseline ", entry.baseline))
        for trained in [side.complete]
        for epochs in [side.study.manifest.config.training.epochs]
        for cut in [sum(_is_cut(trial, epochs) for trial in trained)]
        if cut > len(trained) / 2
    ]
    ours, theirs = (_cost(side.complete) for side in (entry, entry.baseline))
    if ours and theirs and abs(ours / theirs - 1) > _ALIKE:
        said.append(f"at {ours / theirs:.2f} times the gradient computations")
    # Whatever the scores, one order of the signs or labels of so few has no smaller a share.
    if 2 / (2**seeds if paired else math.comb(2 * seeds, seeds)) >= ALPHA:
        said.append(f"by the t test on {seeds} {'pairs of ' if paired else ''}seeds alone")
    return said


def _p_text(p: float) -> str:
    """A p value in the digits that mean something, and never so few that it seems to be the level
    that it is below."""
    if p < 0.001:
        return "p<0.001"
    digits = 3 if p < 0.1 else 2
    while p < ALPHA <= round(p, digits):
        digits += 1
    return f"p={p:.{digits}f}"


def _search(entry: ComparedCell) -> list[float]:
    return [
        trial.value if trial.state is State.COMPLETE and trial.value is not None else float("-inf")
        for trial in entry.cell.trials
        if trial.state.is_ended
    ]


def _is_cut(trial: RecordedTrial, epochs: int) -> bool:
    """Whether the training ended for want of epochs, its best one among the last."""
    best = trial.outcome.get("best_epoch")
    is_at_the_end = best is not None and best > epochs * (1 - _END_OF_TRAINING)
    return trial.outcome.get("reason") == "epochs" and is_at_the_end


def _cost(trials: Sequence[RecordedTrial]) -> float:
    """Gradient computations of a training, in the mean; 0 if not known."""
    costs: Iterable[float] = [t.outcome.get("gradient_computations", 0) for t in trials]
    return sum(costs) / len(trials) if trials else 0.0
