"""How popular the listed items are."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mgstudy.config.metrics import RankingMetric
from mgstudy.training.metrics.base import RankedLists


class PopularityMean(RankingMetric):
    """Average recommendation popularity: the mean of the listed items' training interactions (ARP;
    Yin et al., VLDB 2012)."""

    name = "popularity_mean"
    larger_is_better = False

    def values(self, ranked: RankedLists, cutoffs: Sequence[int]) -> Tensor:
        return ranked.sums(ranked.catalogue.interactions, cutoffs) / ranked.lengths(cutoffs)


class PopularityTail(RankingMetric):
    """Share of long-tail items among those listed (APLT; Abdollahpouri et al., FLAIRS 2019). The
    tail is all but the most popular items that together have 80 % of the training interactions."""

    name = "popularity_tail"

    def values(self, ranked: RankedLists, cutoffs: Sequence[int]) -> Tensor:
        tail = ~ranked.catalogue.popular
        return ranked.sums(tail, cutoffs) / ranked.lengths(cutoffs)
