"""Whether anything relevant is listed."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mgstudy.config.metrics import RankingMetric
from mgstudy.training.metrics.base import RankedLists


class HitRate(RankingMetric):
    """Whether anything relevant is listed: 1 if Σ_{j≤k} h_j > 0."""

    name = "hit_rate"
    of_relevance = True

    def values(self, ranked: RankedLists, cutoffs: Sequence[int]) -> Tensor:
        return (ranked.found(cutoffs) > 0).to(ranked.hits.dtype)
