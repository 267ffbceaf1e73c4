"""Whether lists hold incomplete items as often as the catalogue does (MoDiCF, WWW 2025)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from mgstudy.config.metrics import RankingMetric
from mgstudy.training.metrics.base import LEAST_SHARE, RankedLists, no_gaps


class Fairness(RankingMetric):
    """F@k of MoDiCF (Li et al., WWW 2025): 1 − |q − p| / max(p, 0.01), with q the share of
    incomplete items in a user's list and p that in the catalogue. 1 is best; it can be negative.

    ``fairness_chance`` stands beside it: lists that ignore who is incomplete do not have the share
    p exactly, the less the shorter they are.
    """

    name = "fairness"
    beside: ClassVar[tuple[str, ...]] = ("fairness_chance",)

    @classmethod
    def refusal(cls, dataset: Any) -> str | None:
        return no_gaps(dataset)

    def values(self, ranked: RankedLists, cutoffs: Sequence[int]) -> Tensor:
        share = ranked.incomplete_share
        return 1 - (ranked.incomplete_shares(cutoffs) - share).abs() / max(share, LEAST_SHARE)


class FairnessChance(Fairness):
    """What ``fairness`` comes to where lists ignore who is incomplete: 1 − E|B/k − p| over
    max(p, 0.01), with B binomial, of k draws with probability p."""

    name = "fairness_chance"
    beside = ()
    of_users = False

    def values(self, ranked: RankedLists, cutoffs: Sequence[int]) -> Tensor:
        levels = [_chance(cutoff, ranked.incomplete_share) for cutoff in cutoffs]
        return torch.tensor(levels, dtype=torch.float64)


@cache
def _chance(cutoff: int, share: float) -> float:
    """The same in every validation of a training."""
    from scipy.stats import binom  # noqa: PLC0415

    counts = np.arange(cutoff + 1)
    distance = np.abs(counts / cutoff - share) @ binom.pmf(counts, cutoff, share)
    return float(1 - distance / max(share, LEAST_SHARE))


class FairnessAggregate(Fairness):
    """1 − |mean q − p| / max(p, 0.01): as ``fairness``, but of all lists together (ours). Lists
    that ignore who is incomplete come to 1."""

    name = "fairness_aggregate"
    beside = ()
    of_users = False

    def values(self, ranked: RankedLists, cutoffs: Sequence[int]) -> Tensor:
        share = ranked.incomplete_share
        mean = ranked.incomplete_shares(cutoffs).mean(dim=0)
        return 1 - (mean - share).abs() / max(share, LEAST_SHARE)


class FairnessFused(Fairness):
    """F_fuse@k of MoDiCF: the harmonic mean of mean ``fairness`` and mean precision.

    As precision is by far the smaller, it is nearly twice the precision: to be reported, not to be
    optimised. A negative fairness counts as 0, and 0 over 0 is 0 (ASSUMED: the published code gives
    numbers without bounds there).
    """

    name = "fairness_fused"
    beside = ()
    of_users = False

    def values(self, ranked: RankedLists, cutoffs: Sequence[int]) -> Tensor:
        fairness = super().values(ranked, cutoffs).mean(dim=0).clamp_min(0)
        precision = ranked.precision(cutoffs).mean(dim=0)
        total = fairness + precision
        return torch.where(total > 0, 2 * fairness * precision / total.clamp_min(1e-300), 0.0)
