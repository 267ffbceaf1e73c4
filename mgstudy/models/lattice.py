"""LATTICE: item graphs learned from the features, once per epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mgstudy.config.parameters import Choice, Fixed, Space, parameter
from mgstudy.data.dataset import Dataset
from mgstudy.models.base import (
    Batch,
    GraphRecommender,
    ModalityNeed,
    Paper,
    train_features_parameter,
)
from mgstudy.models.graph import SparseGraph
from mgstudy.models.highest import highest
from mgstudy.models.interaction_graphs import mean_graph
from mgstudy.models.item_graphs import cosine_blocks, weighted_neighbour_matrix
from mgstudy.models.layers import dropout, feature_projections, linear
from mgstudy.models.losses import half_squared_sum, ranking_loss
from mgstudy.models.propagation import (
    entry_dot_products,
    light_gcn_mean,
    propagate,
    propagate_weighted,
)
from mgstudy.models.rows import gather_rows, unit_rows

ItemGraph: TypeAlias = list[tuple[SparseGraph, Tensor]]
"""A sum of sparse matrices, shape ``[items, items]``: the structure and the weights of each."""

_ROWS_AT_ONCE = 128
"""Items whose nearest are found at once: few enough for a cache, and projected features are so
narrow that reading them for each block costs less than writing it."""


class LATTICE(GraphRecommender):
    """Latent structure mining (Zhang et al., MM 2021).

    Per modality, the learned graph K_m holds the cosines of every item's projected features with
    its nearest items, itself included; the initial graph O_m is the same of the raw features,
    normalised. With a the softmax of trained logits of the modalities, the item graph is::

        H = (1 - c) normalised(sum over m of a_m K_m) + c sum over m of a_m O_m,   c = initial_share

    Users and items come from a collaborative backbone over the user-item graph, and items add their
    embeddings smoothed over H, rows scaled to length 1. The loss is the BPR loss plus half the
    squared representations of the batch, over the configured batch size, as published also where a
    batch is shorter. K_m is never dense: neighbours are selected a block of items at a time, and
    gradients flow through the cosines that are kept, the only ones with an influence.

    **When H is built**: as published, an epoch's first batch builds it with gradients, and all
    later batches use it as a constant. So features, projections and logits receive a gradient once
    per epoch, and optimizers skip them elsewhere. Every ranking builds it anew, without gradients.
    When a step passes over the first batch several times, each pass builds H with gradients until
    the optimizer has moved the weights: those of an adversary do, and so does that of SAM at the
    worst point nearby; but the second half of a Mirror Gradient step, wherever it looks at the
    loss, uses the first's H as a constant, as published, and so leaves those tensors alone.
    """

    name = "LATTICE"
    paper = Paper(
        title="Mining Latent Structures for Multimedia Recommendation",
        authors="Zhang, Zhu, Liu, Wu, Wang, Wang",
        venue="ACM Multimedia",
        year=2021,
        url="https://arxiv.org/abs/2104.09036",
    )
    modality_need = ModalityNeed.ANY
    optimizer_spaces: ClassVar[Mapping[str, Space]] = {
        "learning_rate": Choice(choices=(1e-4, 5e-4, 1e-3, 5e-3)),
        "learning_rate_decay": Fixed(value=0.96),
    }

    class Parameters(GraphRecommender.Parameters):
        feature_size: int = parameter(64, "columns of the projected features", ge=1)
        backbone: Literal["lightgcn", "ngcf", "mf"] = parameter(
            "lightgcn", "collaborative model; mf takes the embeddings as they are"
        )
        layers: int = parameter(2, "propagations over the user-item graph", ge=0)
        message_dropout: float = parameter(
            0.1, "share of a layer's entries set to zero, in the ngcf backbone", ge=0, lt=1
        )
        item_layers: int = parameter(1, "propagations over the item graph", ge=0)
        neighbour_count: int = parameter(
            10, "neighbours of an item in its graphs, itself included", ge=1
        )
        initial_share: float = parameter(
            0.9, "share of the graphs of the raw features in the item graph", ge=0, le=1
        )
        regularization: float = parameter(
            1e-4,
            "weight of half the squared representations of the batch",
            ge=0,
            space=(0.0, 1e-5, 1e-4, 1e-3),
        )
        train_features: bool = train_features_parameter()

    def __init__(self, dataset: Dataset, parameters: Parameters) -> None:
        super().__init__(dataset, parameters)
        size, modalities = parameters.embedding_size, self.features.modalities
        self.layers = parameters.layers
        self.message_dropout = parameters.message_dropout
        self.item_layers = parameters.item_layers
        self.neighbour_count = min(parameters.neighbour_count, dataset.item_count)
        self.initial_share = parameters.initial_share
        self.regularization = parameters.regularization
        self.projections = feature_projections(self.features, parameters.feature_size)
        # The share of a single modality is 1 whatever its logit.
        several = len(modalities) > 1
        self.modality_logits = (
            nn.Parameter(torch.full((len(modalities),), 0.5)) if several else None
        )
        self.graph = None if parameters.backbone == "mf" else mean_graph(dataset)
        self.neural_layers = nn.ModuleList(
            _NeuralLayer(size) for _ in range(self.layers if parameters.backbone == "ngcf" else 0)
        )
        self.initial_graphs = nn.ModuleList(
            SparseGraph.from_scipy(
                weighted_neighbour_matrix(dataset, modality, parameters.neighbour_count)
            )
            for modality in modalities
        )
        self._item_graph: ItemGraph | None = None
        self._first_batch: Batch | None = None
        self._built_with: tuple[int, Tensor] | None = None

    def before_epoch(self, epoch: int) -> None:
        self._item_graph = None

    def loss(self, batch: Batch) -> Tensor:
        rows = batch.rows(*self._representations(self._training_graph(batch)))
        penalty = half_squared_sum(*rows) / batch.nominal_size
        return ranking_loss(*rows) + self.regularization * penalty

    def representations(self) -> tuple[Tensor, Tensor]:
        return self._representations(self._built_graph())

    def _representations(self, item_graph: ItemGraph) -> tuple[Tensor, Tensor]:
        smoothed: Tensor = self.item_embedding
        for _ in range(self.item_layers):
            products = [
                propagate_weighted(structure, weights, smoothed)
                for structure, weights in item_graph
            ]
            smoothed = torch.stack(products).sum(dim=0)
        users, items = self.split_nodes(self._collaborative())
        return users, items + unit_rows(smoothed)

    def _collaborative(self) -> Tensor:
        embeddings = self.embeddings()
        if self.graph is None:
            return embeddings
        if not self.neural_layers:
            return light_gcn_mean(self.graph, embeddings, self.layers)
        x, outputs = embeddings, [embeddings]
        for layer in self.neural_layers:
            x = dropout(layer(x, propagate(self.graph, x)), self.message_dropout, self.training)
            outputs.append(unit_rows(x))
        return torch.stack(outputs).mean(dim=0)

    def _training_graph(self, batch: Batch) -> ItemGraph:
        if batch is self._first_batch and self._stepped():
            # It stays so wherever the rest of the step looks at the loss.
            self._first_batch = None
        if self._item_graph is not None and batch is not self._first_batch:
            return self._item_graph
        built = self._built_graph()
        if self._item_graph is None:
            self._item_graph = [(structure, weights.detach()) for structure, weights in built]
            self._first_batch = batch
            self._built_with = self._weights_sample()
        return built

    def _stepped(self) -> bool:
        """Whether an optimizer has moved the weights since the epoch's graph was built, as far as
        is seen from where they lie now."""
        assert self._built_with is not None
        (place, value), (built_in, built_with) = self._weights_sample(), self._built_with
        # A strategy that looks at the loss elsewhere lends the weights another place in memory.
        return place == built_in and not torch.equal(value, built_with)

    def _weights_sample(self) -> tuple[int, Tensor]:
        """Place in memory and values of a few weights that every step on the graph moves."""
        bias = cast(nn.Linear, self.projections[self.features.modalities[0]]).bias
        return bias.data_ptr(), bias.detach().clone()

    def _built_graph(self) -> ItemGraph:
        """The item graph from the current weights, with gradients."""
        modalities = self.features.modalities
        shares = (
            torch.ones(1, device=self.item_embedding.device)
            if self.modality_logits is None
            else self.modality_logits.softmax(dim=0)
        )
        learned = [self._learned_graph(modality) for modality in modalities]
        weighted = [share * cosines for share, (_, cosines) in zip(shares, learned, strict=True)]
        sums = torch.stack([one.view(len(self.item_embedding), -1).sum(dim=1) for one in weighted])
        totals = sums.sum(dim=0)
        # As for all item graphs, a row without a positive sum counts as empty.
        scale = totals.where(totals > 0, 1.0).rsqrt() * (totals > 0)

        def scale_at(items: Tensor) -> Tensor:
            return gather_rows(scale[:, None], items)[:, 0]

        graph: ItemGraph = []
        for (structure, _), weights in zip(learned, weighted, strict=True):
            both_ends = scale_at(structure.entry_rows) * scale_at(structure.columns)
            graph.append((structure, (1 - self.initial_share) * weights * both_ends))
        for share, initial in zip(shares, self.initial_graphs, strict=True):
            structure = cast(SparseGraph, initial)
            graph.append((structure, self.initial_share * share * structure.values))
        return graph

    def _learned_graph(self, modality: str) -> tuple[SparseGraph, Tensor]:
        """Every item's nearest items by projected features, and the cosines with them."""
        projected = self.projections[modality](self.features.rows(modality))
        nearest = []
        with torch.no_grad():
            for start, block in cosine_blocks(projected, _ROWS_AT_ONCE):
                # Rounding must not push an item out of its own neighbourhood.
                block.diagonal(start).fill_(torch.inf)
                nearest.append(highest(block, self.neighbour_count)[1])
        columns = torch.cat(nearest).int().flatten()
        offsets = torch.arange(
            0, len(columns) + 1, self.neighbour_count, dtype=torch.int32, device=columns.device
        )
        ones = torch.ones(len(columns), device=columns.device)
        structure = SparseGraph(offsets, columns, ones, len(projected))
        directions = unit_rows(projected)
        return structure, entry_dot_products(structure, directions, directions)


class _NeuralLayer(nn.Module):
    """A layer of neural graph collaborative filtering (Wang et al., SIGIR 2019, eq. 7)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.neighbour_map = linear(size, size)
        self.interaction_map = linear(size, size)

    def forward(self, x: Tensor, neighbours: Tensor) -> Tensor:
        """The next layer from the nodes and the mean over their neighbourhoods, same shapes."""
        of_neighbours = functional.leaky_relu(self.neighbour_map(neighbours))
        return of_neighbours + functional.leaky_relu(self.interaction_map(x * neighbours))
