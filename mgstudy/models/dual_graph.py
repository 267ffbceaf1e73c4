"""What DualGNN and DRAGON share: modality views of all nodes, and a graph between users."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from mgstudy.config.parameters import Choice, ParameterSet, Space, parameter
from mgstudy.data.dataset import Dataset
from mgstudy.models.base import Batch, EmbeddingRecommender, ModalityNeed
from mgstudy.models.graph import SparseGraph
from mgstudy.models.initializers import linear, xavier_normal_embedding
from mgstudy.models.interaction_graphs import symmetric_graph
from mgstudy.models.losses import bpr_loss, dot_products
from mgstudy.models.propagation import light_gcn_mean, propagate
from mgstudy.models.user_graphs import UserNeighbours

PROPAGATIONS = 2
"""Of the modality views over the user-item graph; fixed in the published code."""


class DualGraphParameters(ParameterSet):
    """Hyper-parameters of DualGNN and DRAGON, with the published defaults."""

    embedding_size: int = parameter(64, "columns of each modality's view", ge=1)
    hidden_size: int = parameter(256, "columns between the two maps of the features", ge=1)
    user_neighbour_count: int = parameter(40, "length of a user's list of neighbours", ge=1)
    regularization: float = parameter(
        1e-3,
        "weight of the mean squares of preferences and modality weights",
        ge=0,
        space=Choice(choices=(0.1, 0.01, 1e-3, 1e-4, 1e-5)),
    )


class DualGraphRecommender(EmbeddingRecommender):
    """Modality views over the user-item graph, combined, and smoothed over a user graph.

    A modality's view starts as the users' preferences and the items' features, mapped twice, all
    rows scaled to length 1, and is x + G x + G G x over the user-item graph G. A subclass combines
    the views; what it gives for the users is then summed over the user graph and added. Training
    draws the user graph anew every epoch, and ranking uses the full one (``UserNeighbours``).
    """

    modality_need = ModalityNeed.ANY
    optimizer_spaces: ClassVar[Mapping[str, Space]] = {
        "learning_rate": Choice(choices=(0.1, 0.01, 1e-3, 1e-4, 1e-5))
    }

    def __init__(self, dataset: Dataset, parameters: DualGraphParameters) -> None:
        super().__init__(dataset, parameters)
        modalities = self.features.modalities
        self.regularization = parameters.regularization
        self.user_preferences = nn.ParameterDict(
            {
                modality: xavier_normal_embedding(dataset.user_count, parameters.embedding_size)
                for modality in modalities
            }
        )
        self.projections = nn.ModuleDict(
            {
                modality: nn.Sequential(
                    linear(self.features.width(modality), parameters.hidden_size),
                    nn.LeakyReLU(),
                    linear(parameters.hidden_size, parameters.embedding_size),
                )
                for modality in modalities
            }
        )
        self.modality_weights = modality_weights(dataset.user_count, len(modalities))
        self.graph = symmetric_graph(dataset, epsilon=0.0, count_repeats=True)
        self.user_neighbours = UserNeighbours(dataset, parameters.user_neighbour_count)
        self.full_user_graph = self.user_neighbours.full()
        self.training_user_graph = self.full_user_graph

    def before_epoch(self, epoch: int) -> None:
        self.training_user_graph = self.user_neighbours.draw()

    def loss(self, batch: Batch) -> Tensor:
        assert batch.negatives is not None
        all_users, all_items = self.representations()
        users = functional.embedding(batch.users, all_users)
        positives = functional.embedding(batch.positives, all_items)
        negatives = functional.embedding(batch.negatives, all_items)
        ranking = bpr_loss(dot_products(users, positives), dot_products(users, negatives))
        # The published loss is in bits.
        return ranking / math.log(2) + self.regularization * self.penalty(batch)

    def penalty(self, batch: Batch) -> Tensor:
        """Mean squares of the batch's preferences, by modality, and of all modality weights."""
        penalties = [
            functional.embedding(batch.users, preference).square().mean()
            for preference in self.user_preferences.values()
        ]
        if self.modality_weights is not None:
            penalties.append(self.modality_weights.square().mean())
        return torch.stack(penalties).sum()

    def representations(self) -> tuple[Tensor, Tensor]:
        users, items = self.combined(*self._views())
        graph: SparseGraph = self.training_user_graph if self.training else self.full_user_graph
        return users + propagate(graph, users), items

    @abstractmethod
    def combined(self, user_views: Tensor, item_views: Tensor) -> tuple[Tensor, Tensor]:
        """Join the views, shapes ``[users, modalities, size]`` and ``[items, modalities, size]``,
        into one row per user and one per item."""

    def weighted(self, user_views: Tensor) -> Tensor:
        """The users' views times their modality weights; as they are with a single modality."""
        if self.modality_weights is None:
            return user_views
        return user_views * self.modality_weights.unsqueeze(2)

    def _views(self) -> tuple[Tensor, Tensor]:
        starts = [
            functional.normalize(
                torch.cat(
                    [
                        self.user_preferences[modality],
                        self.projections[modality](self.features.rows(modality)),
                    ]
                )
            )
            for modality in self.features.modalities
        ]
        mean = light_gcn_mean(self.graph, torch.cat(starts, dim=1), PROPAGATIONS)
        views = ((PROPAGATIONS + 1) * mean).view(len(mean), len(starts), -1)
        return views[: self.dataset.user_count], views[self.dataset.user_count :]


def modality_weights(nodes: int, modalities: int) -> nn.Parameter | None:
    """Trained weights of each node's modalities, shape ``[nodes, modalities]``, that start near
    equal and sum to 1; ``None`` for a single modality, which needs none."""
    if modalities == 1:
        return None
    start = xavier_normal_embedding(nodes, modalities)
    return nn.Parameter(start.detach().softmax(dim=1))
