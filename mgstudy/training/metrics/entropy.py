"""How evenly the catalogue is shown."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mgstudy.config.metrics import RankingMetric
from mgstudy.training.metrics.base import RankedLists


class Entropy(RankingMetric):
    """Shannon entropy, in bits, of which item a place of some list has: −Σ p_i log₂ p_i (Shani &
    Gunawardana, Recommender Systems Handbook 2011)."""

    name = "entropy"
    of_users = False

    def values(self, ranked: RankedLists, cutoffs: Sequence[int]) -> Tensor:
        counts = ranked.exposures(cutoffs)
        shares = counts / counts.sum(dim=1, keepdim=True)
        nats: Tensor = -torch.special.xlogy(shares, shares).sum(dim=1)
        return nats / math.log(2)
