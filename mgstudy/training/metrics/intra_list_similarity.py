"""How alike the items of a list are."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from mgstudy.config.metrics import RankingMetric
from mgstudy.training.metrics.base import RankedLists


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
        rows, known = ranked.catalogue.unit_features
        reached = [min(cutoff, ranked.items.shape[1]) for cutoff in cutoffs]
        squares = {}
        sums = rows.new_zeros(len(ranked.items), rows.shape[1])
        for start, end in itertools.pairwise([0, *sorted(set(reached))]):
            sums += embedding_bag(ranked.places[:, start:end].contiguous(), rows, mode="sum")
            squares[end] = torch.linalg.vecdot(sums, sums).double()
        counts = [ranked.sums(of_items, cutoffs) for of_items in known]
        alike = torch.stack([squares[end] for end in reached], dim=1) - sum(counts)
        pairs = torch.stack(counts).mul(torch.stack(counts) - 1).sum(dim=0)
        return alike / pairs.clamp_min(1)
