"""MGCN: modalities purified by item embeddings, seen over the graph, and fused per node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mgstudy.config.parameters import Choice, Fixed, ParameterSet, Space, parameter
from mgstudy.data.dataset import Dataset
from mgstudy.models.base import Batch, EmbeddingRecommender, ModalityNeed, Paper
from mgstudy.models.graph import SparseGraph
from mgstudy.models.initializers import linear, xavier_uniform_embedding
from mgstudy.models.interaction_graphs import symmetric_graph, user_to_item_graph
from mgstudy.models.item_graphs import weighted_neighbour_matrix
from mgstudy.models.losses import bpr_loss, dot_products, half_squared_sum, info_nce
from mgstudy.models.propagation import light_gcn_mean, propagate

TEMPERATURE = 0.2
"""Of the contrastive loss; fixed in the published code."""


class MGCN(EmbeddingRecommender):
    """Multi-view graph convolution (Yu et al., MM 2023).

    The behaviour view ``c`` is the light graph convolution of the embeddings. Per modality, a gate
    on the projected features purifies the item embeddings, which are smoothed over the modality's
    item graph and averaged into users. Attention splits the modality views into a common part and
    what is special to each, and gates on the behaviour view weigh the special parts: their mean
    with the common part is the side view ``z``. Representations are ``c + z``; the loss adds a
    contrast between z and c to the BPR loss.

    Where the paper has two modalities, the attention is over as many as the dataset has, and the
    side view is the mean of their special parts and the common one. Quirks of the published code
    that are kept: item graphs are normalised by row sums on both sides though they are not
    symmetric, repeated interactions weigh more, and the regulariser is divided by the configured
    batch size even where a batch is shorter.
    """

    name = "MGCN"
    paper = Paper(
        title="Multi-View Graph Convolutional Network for Multimedia Recommendation",
        authors="Yu, Tan, Lu, Bao",
        venue="ACM Multimedia",
        year=2023,
        url="https://arxiv.org/abs/2308.03588",
    )
    modality_need = ModalityNeed.TWO_OR_MORE
    trains_features = True
    optimizer_spaces: ClassVar[Mapping[str, Space]] = {"learning_rate_decay": Fixed(value=0.96)}

    class Parameters(ParameterSet):
        embedding_size: int = parameter(64, "columns of the embeddings", ge=1)
        layers: int = parameter(2, "propagations over the user-item graph", ge=0)
        item_layers: int = parameter(1, "propagations over the item graphs", ge=0)
        neighbour_count: int = parameter(
            10, "neighbours of an item in its graphs, itself included", ge=1
        )
        regularization: float = parameter(
            1e-4, "weight of half the squared norms of the batch's representations", ge=0
        )
        contrastive_weight: float = parameter(
            0.01,
            "weight of the contrast between the side view and the behaviour view",
            ge=0,
            space=Choice(choices=(0.001, 0.01, 0.1)),
        )
        train_features: bool = parameter(
            True,
            "train a copy of the feature tables, as published; costs their size four times over "
            "(values, gradient and two optimizer moments)",
        )

    def __init__(self, dataset: Dataset, parameters: Parameters) -> None:
        super().__init__(dataset, parameters)
        size = parameters.embedding_size
        modalities = self.features.modalities
        self.layers = parameters.layers
        self.item_layers = parameters.item_layers
        self.regularization = parameters.regularization
        self.contrastive_weight = parameters.contrastive_weight
        self.user_embedding = xavier_uniform_embedding(dataset.user_count, size)
        self.item_embedding = xavier_uniform_embedding(dataset.item_count, size)
        self.projections = nn.ModuleDict(
            {modality: linear(self.features.width(modality), size) for modality in modalities}
        )
        self.attention = nn.Sequential(linear(size, size), nn.Tanh(), linear(size, 1, bias="none"))
        self.purifiers = nn.ModuleDict({modality: linear(size, size) for modality in modalities})
        self.preferences = nn.ModuleDict({modality: linear(size, size) for modality in modalities})
        self.graph = symmetric_graph(dataset, epsilon=0.0, count_repeats=True)
        self.user_graph = user_to_item_graph(dataset, normalized=True, count_repeats=True)
        self.item_graphs = nn.ModuleList(
            SparseGraph.from_scipy(
                weighted_neighbour_matrix(dataset, modality, parameters.neighbour_count)
            )
            for modality in modalities
        )

    def loss(self, batch: Batch) -> Tensor:
        nodes = batch.nodes(self.dataset.user_count)
        behaviour = functional.embedding(nodes, self._behaviour_view())
        # Fusion acts on each node alone, so only the batch's nodes are fused.
        views = [functional.embedding(nodes, view) for view in self._modality_views()]
        side = self._side_view(behaviour, views)
        fused = behaviour + side
        users, positives, negatives = fused.chunk(3)
        ranking = bpr_loss(dot_products(users, positives), dot_products(users, negatives))
        user_views, item_views, _ = zip(behaviour.chunk(3), side.chunk(3), strict=True)
        contrast = sum(
            info_nce(side_rows, behaviour_rows, TEMPERATURE)
            for behaviour_rows, side_rows in (user_views, item_views)
        )
        penalty = half_squared_sum(fused) / batch.nominal_size
        return ranking + self.regularization * penalty + self.contrastive_weight * contrast

    def representations(self) -> tuple[Tensor, Tensor]:
        behaviour = self._behaviour_view()
        fused = behaviour + self._side_view(behaviour, self._modality_views())
        return fused[: self.dataset.user_count], fused[self.dataset.user_count :]

    def _behaviour_view(self) -> Tensor:
        embeddings = torch.cat([self.user_embedding, self.item_embedding])
        return light_gcn_mean(self.graph, embeddings, self.layers)

    def _modality_views(self) -> list[Tensor]:
        """Each modality's view of all nodes, shape ``[users + items, size]``."""
        item_views = []
        for modality, graph in zip(self.features.modalities, self.item_graphs, strict=True):
            projected = self.projections[modality](self.features.rows(modality))
            view = self.item_embedding * torch.sigmoid(self.purifiers[modality](projected))
            for _ in range(self.item_layers):
                view = propagate(cast(SparseGraph, graph), view)
            item_views.append(view)
        joined = propagate(self.user_graph, torch.cat(item_views, dim=1))
        user_views = joined.chunk(len(item_views), dim=1)
        return [torch.cat(views) for views in zip(user_views, item_views, strict=True)]

    def _side_view(self, behaviour: Tensor, views: list[Tensor]) -> Tensor:
        logits = torch.cat([self.attention(view) for view in views], dim=1)
        shares = logits.softmax(dim=1).unsqueeze(2)
        common = (shares * torch.stack(views, dim=1)).sum(dim=1)
        total = common
        for modality, view in zip(self.features.modalities, views, strict=True):
            total = total + torch.sigmoid(self.preferences[modality](behaviour)) * (view - common)
        return total / (len(views) + 1)
