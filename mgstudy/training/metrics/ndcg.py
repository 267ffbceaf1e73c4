"""How early what is relevant is listed, against the best order."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mgstudy.config.metrics import RankingMetric
from mgstudy.training.metrics.base import RankedLists, up_to


class NormalizedGain(RankingMetric):
    """Normalised discounted cumulative gain (Järvelin & Kekäläinen 2002), binary relevance.

    (Σ_{j≤k} h_j / log₂(j+1)) / (Σ_{j≤min(k,n)} 1 / log₂(j+1)).
    """

    name = "ndcg"
    of_relevance = True

    def values(self, ranked: RankedLists, cutoffs: Sequence[int]) -> Tensor:
        hits = ranked.hits
        longest = max(*cutoffs, hits.shape[1])
        places = torch.arange(2, longest + 2, dtype=hits.dtype, device=hits.device)
        discounts = 1 / places.log2()
        gains = (hits * discounts[: hits.shape[1]]).cumsum(dim=1)
        ideal = discounts.cumsum(dim=0)
        return up_to(gains, cutoffs) / ideal[ranked.most_hits(cutoffs).long() - 1]
