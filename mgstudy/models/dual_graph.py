"""What DualGNN and DRAGON share: modality views of all nodes, and a graph between users."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mgstudy.config.parameters import Choice, ParameterSet, Space, parameter
from mgstudy.data.dataset import Dataset
from mgstudy.models.base import Batch, EmbeddingRecommender, ModalityNeed
from mgstudy.models.graph import SparseGraph, arrays_of
from mgstudy.models.interaction_graphs import co_occurrence, symmetric_graph
from mgstudy.models.layers import linear, xavier_normal_embedding
from mgstudy.models.losses import ranking_loss
from mgstudy.models.propagation import light_gcn_mean, propagate, segment_softmax
from mgstudy.models.rows import gather_rows, unit_rows

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
        space=(0.1, 0.01, 1e-3, 1e-4, 1e-5),
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
                    linear(parameters.hidden_size, parameters.embedding_size, of_features=True),
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
        ranking = ranking_loss(*batch.rows(*self.representations()))
        # The published loss is in bits.
        return ranking / math.log(2) + self.regularization * self.penalty(batch)

    def penalty(self, batch: Batch) -> Tensor:
        """Mean squares of the batch's preferences, by modality, and of all modality weights."""
        penalties = [
            gather_rows(preference, batch.users).square().mean()
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
            unit_rows(
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
        return self.split_nodes(((PROPAGATIONS + 1) * mean).view(len(mean), len(starts), -1))


def modality_weights(nodes: int, modalities: int) -> nn.Parameter | None:
    """Trained weights of each node's modalities, shape ``[nodes, modalities]``, that start near
    equal and sum to 1; ``None`` for a single modality, which needs none."""
    if modalities == 1:
        return None
    start = xavier_normal_embedding(nodes, modalities)
    return nn.Parameter(start.detach().softmax(dim=1))


class UserNeighbours(nn.Module):
    """Users weighted by how many training items they share (DualGNN's user co-occurrence graph).

    A user's neighbours are the ``neighbour_count`` users it shares most items with, weighted by the
    softmax of the numbers of shared items. Where fewer share anything, the published code fills the
    list up every epoch with copies of elements drawn from the list as it grows, which enter the
    softmax; a user that shares nothing has no neighbours.

    Args:
        dataset: Whose training interactions to read.
        neighbour_count: Length of every user's list.
    """

    def __init__(self, dataset: Dataset, neighbour_count: int) -> None:
        super().__init__()
        self.neighbour_count = neighbour_count
        self.shared_items = shared_item_graph(dataset, neighbour_count)

    def full(self) -> SparseGraph:
        """The graph without copies, shape ``[users, users]``. On average over the draws, all
        neighbours of a user have equally many copies, so this is the graph to rank with."""
        return self._weighted(self.shared_items.values)

    def draw(self) -> SparseGraph:
        """The graph with newly drawn copies, shape ``[users, users]``."""
        return self._weighted(self.shared_items.values + self.draw_copies().log())

    def draw_copies(self) -> Tensor:
        """How often each entry of ``shared_items`` is in its user's list, shape ``[entries]``."""
        offsets = self.shared_items.row_offsets.long()
        lengths = offsets.diff()
        short = ((lengths > 0) & (lengths < self.neighbour_count)).nonzero()[:, 0]
        lengths, starts = lengths[short], offsets[short]
        elements = torch.zeros(
            len(short), self.neighbour_count, dtype=torch.long, device=offsets.device
        )
        for position in range(1, self.neighbour_count):
            drawn = torch.randint(position, (len(short), 1), device=offsets.device)
            copied = elements.gather(1, drawn)[:, 0]
            elements[:, position] = torch.where(position < lengths, position, copied)
        copies = torch.bincount(
            (starts[:, None] + elements).flatten(), minlength=len(self.shared_items)
        )
        # The other users' lists, which are full, have every neighbour once.
        return copies.clamp(min=1).float()

    def _weighted(self, scores: Tensor) -> SparseGraph:
        return self.shared_items.with_values(segment_softmax(self.shared_items, scores))


def shared_item_graph(dataset: Dataset, limit: int) -> SparseGraph:
    """Each user's ``limit`` nearest others, shape ``[users, users]``; an entry is the number of
    distinct training items they share (``co_occurrence``)."""

    def compute() -> dict[str, NDArray[Any]]:
        return arrays_of(co_occurrence(dataset, "users", limit))

    inputs = {"dataset": dataset.fingerprint, "limit": limit, "version": 1}
    return SparseGraph.from_arrays(dataset.derived.get("shared_item_graph", inputs, compute))
