"""ItemKNNCBF: items like those in the user's history, by raw features, without training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from mgstudy.config.parameters import ParameterSet, parameter
from mgstudy.data.dataset import Dataset
from mgstudy.models.base import ModalityNeed, Paper, Scorer, UntrainedRecommender
from mgstudy.models.interaction_graphs import interaction_matrix
from mgstudy.models.item_graphs import VISUAL_MODALITY, block_rows


class ItemKNNCBF(UntrainedRecommender):
    """Content-based nearest neighbours (Ferrari Dacrema et al., RecSys 2019).

    Two items are similar by the cosine of their joined features, shrunk: ``<x_i, x_j> / (|x_i|
    |x_j| + shrinkage)``. Every item keeps the entries of its ``neighbour_count`` most similar
    items (itself included), and a user's score of an item is the sum of its entries over the user's
    history: neighbours of the history's items, not of the candidate. Repeated interactions count.

    Features are joined without scaling, so the modality with the larger norms dominates (a quirk
    that is kept). Items outside all neighbourhoods tie at 0.
    """

    name = "ItemKNNCBF"
    paper = Paper(
        title="Are We Really Making Much Progress? A Worrying Analysis of Recent Neural "
        "Recommendation Approaches",
        authors="Ferrari Dacrema, Cremonesi, Jannach",
        venue="RecSys",
        year=2019,
        url="https://arxiv.org/abs/1907.06902",
    )
    modality_need = ModalityNeed.ANY

    class Parameters(ParameterSet):
        neighbour_count: int = parameter(10, "similar items kept per item", ge=1)
        shrinkage: float = parameter(
            10.0, "added to the product of norms, against chance similarity", ge=0
        )

    def __init__(self, dataset: Dataset, parameters: Parameters) -> None:
        super().__init__(dataset, parameters)
        self.neighbour_count = min(parameters.neighbour_count, dataset.item_count)
        self.shrinkage = parameters.shrinkage
        self.modalities = sorted(
            self.features.modalities, key=lambda modality: modality != VISUAL_MODALITY
        )

    def scorer(self) -> Scorer:
        arrays = self._neighbour_arrays()
        similarities = sparse.csr_matrix(
            (
                arrays["similarities"].ravel(),
                arrays["neighbours"].ravel(),
                np.arange(self.dataset.item_count + 1) * self.neighbour_count,
            ),
            shape=(self.dataset.item_count, self.dataset.item_count),
        )
        scores = (interaction_matrix(self.dataset, count_repeats=True) @ similarities).tocsr()
        device = self.features.table(self.modalities[0]).device

        def score(user_ids: Tensor) -> Tensor:
            rows = scores[user_ids.cpu().numpy()].toarray()
            return torch.from_numpy(rows).float().to(device)

        return score

    def _neighbour_arrays(self) -> Mapping[str, NDArray[Any]]:
        def compute() -> dict[str, NDArray[Any]]:
            # In memory, wherever the tables lie: whoever comes first computes them for all.
            tables = [self.features.rows(modality).cpu() for modality in self.modalities]
            return _nearest(tables, self.neighbour_count, self.shrinkage)

        if not self.features.constant:
            return compute()
        fingerprints = self.dataset.feature_fingerprints
        inputs = {
            "features": [fingerprints[modality] for modality in self.modalities],
            "neighbour_count": self.neighbour_count,
            "shrinkage": self.shrinkage,
            "version": 1,
        }
        return self.dataset.derived.get("shrunk_similarities", inputs, compute)


def _nearest(
    tables: Sequence[Tensor], neighbour_count: int, shrinkage: float
) -> dict[str, NDArray[Any]]:
    """Each item's nearest items and their shrunk similarity, both ``[items, neighbour_count]``."""
    items = len(tables[0])
    # Over the tables side by side, without joining them: dot products and squared norms add up.
    norms = torch.stack([table.square().sum(dim=1) for table in tables]).sum(dim=0).sqrt()
    values, neighbours = [], []
    for rows in torch.split(torch.arange(items), block_rows(items)):
        products = torch.zeros(len(rows), items)
        for table in tables:
            products.addmm_(table[rows], table.t())
        # Two items without features are not similar; without shrinkage that would be 0 / 0.
        scale = torch.outer(norms[rows], norms).add_(shrinkage)
        top = torch.topk(products.div_(scale.where(scale > 0, 1.0)), neighbour_count, dim=1)
        values.append(top.values)
        neighbours.append(top.indices)
    return {
        "similarities": torch.cat(values).numpy(),
        "neighbours": torch.cat(neighbours).int().numpy(),
    }
