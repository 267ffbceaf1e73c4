"""How much of the catalogue anyone is shown."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mgstudy.config.metrics import RankingMetric
from mgstudy.training.metrics.base import RankedLists


class Coverage(RankingMetric):
    """Catalogue coverage: the share of all items that are in some user's list (Ge et al., RecSys
    2010)."""

    name = "coverage"
    of_users = False

    def values(self, ranked: RankedLists, cutoffs: Sequence[int]) -> Tensor:
        return (ranked.exposures(cutoffs) > 0).to(torch.float64).mean(dim=1)
