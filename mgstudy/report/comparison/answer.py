"""What the comparisons of a study say together: one sentence that answers its question, and an
estimate pooled over datasets and models."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mgstudy.report.comparison.studies import Comparison
from mgstudy.report.texts import percent

_NUMBERS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True)
class Pooled:
    """The mean relative difference from the baseline, over comparisons of different models and
    datasets that are taken for draws from many (random effects).

    Attributes:
        label: The levels that are compared with the baseline's.
        comparisons: How many it is over.
        estimate: The mean, over the baseline's score.
        low: Lower end of its 95 % interval (Hartung, Knapp, Sidik and Jonkman).
        high: Its upper end.
        spread: Standard deviation of the true differences between comparisons (Paule and Mandel).
        heterogeneity: The share of the variance that is theirs rather than chance's, I².
    """

    label: str
    comparisons: int
    estimate: float
    low: float
    high: float
    spread: float
    heterogeneity: float

    def __str__(self) -> str:
        return (
            f"Pooled over {self.comparisons} comparisons, {self.label} changes the score by "
            f"{percent(self.estimate)} (95% interval {percent(self.low)} to {percent(self.high)}; "
            f"random effects, I² = {self.heterogeneity:.0%})."
        )


def labels(comparison: Comparison) -> pd.Series:
    """What each cell of the objective's rows has in place of the baseline's levels."""
    rows = comparison.of(comparison.objective)
    return rows[list(comparison.baseline)].astype(str).agg(" ".join, axis=1)


def tested(comparison: Comparison) -> pd.DataFrame:
    """The rows of the objective that were tested on the test split, with their ``label``."""
    rows = comparison.of(comparison.objective)
    return rows.assign(label=labels(comparison))[rows["p_seeds"].notna()]


def pooled(comparison: Comparison) -> list[Pooled]:
    """The estimate of every label that was compared with its baseline at least twice.

    Comparisons of a label have baselines of their own, and are taken for independent. What a
    comparison weighs follows from the spread over seeds alone: between what searches found, the
    spread of the true differences has their luck in it.
    """
    from statsmodels.stats.meta_analysis import combine_effects  # noqa: PLC0415

    found = []
    for label, rows in tested(comparison).groupby("label", sort=False):
        known = rows[(rows["difference_error"] > 0) & (rows["baseline_mean"] != 0)]
        if len(known) < 2:
            continue
        # The mean of the pairs alone, where a partner is missing.
        baseline = known["difference"] / known["relative_difference"]
        baseline = baseline.where(np.isfinite(baseline), known["baseline_mean"])
        result = combine_effects(
            known["relative_difference"].to_numpy(),
            ((known["difference_error"] / baseline) ** 2).to_numpy(),
            method_re="iterated",
            use_t=True,
        )
        *_, (low, high) = result.conf_int(use_t=True)  # Scaled as by Hartung and Knapp.
        found.append(
            Pooled(
                label=str(label),
                comparisons=len(known),
                estimate=float(result.mean_effect_re),
                low=float(low),
                high=float(high),
                spread=math.sqrt(max(0.0, float(result.tau2))),
                heterogeneity=max(0.0, float(result.i2)),
            )
        )
    return found


def answer(comparison: Comparison) -> str:
    """One sentence that answers the study's question, taken for one of whether what is compared
    with the baseline is better; empty where nothing was tested."""
    rows = tested(comparison)
    verdicts = rows["verdict"].astype(str)
    count = len(rows)
    if not count:
        return ""
    gains, losses = (int(verdicts.str.startswith(word).sum()) for word in ("better", "worse"))
    alone = int(verdicts.str.startswith("this configuration").sum())
    if gains == count:
        head = "Yes"
    elif not gains and not losses:
        head = "No difference is shown"
    else:
        head = "For the most part" if gains > count / 2 and not losses else "No"
    shows = "shows" if gains < 2 else "show"
    of = _number(count, "comparison")
    said = [f"{head}: of {of} {_word(gains)} {shows} a gain, {_word(losses)} a loss"]
    if alone:
        said.append(f"{_word(alone)} between configurations alone, which may be the searches' luck")
    small = rows["at_most"][verdicts.str.match("no difference|difference over")].dropna()
    if len(small):
        which = "all" if 1 < len(small) == count else _word(len(small))
        said.append(f"differences above {small.max():.1%} are excluded for {which}")
    return "; ".join(said) + "."


def said_together(comparison: Comparison) -> list[str]:
    """The answer and the pooled estimates, a sentence each."""
    first = answer(comparison)
    return [*([first] if first else []), *(str(estimate) for estimate in pooled(comparison))]


def _word(count: int) -> str:
    return _NUMBERS[count] if count < len(_NUMBERS) else str(count)


def _number(count: int, thing: str) -> str:
    return f"{count} {thing}s" if count != 1 else f"{_word(count)} {thing}"
