"""VBPR: matrix factorisation whose item side also sees projected features."""

from __future__ import annotations

import torch
from torch import Tensor

from mgstudy.config.parameters import ParameterSet, parameter
from mgstudy.data.dataset import Dataset
from mgstudy.models.base import Batch, EmbeddingRecommender, ModalityNeed, Paper
from mgstudy.models.layers import linear, xavier_uniform_embedding
from mgstudy.models.losses import frobenius_penalty, ranking_loss
from mgstudy.models.rows import gather_rows
from mgstudy.models.signals import Signal, passed


class VBPR(EmbeddingRecommender):
    """Visual Bayesian personalised ranking (He & McAuley, AAAI 2016).

    Item i is represented by its embedding beside a linear projection of its features, ``z_i = [e_i
    | W x_i + b]``, and the score of user u is the dot product with a user embedding of twice the
    size. ``x_i`` joins all modalities, text first and the others in the dataset's order.

    Unlike in the paper there is no item bias and no visual bias, as in the published multimodal
    code whose numbers we compare with, and the regulariser is the Frobenius penalty of the batch's
    rows, projected features included (a quirk that is kept).
    """

    name = "VBPR"
    paper = Paper(
        title="VBPR: Visual Bayesian Personalized Ranking from Implicit Feedback",
        authors="He, McAuley",
        venue="AAAI",
        year=2016,
        url="https://arxiv.org/abs/1510.01784",
    )
    modality_need = ModalityNeed.ANY

    class Parameters(ParameterSet):
        embedding_size: int = parameter(
            64, "columns of the item embeddings; user embeddings have twice as many", ge=1
        )
        regularization: float = parameter(
            1e-4,
            "weight of the Frobenius penalty on the batch's representations",
            ge=0,
            space=(2.0, 1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-5),
        )

    def __init__(self, dataset: Dataset, parameters: Parameters) -> None:
        super().__init__(dataset, parameters)
        size = parameters.embedding_size
        self.regularization = parameters.regularization
        self.modalities = sorted(self.features.modalities, key=lambda name: name != "text")
        self.widths = [self.features.width(modality) for modality in self.modalities]
        self.user_embedding = xavier_uniform_embedding(dataset.user_count, 2 * size)
        self.item_embedding = xavier_uniform_embedding(dataset.item_count, size)
        self.projection = linear(sum(self.widths), size, weight="xavier_normal", bias="zero")

    def loss(self, batch: Batch) -> Tensor:
        assert batch.negatives is not None
        users = gather_rows(self.user_embedding, batch.users)
        items = torch.cat([batch.positives, batch.negatives])
        positives, negatives = self._item_representations(items).chunk(2)
        ranking = ranking_loss(users, positives, negatives)
        return ranking + self.regularization * frobenius_penalty(users, positives, negatives)

    def representations(self) -> tuple[Tensor, Tensor]:
        return self.user_embedding, self._item_representations(None)

    def _item_representations(self, items: Tensor | None) -> Tensor:
        embeddings = (
            self.item_embedding if items is None else gather_rows(self.item_embedding, items)
        )
        # A sum of projections, so that the tables need not be joined into one.
        weights = torch.split(self.projection.weight, self.widths, dim=1)
        projected: Tensor = self.projection.bias
        for modality, weight in zip(self.modalities, weights, strict=True):
            projected = projected + self.features.rows(modality, items) @ weight.t()
        projected = passed(Signal.HIDDEN, passed(Signal.PROJECTION, projected))
        return torch.cat([embeddings, projected], dim=1)
