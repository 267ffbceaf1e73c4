"""How little known the listed items are."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mgstudy.config.metrics import RankingMetric
from mgstudy.training.metrics.base import RankedLists


class Novelty(RankingMetric):
    """Mean self-information of the listed items, in bits: log₂(users / interactions of the item)
    (Zhou et al., PNAS 2010). An item without interactions counts as one with one."""

    name = "novelty"

    def values(self, ranked: RankedLists, cutoffs: Sequence[int]) -> Tensor:
        information = (
            ranked.catalogue.user_count / ranked.catalogue.interactions.clamp_min(1)
        ).log2()
        return ranked.sums(information, cutoffs) / ranked.lengths(cutoffs)
