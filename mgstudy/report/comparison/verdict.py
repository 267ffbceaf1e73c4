"""What a comparison allows to be said, in words that never say more."""

from __future__ import annotations

import math
from dataclasses import dataclass

ALPHA = 0.05
FEWEST_SEEDS = 3


@dataclass(frozen=True)
class Evidence:
    """What is known of a cell against its baseline, on one metric.

    Attributes:
        difference: Mean of the cell minus mean of the baseline.
        seeds: Completed replicates of the one that has fewer.
        p: Of the t test over seeds; NaN where it cannot be computed.
        p_holm: The same after Holm's correction over the table.
        p_bh: The same after Benjamini and Hochberg's.
        p_users: Of the sign-flip test over users; NaN without scores by user.
    """

    difference: float
    seeds: int
    p: float
    p_holm: float
    p_bh: float
    p_users: float


def verdict(evidence: Evidence) -> str:
    """The verdict on a cell whose replicates, and whose baseline's, are scored on test.

    Only a difference that holds over seeds after Holm's correction is called better or worse
    without reserve. Users are a second question, asked of the same models: a difference that
    they do not show is said not to be shown over users.
    """
    if evidence.seeds < FEWEST_SEEDS:
        return "too few seeds to say"
    if evidence.difference == 0:
        return "no difference"
    if math.isnan(evidence.p):
        return "nothing varies over seeds: no test is possible"
    word = "better" if evidence.difference > 0 else "worse"
    p = p_text(evidence.p)
    if evidence.p >= ALPHA:
        return f"no difference found, {p}"
    if evidence.p_bh >= ALPHA:
        return f"no difference found after correction, {p} before it"
    held = "holds after Holm"
    if evidence.p_holm >= ALPHA:
        word, held = f"perhaps {word}", "holds after Benjamini-Hochberg, not after Holm"
    users = "; not shown over users" if evidence.p_users >= ALPHA else ""
    return f"{word}, {p}, {held}{users}"


def mark(p_holm: float, p_bh: float) -> str:
    """The mark of a difference in a table: ``**`` if it holds after Holm, ``*`` if after
    Benjamini-Hochberg alone."""
    if p_holm < ALPHA:
        return "**"
    return "*" if p_bh < ALPHA else ""


def p_text(p: float) -> str:
    """A p value in the digits that mean something."""
    if math.isnan(p):
        return ""
    return "p<0.001" if p < 0.001 else f"p={p:.3f}" if p < 0.1 else f"p={p:.2f}"
