"""How much of what is relevant is listed."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mgstudy.config.metrics import RankingMetric
from mgstudy.training.metrics.base import RankedLists


class Recall(RankingMetric):
    """Share of the relevant items that are listed: (Σ_{j≤k} h_j) / n."""

    name = "recall"
    of_relevance = True

    def values(self, ranked: RankedLists, cutoffs: Sequence[int]) -> Tensor:
        return ranked.found(cutoffs) / ranked.relevant[:, None]
