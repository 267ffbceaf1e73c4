"""How often a relevant item is above another."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mgstudy.config.metrics import RankingMetric
from mgstudy.training.metrics.base import RankedLists, up_to


class LimitedArea(RankingMetric):
    """Area under the ROC curve of the first k items, the limited AUC (Schröder, Thiele & Lehner,
    UCERSTI 2011): the share of pairs of a relevant item and another one in which the relevant one
    is above, where what is not listed is taken to be in random order below the list. With k as
    long as the catalogue it is the AUC.

    With F = Σ_{j≤k} (1 − h_j) of N other candidates listed and H = Σ_{j≤k} h_j of n relevant ones::

        (Σ_{j≤k} (1 − h_j) Σ_{l≤j} h_l / n + (N − F) (H / n + 1) / 2) / N

    A user without other candidates has 1.
    """

    name = "auc"
    of_relevance = True

    def values(self, ranked: RankedLists, cutoffs: Sequence[int]) -> Tensor:
        hits = ranked.hits
        others = (1 - hits) * (ranked.items >= 0)
        above = up_to((others * hits.cumsum(dim=1)).cumsum(dim=1), cutoffs)
        relevant = ranked.relevant[:, None]
        share = ranked.found(cutoffs) / relevant
        total = (ranked.candidates[:, None] - relevant).clamp_min(0)
        below = total - up_to(others.cumsum(dim=1), cutoffs)
        area = (above / relevant + below * (share + 1) / 2) / total.clamp_min(1)
        return area.where(total > 0, 1.0)
