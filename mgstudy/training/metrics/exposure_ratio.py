"""How much attention incomplete items get, against complete ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from mgstudy.config.metrics import RankingMetric
from mgstudy.training.metrics.base import RankedLists, no_gaps


class ExposureRatio(RankingMetric):
    """The mean exposure of an incomplete item over that of a complete one; 1 is parity (ours).

    An item listed at place j is exposed 1 / log₂(j + 1), as in Singh & Joachims (KDD 2018).
    """

    name = "exposure_ratio"
    of_users = False
    larger_is_better = False

    @classmethod
    def refusal(cls, dataset: Any) -> str | None:
        if dataset.incomplete.all():
            return f"every item of {dataset.name} lacks a modality"
        return no_gaps(dataset)

    def values(self, ranked: RankedLists, cutoffs: Sequence[int]) -> Tensor:
        exposures = ranked.exposures(cutoffs, discounted=True)
        incomplete = exposures[:, ranked.catalogue.incomplete].mean(dim=1)
        return incomplete / exposures[:, ~ranked.catalogue.incomplete].mean(dim=1)
