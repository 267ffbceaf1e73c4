"""How much of what is listed is relevant."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mgstudy.config.metrics import RankingMetric
from mgstudy.training.metrics.base import RankedLists


class Precision(RankingMetric):
    """Share of the list that is relevant: (Σ_{j≤k} h_j) / k."""

    name = "precision"
    of_relevance = True

    def values(self, ranked: RankedLists, cutoffs: Sequence[int]) -> Tensor:
        return ranked.precision(cutoffs)
