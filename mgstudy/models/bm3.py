"""BM3: bootstrapped representations, without negative samples."""

from __future__ import annotations

import torch
from torch import Tensor

from mgstudy.config.parameters import parameter
from mgstudy.data.dataset import Dataset
from mgstudy.models.base import (
    Batch,
    GraphRecommender,
    ModalityNeed,
    Paper,
    train_features_parameter,
)
from mgstudy.models.interaction_graphs import symmetric_graph
from mgstudy.models.layers import dropout, feature_projections, linear
from mgstudy.models.losses import cosine_distance
from mgstudy.models.propagation import light_gcn_mean
from mgstudy.models.rows import gather_rows


class BM3(GraphRecommender):
    """Bootstrapped multimodal model (Zhou et al., WWW 2023).

    With X the light graph convolution of the embeddings, users are ``X_U`` and items ``Y = X_I +
    E_I``. A linear predictor q learns to match, by cosine distance, representations that dropout
    perturbed and from which no gradient flows: a user's against the item's, the item's against the
    user's, and each modality's projection against the item's (alignment between modalities) and
    against itself (within a modality). Scores are ``q(X_U) q(Y)^T``.

    Quirks of the published code that are kept: the item embedding enters twice (in the layer mean
    and again), and the regulariser is the sum of the two tables' Frobenius norms, not squared, over
    the number of items.
    """

    name = "BM3"
    paper = Paper(
        title="Bootstrap Latent Representations for Multi-modal Recommendation",
        authors="Zhou, Zhou, Liu, Zeng, Miao, Wang, You, Jiang",
        venue="WWW",
        year=2023,
        url="https://arxiv.org/abs/2207.05969",
    )
    modality_need = ModalityNeed.ANY
    samples_negatives = False

    class Parameters(GraphRecommender.Parameters):
        layers: int = parameter(1, "propagations over the user-item graph", ge=1, space=(1, 2))
        dropout: float = parameter(
            0.5, "share of a target's entries set to zero", ge=0, lt=1, space=(0.3, 0.5)
        )
        regularization: float = parameter(
            0.1, "weight of the Frobenius norms of all representations", ge=0, space=(0.1, 0.01)
        )
        modality_weight: float = parameter(2.0, "weight of the modalities' alignment", ge=0)
        train_features: bool = train_features_parameter()

    def __init__(self, dataset: Dataset, parameters: Parameters) -> None:
        super().__init__(dataset, parameters)
        size = parameters.embedding_size
        self.layers = parameters.layers
        self.dropout = parameters.dropout
        self.regularization = parameters.regularization
        self.modality_weight = parameters.modality_weight
        self.projections = feature_projections(self.features, size, weight="xavier_normal")
        self.predictor = linear(size, size, weight="xavier_normal")
        self.graph = symmetric_graph(dataset)

    def loss(self, batch: Batch) -> Tensor:
        all_users, all_items = self._propagated()
        users = gather_rows(all_users, batch.users)
        items = gather_rows(all_items, batch.positives)
        item_target = self._target(items)
        norms = torch.linalg.vector_norm(all_users) + torch.linalg.vector_norm(all_items)
        total: Tensor = self.regularization * norms / self.dataset.item_count
        total = total + cosine_distance(self.predictor(users), item_target)
        total = total + cosine_distance(self.predictor(items), self._target(users))
        for modality, projection in self.projections.items():
            projected = projection(self.features.rows(modality, batch.positives))
            predicted = self.predictor(projected)
            alignment = cosine_distance(predicted, item_target)
            alignment = alignment + cosine_distance(predicted, self._target(projected))
            total = total + self.modality_weight * alignment
        return total

    def representations(self) -> tuple[Tensor, Tensor]:
        users, items = self._propagated()
        return self.predictor(users), self.predictor(items)

    def _propagated(self) -> tuple[Tensor, Tensor]:
        propagated = light_gcn_mean(self.graph, self.embeddings(), self.layers)
        users, items = self.split_nodes(propagated)
        return users, items + self.item_embedding

    def _target(self, rows: Tensor) -> Tensor:
        return dropout(rows.detach(), self.dropout, self.training)
