"""GRCN: the interaction graph refined by how well users and items match in each modality."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from mgstudy.config.parameters import Choice, ParameterSet, Space, parameter
from mgstudy.data.dataset import Dataset
from mgstudy.models.base import Batch, EmbeddingRecommender, ModalityNeed, Paper
from mgstudy.models.interaction_graphs import user_to_item_graph
from mgstudy.models.item_graphs import VISUAL_MODALITY
from mgstudy.models.layers import feature_projections, xavier_normal_embedding
from mgstudy.models.losses import ranking_loss, squared_pair_penalty
from mgstudy.models.propagation import entry_dot_products, propagate_weighted, segment_softmax
from mgstudy.models.rows import gather_rows, linear_map, unit_rows

PROPAGATIONS = 2
"""Of the node embedding over the refined graph; fixed in the published code."""


class GRCN(EmbeddingRecommender):
    """Graph-refined convolutional network (Wei et al., MM 2020).

    Per modality, items i have unit features f_i and users unit preferences q_u, which routing moves
    towards the items of their history that fit them::

        q_u <- normalized(q_u + sum over i of softmax_i(q_u . f_i) f_i)

    Attention between the two, softmax(q_u . f_i) over the users of an item and over the items of a
    user, then gives each edge a weight in each direction, and every node its content c, the
    attention-weighted sum of its neighbours plus itself. Over the refined graph, whose edge from x
    to y weighs the largest over the modalities of attention times the confidence of x in the
    modality, negative ones cut to 0, the unit node embedding z is propagated twice: z + G z + G G
    z. Representations are that sum beside the c of every modality.

    The published code's routing passes its messages to nodes whose result it then ignores, so that
    users never move; ``compatibility: published`` does the same. Its quirk that is kept: the
    regulariser covers the image preferences of the batch's users once more as the mean over all
    users, and leaves the confidences out.
    """

    name = "GRCN"
    paper = Paper(
        title="Graph-Refined Convolutional Network for Multimedia Recommendation with Implicit "
        "Feedback",
        authors="Wei, Wang, Nie, He, Chua",
        venue="ACM Multimedia",
        year=2020,
        url="https://arxiv.org/abs/2111.02036",
    )
    modality_need = ModalityNeed.ANY
    optimizer_spaces: ClassVar[Mapping[str, Space]] = {
        "learning_rate": Choice(choices=(1.0, 0.1, 0.01, 1e-3, 1e-4))
    }

    class Parameters(ParameterSet):
        embedding_size: int = parameter(64, "columns of the node embedding", ge=1)
        content_size: int = parameter(64, "columns of each modality's content", ge=1)
        routing_iterations: int = parameter(
            3, "times the preferences move towards the history", ge=0
        )
        regularization: float = parameter(
            1e-3,
            "weight of the squared embeddings and preferences",
            ge=0,
            space=(0.1, 0.01, 1e-3, 1e-4, 1e-5),
        )
        compatibility: Literal["corrected", "published"] = parameter(
            "corrected", "published: routing leaves the preferences as they are"
        )

    def __init__(self, dataset: Dataset, parameters: Parameters) -> None:
        super().__init__(dataset, parameters)
        modalities = self.features.modalities
        node_count = dataset.user_count + dataset.item_count
        self.regularization = parameters.regularization
        self.routing_iterations = (
            parameters.routing_iterations if parameters.compatibility == "corrected" else 0
        )
        self.node_embedding = xavier_normal_embedding(node_count, parameters.embedding_size)
        self.user_preferences = nn.ParameterDict(
            {
                modality: xavier_normal_embedding(dataset.user_count, parameters.content_size)
                for modality in modalities
            }
        )
        self.projections = feature_projections(
            self.features, parameters.content_size, weight="xavier_normal"
        )
        self.confidence = xavier_normal_embedding(node_count, len(modalities))
        # Entries run from target to source: a user gathers its items, an item its users.
        self.to_users = user_to_item_graph(dataset, normalized=False)
        self.to_items = self.to_users.transposed()

    def loss(self, batch: Batch) -> Tensor:
        # Only the batch's rows are joined.
        parts = [batch.rows(*tables) for tables in zip(*self._parts(), strict=True)]
        loss = ranking_loss(*(torch.cat(rows, dim=1) for rows in zip(*parts, strict=True)))
        embeddings = gather_rows(self.node_embedding, batch.nodes(self.dataset.user_count))
        penalty = squared_pair_penalty(*embeddings.chunk(3))
        for modality, preference in self.user_preferences.items():
            penalty = penalty + gather_rows(preference, batch.users).square().mean()
            if modality == VISUAL_MODALITY:
                penalty = penalty + preference.square().mean()
        return loss + self.regularization * penalty

    def representations(self) -> tuple[Tensor, Tensor]:
        users, items = self._parts()
        return torch.cat(users, dim=1), torch.cat(items, dim=1)

    def _parts(self) -> tuple[list[Tensor], list[Tensor]]:
        """What the users' and the items' representations are joined from, side by side."""
        contents, attentions = zip(
            *(self._content(modality) for modality in self.features.modalities), strict=True
        )
        users, items = self._propagated(*zip(*attentions, strict=True))
        user_contents, item_contents = zip(*contents, strict=True)
        return [users, *user_contents], [items, *item_contents]

    def _content(self, modality: str) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """A modality's content of the users and of the items, and its attention over the entries
        of ``to_users`` and of ``to_items``."""
        projected = self.projections[modality](self.features.rows(modality))
        items = unit_rows(functional.leaky_relu(projected))
        users = unit_rows(self.user_preferences[modality])
        for _ in range(self.routing_iterations):
            scores = entry_dot_products(self.to_users, users, items)
            attention = segment_softmax(self.to_users, scores)
            routed = propagate_weighted(self.to_users, attention, items)
            users = unit_rows(users + routed)
        scores = entry_dot_products(self.to_users, users, items)
        to_users = segment_softmax(self.to_users, scores)
        by_item = linear_map(
            scores,
            lambda entries: entries[self.to_users.transpose_order],
            lambda entries: entries[self.to_items.transpose_order],
        )
        to_items = segment_softmax(self.to_items, by_item)
        contents = (
            users + propagate_weighted(self.to_users, to_users, items),
            items + propagate_weighted(self.to_items, to_items, users),
        )
        return contents, (to_users, to_items)

    def _propagated(
        self, to_users: tuple[Tensor, ...], to_items: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor]:
        """The node embedding over the refined graph, given each modality's attention."""
        user_confidence, item_confidence = self.split_nodes(self.confidence)
        of_items = gather_rows(item_confidence, self.to_users.columns)
        of_users = gather_rows(user_confidence, self.to_items.columns)
        user_weights = (torch.stack(to_users, dim=1) * of_items).amax(dim=1).relu()
        item_weights = (torch.stack(to_items, dim=1) * of_users).amax(dim=1).relu()
        layer = self.split_nodes(unit_rows(self.node_embedding))
        users, items = layer
        for _ in range(PROPAGATIONS):
            layer = (
                propagate_weighted(self.to_users, user_weights, layer[1]),
                propagate_weighted(self.to_items, item_weights, layer[0]),
            )
            users, items = users + layer[0], items + layer[1]
        return users, items
