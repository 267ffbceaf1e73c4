"""MGCN: modalities purified by item embeddings, seen over the graph, and fused per node."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from mgstudy.config.parameters import Fixed, Space, parameter
from mgstudy.data.dataset import Dataset
from mgstudy.models.base import (
    Batch,
    GraphRecommender,
    ModalityNeed,
    Paper,
    train_features_parameter,
)
from mgstudy.models.graph import SparseGraph
from mgstudy.models.interaction_graphs import symmetric_graph, user_to_item_graph
from mgstudy.models.item_graphs import weighted_neighbour_matrix
from mgstudy.models.layers import attention, feature_projections, linear
from mgstudy.models.losses import half_squared_sum, info_nce, ranking_loss
from mgstudy.models.propagation import light_gcn_mean, propagate, propagate_layers
from mgstudy.models.rows import gather_rows

TEMPERATURE = 0.2
"""Of the contrastive loss; fixed in the published code."""


class MultiViewRecommender(GraphRecommender):
    """What MGCN and SMORE share: a behaviour view, and modality views that are fused with it.

    The behaviour view c is the light graph convolution of the embeddings. A subclass gives the
    modalities' views of all nodes, and fuses them into the side view z, of each node alone.
    Representations are c + z. The loss is the BPR loss, half the squared norm of the batch's rows
    over the configured batch size, even where a batch is shorter (a quirk of the published code
    that is kept), and a contrast between z and c.
    """

    modality_need = ModalityNeed.TWO_OR_MORE
    optimizer_spaces: ClassVar[Mapping[str, Space]] = {"learning_rate_decay": Fixed(value=0.96)}
    layers: int
    regularization: float
    contrastive_weight: float

    def __init__(self, dataset: Dataset, parameters: GraphRecommender.Parameters) -> None:
        super().__init__(dataset, parameters)
        self.projections = feature_projections(self.features, parameters.embedding_size)
        self.graph = symmetric_graph(dataset, epsilon=0.0, count_repeats=True)
        self.user_graph = user_to_item_graph(dataset, normalized=True, count_repeats=True)

    @abstractmethod
    def modality_views(self) -> Mapping[str, Tensor]:
        """Views of all nodes by name, each of shape ``[users + items, size]``."""

    @abstractmethod
    def side_view(self, behaviour: Tensor, views: Mapping[str, Tensor]) -> Tensor:
        """Fuse the views of some nodes, shape ``[nodes, size]`` as their behaviour view."""

    def loss(self, batch: Batch) -> Tensor:
        nodes = batch.nodes(self.dataset.user_count)
        behaviour = gather_rows(self._behaviour_view(), nodes)
        # Fusion acts on each node alone, so only the batch's nodes are fused.
        views = {name: gather_rows(view, nodes) for name, view in self.modality_views().items()}
        side = self.side_view(behaviour, views)
        fused = behaviour + side
        ranking = ranking_loss(*fused.chunk(3))
        user_views, item_views, _ = zip(behaviour.chunk(3), side.chunk(3), strict=True)
        contrast = sum(
            info_nce(side_rows, behaviour_rows, TEMPERATURE)
            for behaviour_rows, side_rows in (user_views, item_views)
        )
        penalty = half_squared_sum(fused) / batch.nominal_size
        return ranking + self.regularization * penalty + self.contrastive_weight * contrast

    def representations(self) -> tuple[Tensor, Tensor]:
        behaviour = self._behaviour_view()
        return self.split_nodes(behaviour + self.side_view(behaviour, self.modality_views()))

    def joined(self, item_views: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Views of all nodes from those of the items, which users average."""
        summed = propagate(self.user_graph, torch.cat(list(item_views.values()), dim=1))
        user_views = summed.chunk(len(item_views), dim=1)
        return {
            name: torch.cat([users, items])
            for users, (name, items) in zip(user_views, item_views.items(), strict=True)
        }

    def _behaviour_view(self) -> Tensor:
        return light_gcn_mean(self.graph, self.embeddings(), self.layers)


class MGCN(MultiViewRecommender):
    """Multi-view graph convolution (Yu et al., MM 2023).

    Per modality, a gate on the projected features purifies the item embeddings, which are smoothed
    over the modality's item graph and averaged into users. Attention splits these modality views
    into a common part and what is special to each, and gates on the behaviour view ``c``, the light
    graph convolution of the embeddings, weigh the special parts: their mean with the common part is
    the side view ``z``. Representations are ``c + z``; the loss adds a contrast between z and c to
    the BPR loss (see ``MultiViewRecommender``).

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

    class Parameters(GraphRecommender.Parameters):
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
            space=(0.001, 0.01, 0.1),
        )
        train_features: bool = train_features_parameter()

    def __init__(self, dataset: Dataset, parameters: Parameters) -> None:
        super().__init__(dataset, parameters)
        size = parameters.embedding_size
        modalities = self.features.modalities
        self.layers = parameters.layers
        self.item_layers = parameters.item_layers
        self.regularization = parameters.regularization
        self.contrastive_weight = parameters.contrastive_weight
        self.attention = attention(size)
        self.purifiers = nn.ModuleDict({modality: linear(size, size) for modality in modalities})
        self.preferences = nn.ModuleDict({modality: linear(size, size) for modality in modalities})
        self.item_graphs = nn.ModuleList(
            SparseGraph.from_scipy(
                weighted_neighbour_matrix(dataset, modality, parameters.neighbour_count)
            )
            for modality in modalities
        )

    def modality_views(self) -> dict[str, Tensor]:
        item_views = {}
        for modality, graph in zip(self.features.modalities, self.item_graphs, strict=True):
            projected = self.projections[modality](self.features.rows(modality))
            purified = self.item_embedding * torch.sigmoid(self.purifiers[modality](projected))
            item_views[modality] = propagate_layers(
                cast(SparseGraph, graph), purified, self.item_layers
            )
        return self.joined(item_views)

    def side_view(self, behaviour: Tensor, views: Mapping[str, Tensor]) -> Tensor:
        logits = torch.cat([self.attention(view) for view in views.values()], dim=1)
        shares = logits.softmax(dim=1).unsqueeze(2)
        common = (shares * torch.stack(list(views.values()), dim=1)).sum(dim=1)
        total = common
        for modality, view in views.items():
            total = total + torch.sigmoid(self.preferences[modality](behaviour)) * (view - common)
        return total / (len(views) + 1)
