"""LayerGCN: propagated layers refined by how much they resemble the embeddings."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mgstudy.config.parameters import parameter
from mgstudy.data.dataset import Dataset
from mgstudy.models.base import Batch, GraphRecommender, Paper
from mgstudy.models.graph import SparseGraph
from mgstudy.models.interaction_graphs import EdgePruner, symmetric_graph
from mgstudy.models.losses import half_squared_sum, ranking_loss
from mgstudy.models.propagation import propagate
from mgstudy.models.rows import gather_rows


class LayerGCN(GraphRecommender):
    """Layer-refined graph convolution (Zhou et al., ICDE 2023).

    Each layer propagates the one before over the user-item graph, ``Y = G X``, and scales every
    node by its cosine similarity to its own embedding, ``X' = cos(Y, X_0) Y``. Representations are
    the sum of the layers without the embeddings themselves, so isolated nodes score 0. Training
    prunes the graph anew every epoch; ranking uses the full graph.

    Quirks of the published code that are kept: pruning is degree-sensitive in even epochs and
    uniform in odd ones, and both the BPR loss and the regulariser are sums over the batch.
    """

    name = "LayerGCN"
    paper = Paper(
        title="Layer-refined Graph Convolutional Networks for Recommendation",
        authors="Zhou, Lin, Liu, Miao",
        venue="ICDE",
        year=2023,
        url="https://arxiv.org/abs/2207.11088",
    )

    class Parameters(GraphRecommender.Parameters):
        layers: int = parameter(4, "propagations over the user-item graph", ge=1)
        dropout: float = parameter(
            0.1,
            "share of the user-item edges left out in an epoch",
            ge=0,
            lt=1,
            space=(0.0, 0.1, 0.2),
        )
        regularization: float = parameter(
            1e-3,
            "weight of half the squared norms of the batch's embeddings",
            ge=0,
            space=(1e-2, 1e-3, 1e-4, 1e-5),
        )

    def __init__(self, dataset: Dataset, parameters: Parameters) -> None:
        super().__init__(dataset, parameters)
        self.layers = parameters.layers
        self.dropout = parameters.dropout
        self.regularization = parameters.regularization
        self.full_graph = symmetric_graph(dataset)
        self.training_graph = self.full_graph
        self.edge_pruner = EdgePruner(dataset)

    def before_epoch(self, epoch: int) -> None:
        if self.dropout > 0:
            self.training_graph = self.edge_pruner.draw(
                self.dropout, degree_sensitive=epoch % 2 == 0
            )

    def loss(self, batch: Batch) -> Tensor:
        embeddings = self.embeddings()
        nodes = batch.nodes(self.dataset.user_count)
        refined = self._refined(self.training_graph, embeddings)
        ranking = ranking_loss(*gather_rows(refined, nodes).chunk(3), reduction="sum")
        rows = gather_rows(embeddings, nodes)
        return ranking + self.regularization * half_squared_sum(rows)

    def representations(self) -> tuple[Tensor, Tensor]:
        return self.split_nodes(self._refined(self.full_graph, self.embeddings()))

    def _refined(self, graph: SparseGraph, embeddings: Tensor) -> Tensor:
        directions = functional.normalize(embeddings, dim=1, eps=1e-8)
        layer, total = embeddings, None
        for _ in range(self.layers):
            layer = _scaled_by_cosine(propagate(graph, layer), directions)
            total = layer if total is None else total + layer
        assert total is not None
        return total


def _scaled_by_cosine(rows: Tensor, directions: Tensor) -> Tensor:
    """Scale each row by its cosine similarity to a unit row: ``<y, u> / |y| * y``."""
    return _ScaleByCosine.apply(rows, directions)  # type: ignore[no-any-return,no-untyped-call]


class _ScaleByCosine(torch.autograd.Function):
    """One function with its gradient written out, because every elementary step of it passes over
    the whole table: left to autograd, a training step takes twice as long."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, directions: Tensor) -> Tensor:
        norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp_min_(1e-8)
        cosines = torch.linalg.vecdot(rows, directions).unsqueeze(1) / norms
        ctx.save_for_backward(rows, directions, norms, cosines)
        scaled: Tensor = rows * cosines
        return scaled

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        rows, directions, norms, cosines = ctx.saved_tensors
        shared = torch.linalg.vecdot(gradient, rows).unsqueeze(1) / norms
        rows_gradient: Tensor = gradient * cosines
        rows_gradient.addcmul_(directions, shared).addcmul_(rows, -shared * cosines / norms)
        return rows_gradient, rows * shared
