"""How early the first relevant item is listed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mgstudy.config.metrics import RankingMetric
from mgstudy.training.metrics.base import RankedLists, up_to


class ReciprocalRank(RankingMetric):
    """Mean reciprocal rank: 1 over the place of the first relevant item, 0 where none is listed
    (Voorhees, TREC-8 1999)."""

    name = "mrr"
    of_relevance = True

    def values(self, ranked: RankedLists, cutoffs: Sequence[int]) -> Tensor:
        places = torch.arange(1, ranked.hits.shape[1] + 1, device=ranked.hits.device)
        best = (ranked.hits / places).cummax(dim=1).values
        return up_to(best, cutoffs)
