"""How precise the list is at each relevant item."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mgstudy.config.metrics import RankingMetric
from mgstudy.training.metrics.base import RankedLists, up_to


class AveragePrecision(RankingMetric):
    """Average precision: (Σ_{j≤k} h_j · (Σ_{l≤j} h_l) / j) / min(k, n)."""

    name = "map"
    of_relevance = True

    def values(self, ranked: RankedLists, cutoffs: Sequence[int]) -> Tensor:
        hits = ranked.hits
        places = torch.arange(1, hits.shape[1] + 1, dtype=hits.dtype, device=hits.device)
        precisions = (hits * hits.cumsum(dim=1) / places).cumsum(dim=1)
        return up_to(precisions, cutoffs) / ranked.most_hits(cutoffs)
