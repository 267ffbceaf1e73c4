"""How many listed items lack a modality."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from mgstudy.config.metrics import RankingMetric
from mgstudy.training.metrics.base import RankedLists, no_gaps


class IncompleteShare(RankingMetric):
    """q@k: the share of a user's first k items that lack a modality (MoDiCF, WWW 2025). The share
    in the catalogue is parity; the complete items' share is 1 minus it."""

    name = "incomplete_share"
    larger_is_better = False

    @classmethod
    def refusal(cls, dataset: Any) -> str | None:
        return no_gaps(dataset)

    def values(self, ranked: RankedLists, cutoffs: Sequence[int]) -> Tensor:
        return ranked.incomplete_shares(cutoffs)
