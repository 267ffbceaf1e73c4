"""How alike the items of a list are."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from mgstudy.config.metrics import RankingMetric
from mgstudy.training.metrics.base import RankedLists, up_to


class IntraListSimilarity(RankingMetric):
    """Intra-list similarity (Ziegler et al., WWW 2005) by features: the mean cosine of two listed
    items' features, over all pairs and modalities that both items have. 1 minus it is diversity. A
    list without such a pair has 0."""

    name = "intra_list_similarity"
    larger_is_better = False

    @classmethod
    def refusal(cls, dataset: Any) -> str | None:
        return None if dataset.features else f"{dataset.name} has no features"

    def values(self, ranked: RankedLists, cutoffs: Sequence[int]) -> Tensor:
        """Two unit rows' products in all pairs are what |Σ x|² has beyond Σ |x|²."""
        alike = torch.zeros(len(ranked.items), len(cutoffs), device=ranked.items.device)
        pairs = torch.zeros_like(alike)
        reached = [min(cutoff, ranked.items.shape[1]) for cutoff in cutoffs]
        ends = sorted(set(reached))
        columns = [ends.index(end) for end in reached]
        for rows, there in ranked.catalogue.unit_features:
            # Item -1 is the last row, which is zero.
            places = ranked.items.remainder(len(rows))
            sums = torch.stack(
                [
                    embedding_bag(places[:, start:end].contiguous(), rows, mode="sum")
                    for start, end in itertools.pairwise([0, *ends])
                ]
            ).cumsum(dim=0)
            counts = up_to(there[places].cumsum(dim=1), ends)
            squares = sums.square().sum(dim=2).t() - counts
            alike += squares[:, columns]
            pairs += (counts * (counts - 1))[:, columns]
        return (alike / pairs.clamp_min(1)).double()
