"""FREEDOM: a frozen item graph from the features, and a user-item graph pruned every epoch."""

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
from mgstudy.models.graph import SparseGraph
from mgstudy.models.interaction_graphs import EdgePruner, symmetric_graph
from mgstudy.models.item_graphs import frozen_item_graph
from mgstudy.models.layers import feature_projections
from mgstudy.models.losses import ranking_loss
from mgstudy.models.propagation import light_gcn_mean, propagate_layers
from mgstudy.models.rows import gather_rows


class FREEDOM(GraphRecommender):
    """Freezing and denoising graph structures (Zhou & Shen, MM 2023).

    Users are the light graph convolution of the embeddings over the user-item graph; items add
    their embeddings smoothed over the frozen item graph. Training prunes the user-item graph anew
    every epoch, dropping edges between popular nodes first; ranking uses the full graph. The loss
    is the BPR loss plus ``regularization`` times, per modality, the BPR loss of the users against
    the projected features of the batch's items.

    The item graph is built from the initial features and weighs the image modality by
    ``image_weight``, the others by equal shares of the rest (see ``modality_weights``).
    """

    name = "FREEDOM"
    paper = Paper(
        title="A Tale of Two Graphs: Freezing and Denoising Graph Structures for Multimodal "
        "Recommendation",
        authors="Zhou, Shen",
        venue="ACM Multimedia",
        year=2023,
        url="https://arxiv.org/abs/2211.06924",
    )
    modality_need = ModalityNeed.ANY

    class Parameters(GraphRecommender.Parameters):
        layers: int = parameter(2, "propagations over the user-item graph", ge=0)
        item_layers: int = parameter(1, "propagations over the item graph", ge=0)
        neighbour_count: int = parameter(
            10, "neighbours of an item in its graph, itself included", ge=1
        )
        image_weight: float = parameter(
            0.1, "share of the image modality in the item graph", ge=0, le=1
        )
        dropout: float = parameter(
            0.8, "share of the user-item edges left out in an epoch", ge=0, lt=1, space=(0.8, 0.9)
        )
        regularization: float = parameter(
            1e-3, "weight of the modalities' BPR losses", ge=0, space=(0.0, 1e-5, 1e-4, 1e-3)
        )
        train_features: bool = train_features_parameter()

    def __init__(self, dataset: Dataset, parameters: Parameters) -> None:
        super().__init__(dataset, parameters)
        self.layers = parameters.layers
        self.item_layers = parameters.item_layers
        self.dropout = parameters.dropout
        self.regularization = parameters.regularization
        self.projections = feature_projections(self.features, parameters.embedding_size)
        self.item_graph = frozen_item_graph(
            dataset, parameters.neighbour_count, parameters.image_weight
        )
        self.full_graph = symmetric_graph(dataset)
        self.training_graph = self.full_graph
        self.edge_pruner = EdgePruner(dataset)

    def before_epoch(self, epoch: int) -> None:
        if self.dropout > 0:
            self.training_graph = self.edge_pruner.draw(self.dropout, degree_sensitive=True)

    def loss(self, batch: Batch) -> Tensor:
        assert batch.negatives is not None
        all_users, all_items = self._propagated(self.training_graph)
        users = gather_rows(all_users, batch.users)
        items = torch.cat([batch.positives, batch.negatives])
        total = ranking_loss(users, *gather_rows(all_items, items).chunk(2))
        if self.regularization > 0:
            for modality, projection in self.projections.items():
                projected = projection(self.features.rows(modality, items))
                total = total + self.regularization * ranking_loss(users, *projected.chunk(2))
        return total

    def representations(self) -> tuple[Tensor, Tensor]:
        return self._propagated(self.full_graph)

    def _propagated(self, graph: SparseGraph) -> tuple[Tensor, Tensor]:
        users, items = self.split_nodes(light_gcn_mean(graph, self.embeddings(), self.layers))
        return users, items + propagate_layers(
            self.item_graph, self.item_embedding, self.item_layers
        )
