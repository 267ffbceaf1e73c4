"""HIIMA: channels for identity and each modality, kept apart until they are fused."""

from __future__ import annotations

from itertools import combinations
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mgstudy.config.parameters import parameter
from mgstudy.data.dataset import Dataset
from mgstudy.models.base import Batch, GraphRecommender, ModalityNeed, Paper
from mgstudy.models.graph import SparseGraph
from mgstudy.models.interaction_graphs import (
    DEGREE_EPSILON,
    symmetric_graph,
    user_to_item_graph,
)
from mgstudy.models.item_graphs import binary_neighbour_matrix
from mgstudy.models.layers import attention, feature_projections, linear, xavier_uniform_embedding
from mgstudy.models.losses import half_squared_sum, info_nce, ranking_loss
from mgstudy.models.propagation import light_gcn_mean, propagate, propagate_layers
from mgstudy.models.rows import gather_rows

TEMPERATURE = 0.2
"""Of the contrast between the fused side view and the identity channel."""


class HIIMA(GraphRecommender):
    """Heterogeneous information isolation and multi-view aggregation: a reconstruction from the
    title.

    Nothing but the title of the paper (Si, Qi, Yu, Lu, Zeng, 2024) is public, so *everything here
    is assumed*, the short name, the equations and the defaults included; no number of this model
    says anything of the paper's. It is built to mean what the title says.

    Isolation: identity and each modality travel in channels of their own. Identity is the light
    graph convolution C of the embeddings. A modality's items are its projected features times a
    gate on the item embeddings, through which no gradient flows back: identity says what is kept of
    the content, and content does not move identity. Its users are a preference table of their own.

    Multiple views: each modality's channel is the mean of what is seen over the user-item graph
    (light graph convolution) and over the graph of nearest items, from which users sum. Attention
    weighs the modalities' channels of each node, a gate on C weighs what comes out, z, and
    representations are C + z.

    The loss is BPR, half the squares of the batch's rows over their number, ``isolation_weight``
    times the mean squared cosine between two modalities' channels, and ``contrastive_weight`` times
    the contrast of z with C at the batch's users and at its positive items.
    """

    name = "HIIMA"
    paper = Paper(
        title="Exploiting heterogeneous information isolation and multi-view aggregation for "
        "multimodal recommendation",
        authors="Si, Qi, Yu, Lu, Zeng",
        venue="unknown venue",
        year=2024,
        url="",
    )
    modality_need = ModalityNeed.ANY
    reconstructed_from = "the title of its paper"

    class Parameters(GraphRecommender.Parameters):
        layers: int = parameter(2, "propagations over the user-item graph", ge=0, space=(1, 2, 3))
        item_layers: int = parameter(1, "propagations over the item graphs", ge=0, space=(1, 2))
        neighbour_count: int = parameter(
            10, "neighbours of an item in its graphs, itself included", ge=1
        )
        regularization: float = parameter(
            1e-4,
            "weight of half the squared norms of the batch's representations",
            ge=0,
            space=(1e-5, 1e-4, 1e-3),
        )
        isolation_weight: float = parameter(
            0.01,
            "weight of the squared cosines between the modalities' channels",
            ge=0,
            space=(0.0, 1e-3, 1e-2, 1e-1),
        )
        contrastive_weight: float = parameter(
            0.01,
            "weight of the contrast between the modalities' fused view and the identity channel",
            ge=0,
            space=(0.0, 1e-3, 1e-2, 1e-1),
        )

    def __init__(self, dataset: Dataset, parameters: Parameters) -> None:
        super().__init__(dataset, parameters)
        size, modalities = parameters.embedding_size, self.features.modalities
        self.layers = parameters.layers
        self.item_layers = parameters.item_layers
        self.regularization = parameters.regularization
        self.isolation_weight = parameters.isolation_weight
        self.contrastive_weight = parameters.contrastive_weight
        self.preferences = nn.ParameterDict(
            {name: xavier_uniform_embedding(dataset.user_count, size) for name in modalities}
        )
        self.projections = feature_projections(self.features, size)
        self.purifiers = nn.ModuleDict({name: linear(size, size) for name in modalities})
        self.attention = attention(size)
        self.behaviour_gate = linear(size, size)
        self.graph = symmetric_graph(dataset)
        self.user_graph = user_to_item_graph(dataset, normalized=True, epsilon=DEGREE_EPSILON)
        self.item_graphs = nn.ModuleList(
            SparseGraph.from_scipy(
                binary_neighbour_matrix(dataset, modality, parameters.neighbour_count)
            )
            for modality in modalities
        )

    def loss(self, batch: Batch) -> Tensor:
        nodes = batch.nodes(self.dataset.user_count)
        identity, *views = (gather_rows(channel, nodes) for channel in self._channels())
        side = self._side_view(identity, views)
        fused = identity + side
        total = ranking_loss(*fused.chunk(3))
        total = total + self.regularization * half_squared_sum(fused) / len(batch)
        if self.contrastive_weight > 0:
            for one, other in list(zip(side.chunk(3), identity.chunk(3), strict=True))[:2]:
                total = total + self.contrastive_weight * info_nce(one, other, TEMPERATURE)
        if self.isolation_weight > 0 and len(views) > 1:
            seen = [view[: 2 * len(batch)] for view in views]
            cosines = [
                functional.cosine_similarity(one, other, eps=1e-8).square().mean()
                for one, other in combinations(seen, 2)
            ]
            total = total + self.isolation_weight * torch.stack(cosines).mean()
        return total

    def representations(self) -> tuple[Tensor, Tensor]:
        identity, *views = self._channels()
        return self.split_nodes(identity + self._side_view(identity, views))

    def _channels(self) -> list[Tensor]:
        """Identity's and each modality's, all of shape ``[users + items, size]``."""
        contents = [self._content(modality) for modality in self.features.modalities]
        starts = [
            torch.cat([preference, content])
            for preference, content in zip(self.preferences.values(), contents, strict=True)
        ]
        # Side by side over the same graph.
        together = light_gcn_mean(
            self.graph, torch.cat([self.embeddings(), *starts], dim=1), self.layers
        )
        identity, *collaborative = together.chunk(1 + len(starts), dim=1)
        smooth = [
            propagate_layers(cast(SparseGraph, graph), content, self.item_layers)
            for graph, content in zip(self.item_graphs, contents, strict=True)
        ]
        of_users = propagate(self.user_graph, torch.cat(smooth, dim=1)).chunk(len(smooth), dim=1)
        return [identity] + [
            0.5 * (one + torch.cat([users, items]))
            for one, users, items in zip(collaborative, of_users, smooth, strict=True)
        ]

    def _content(self, modality: str) -> Tensor:
        """What identity lets through of a modality's features, shape ``[items, size]``."""
        gate = torch.sigmoid(self.purifiers[modality](self.item_embedding.detach()))
        projected: Tensor = self.projections[modality](self.features.rows(modality))
        return projected * gate

    def _side_view(self, identity: Tensor, views: list[Tensor]) -> Tensor:
        """The modalities' channels of some nodes, fused, shape ``[nodes, size]`` as each."""
        shares = torch.cat([self.attention(view) for view in views], dim=1).softmax(dim=1)
        mixed = (shares.unsqueeze(2) * torch.stack(views, dim=1)).sum(dim=1)
        return torch.sigmoid(self.behaviour_gate(identity)) * mixed
