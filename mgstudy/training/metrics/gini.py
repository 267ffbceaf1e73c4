"""How unequally the catalogue is shown."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mgstudy.config.metrics import RankingMetric
from mgstudy.training.metrics.base import RankedLists


class Gini(RankingMetric):
    """Gini index of how often each item is listed, over the whole catalogue: 0 where all are alike,
    1 − 1/items where one item is all that is shown.

    Σ_j (2j − n − 1) c_j / (n Σ c), with counts c rising (Shani & Gunawardana, Recommender Systems
    Handbook 2011, with n for n − 1).
    """

    name = "gini"
    of_users = False
    larger_is_better = False

    def values(self, ranked: RankedLists, cutoffs: Sequence[int]) -> Tensor:
        counts = ranked.exposures(cutoffs).sort(dim=1).values
        number = counts.shape[1]
        places = torch.arange(1, number + 1, dtype=counts.dtype, device=counts.device)
        weighted = ((2 * places - number - 1) * counts).sum(dim=1)
        return weighted / (number * counts.sum(dim=1))
