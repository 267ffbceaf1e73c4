"""The verdict on a cell, in words that say no more than the tests allow, and with what it rests on
besides: the luck of the searches, trainings that were cut short, what they cost, few seeds.

The test over seeds compares two configurations. Whether the *methods* differ is also a question to
the searches that found them: of two searches of one space, one is luckier, and more seeds only make
its luck more certain.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from mgstudy.config.metrics import larger_is_better
from mgstudy.report.comparison.baselines import ComparedCell, Split
from mgstudy.report.texts import count, percent
from mgstudy.significance import ALPHA, FEWEST_SEEDS
from mgstudy.study.search.rounds import looks, search_luck, search_scores
from mgstudy.study.search.trials import RecordedTrial

if TYPE_CHECKING:
    import pandas as pd

_END_OF_TRAINING = 0.1
"""A best epoch in this last share of the epochs says that more of them would have been better."""
_ALIKE = 0.1
"""Costs that differ by no more than this share are called equal."""

Number = TypeVar("Number", float, "pd.Series[float]")


def gain(metric: str, difference: Number) -> Number:
    """How much better a score is by a difference: less than 0 if it is worse."""
    return difference if larger_is_better(metric) else -difference


def verdict(entry: ComparedCell, row: Mapping[str, Any]) -> str:
    """The verdict on one cell, or why there is none.

    Only a difference that holds over seeds and over searches after Holm's correction is called
    better or worse, and what else it rests on is said with it. Users are a second question, asked
    of the same models: a difference that they do not show is said not to be shown over users.

    Args:
        entry: The cell with its baseline.
        row: Its row of the comparison: ``metric``, ``split``, ``difference``, ``p_seeds``,
            ``p_search``, ``p_holm``, ``p_bh``, ``p_users_permutation``, ``at_most``,
            ``p_equivalence`` with ``p_equivalence_holm``, and ``reservations``, in which it is said
            if the searches do not tell the difference from luck.
    """
    lacking = _what_is_lacking(entry, row["split"])
    if lacking is not None or entry.baseline is None:
        return lacking or "no baseline cell"
    ours, theirs, paired = entry.compared(row["metric"], row["split"])
    seeds, confirmation = min(len(ours), len(theirs)), entry.study.manifest.config.confirmation
    asked = max(entry.cell.seeds, entry.baseline.cell.seeds)
    if confirmation.up_to is not None:
        most = len(looks(confirmation))
        counted = f" ({_seeds((seeds,), paired)}, {row['looks']} of at most {most} looks)"
    else:
        counted = f" ({seeds} of {_seeds((asked,), paired)})" if seeds < asked else ""
    return _verdict(entry, row, seeds) + counted


def _verdict(entry: ComparedCell, row: Mapping[str, Any], seeds: int) -> str:
    difference, p, p_search = row["difference"], row["p_seeds"], row["p_search"]
    if seeds < FEWEST_SEEDS:
        return "too few seeds to say"
    if difference == 0:
        return "no difference"
    if math.isnan(p):
        return "nothing varies over seeds: no test is possible"
    if p >= ALPHA:
        return _how_small(entry, row)
    rests = f"; {row['reservations']}" if row["reservations"] else ""
    if p_search >= ALPHA:
        found = "higher" if difference > 0 else "lower"
        return (
            f"this configuration scores {found} than the baseline's over seeds, {_p_text(p)}{rests}"
        )
    return _corrected(entry, row) + rests


def _how_small(entry: ComparedCell, row: Mapping[str, Any]) -> str:
    """That nothing was found, or more: that there is nothing as large as would matter."""
    at_most = "" if math.isnan(row["at_most"]) else f"; at most ±{row['at_most']:.1%}"
    if row["p_equivalence_holm"] < ALPHA:
        margin = f"{100 * (entry.study.manifest.config.confirmation.margin or 0):.3g}%"
        p = _p_text(row["p_equivalence"])
        return f"difference over seeds shown to be no larger than {margin}, {p}{at_most}"
    return f"no difference found over seeds, {_p_text(row['p_seeds'])}{at_most}"


def _corrected(entry: ComparedCell, row: Mapping[str, Any]) -> str:
    """What is left of a difference that would hold if it stood alone."""
    over = "over seeds and searches" if is_searched(entry) else "over seeds"
    p = f"{over}, {_p_text(max(row['p_seeds'], row['p_search']))}"
    if row["p_bh"] >= ALPHA:
        return f"no difference found after correction {p} before it"
    is_better = gain(row["metric"], row["difference"]) > 0
    word, held = "better" if is_better else "worse", "holds after Holm"
    if row["p_holm"] >= ALPHA:
        word, held = f"perhaps {word}", "holds after Benjamini-Hochberg, not after Holm"
    users = "; not shown over users" if row["p_users_permutation"] >= ALPHA else ""
    return f"{word} {p}, {held}{users}"


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


def search_p(entry: ComparedCell, gained: float) -> float:
    """How likely the searches of a cell and of its baseline, were both of one space, would differ
    as they do in the confirmed difference's direction, see ``exceedance_test``.

    Trials are scored by their objective on validation. Those of a search are taken for
    independent, which those of a sampler that learns are not quite: after its first, random ones,
    p is smaller than it should be.

    Args:
        entry: The cell with its baseline.
        gained: By how much the confirmation found the cell to be better.

    Returns:
        0 where either has no parameter to search, for then at most one of the two can be lucky and
        its winner has been confirmed anew.
    """
    if entry.baseline is None:
        return 0.0
    p, direction = search_luck(
        entry.cell, entry.baseline.cell, entry.study.manifest.config.search.paired
    )
    return p if p == 0 or direction * gained > 0 else 1.0


def is_searched(entry: ComparedCell) -> bool:
    """Whether the configurations of both the cell and its baseline are what a search found."""
    baseline = entry.baseline
    return bool(baseline is not None and entry.cell.searched and baseline.cell.searched)


def fewest_trials(comparisons: int) -> int:
    """The trials of two searches below which nothing that they find is told from luck: if all of
    one are above all of the other, p is 2 / C(2n, n), and Holm's correction asks that of the first
    of so many comparisons to be below 0.05 over their number."""
    trials = 1
    while 2 / math.comb(2 * trials, trials) * comparisons >= ALPHA:
        trials += 1
    return trials


def _search_says(entry: ComparedCell, row: Mapping[str, Any]) -> list[str]:
    """That the searches do not tell the difference from luck, where they do not."""
    if row["p_search"] < ALPHA or entry.baseline is None:
        return []
    ours, theirs = (len(search_scores(side.cell)) for side in (entry, entry.baseline))
    fewest = fewest_trials(row["comparisons"])
    few = f" (fewer than {fewest} of each never do)" if min(ours, theirs) < fewest else ""
    p = _p_text(row["p_search"])
    return [f"searches of {ours} and {theirs} trials do not tell that from luck, {p}{few}"]


def reservations(entry: ComparedCell, row: Mapping[str, Any]) -> list[str]:
    """What a reader must know before he believes a difference; nothing if it is as it should be.

    Args:
        entry: The cell with its baseline.
        row: Its row of the comparison.
    """
    if entry.baseline is None:
        return []
    ours, theirs, paired = entry.replicates()
    seeds = len(ours), len(theirs)
    said = _search_says(entry, row)
    said += [
        f"{whose}not trained out ({cut} of {len(trained)} best at the end of {epochs} epochs)"
        for whose, side in (("", entry), ("baseline ", entry.baseline))
        for trained in [side.complete]
        for epochs in [side.study.manifest.config.training.epochs]
        for cut in [sum(_is_cut(trial, epochs) for trial in trained)]
        if cut > len(trained) / 2
    ]
    if abs(row["cost_ratio"] - 1) > _ALIKE:
        said.append(_cost_says(row))
    # Whatever the scores, one order of the signs or labels of so few has no smaller a share.
    if 2 / (2 ** len(ours) if paired else math.comb(sum(seeds), len(ours))) >= ALPHA:
        said.append(f"by the t test on {_seeds(seeds, paired)} alone")
    return said


def _seeds(counts: Iterable[int], paired: bool) -> str:
    """For example ``1 seed``, ``3 and 4 seeds`` or ``5 pairs of seeds``."""
    number = " and ".join(map(str, dict.fromkeys(counts)))
    plural = "" if number == "1" else "s"
    return f"{number} pair{plural} of seeds" if paired else f"{number} seed{plural}"


def _cost_says(row: Mapping[str, Any]) -> str:
    """What the training costs beside the baseline's, and what is left of the difference where both
    cost the same."""
    said = f"at {row['cost_ratio']:.2f} times the gradient computations"
    relative, *ends = (row[f"equal_cost_{name}"] for name in ("relative", "low", "high"))
    if math.isnan(relative):
        return said
    interval = "" if math.isnan(ends[0]) else f" ({' to '.join(map(percent, ends))})"
    within = f"within the same {count(row['equal_cost'])}"
    return f"{said}, and {within} {percent(relative)}{interval} on validation"


def _p_text(p: float) -> str:
    """A p value in the digits that mean something, and never so few that it seems to be the level
    that it is below."""
    if p < 0.001:
        return "p<0.001"
    digits = 3 if p < 0.1 else 2
    while p < ALPHA <= round(p, digits):
        digits += 1
    return f"p={p:.{digits}f}"


def _is_cut(trial: RecordedTrial, epochs: int) -> bool:
    """Whether the training ended for want of epochs, its best one among the last."""
    best = trial.outcome.get("best_epoch")
    is_at_the_end = best is not None and best > epochs * (1 - _END_OF_TRAINING)
    return trial.outcome.get("reason") == "epochs" and is_at_the_end
