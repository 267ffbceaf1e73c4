"""SelfCF: self-supervised collaborative filtering, without negative samples."""

from __future__ import annotations

import torch
from torch import Tensor

from mgstudy.config.parameters import parameter
from mgstudy.data.dataset import Dataset
from mgstudy.models.base import Batch, GraphRecommender, Paper
from mgstudy.models.graph import SparseGraph
from mgstudy.models.interaction_graphs import symmetric_graph
from mgstudy.models.layers import dropout, linear
from mgstudy.models.losses import cosine_distance, half_squared_sum
from mgstudy.models.propagation import light_gcn_mean
from mgstudy.models.rows import gather_rows


class SelfCF(GraphRecommender):
    """Self-supervised collaborative filtering, embedding dropout on LightGCN (Zhou et al., ACM
    TORS 2023).

    A linear predictor q learns to match, by cosine similarity, a user's representation with the
    item's under dropout, from which no gradient flows, and the other way round; the loss is minus
    the mean of both. Scores are ``q(X_U) X_I^T + X_U q(X_I)^T``.

    Quirks of the published code that are kept: in training every forward pass drops entries of the
    graph, each direction of an edge for itself, at a rate that is itself drawn uniformly from [0,
    1), and scales the rest up; the regulariser acts on propagated rows and is a sum over the batch.
    """

    name = "SelfCF"
    paper = Paper(
        title="SelfCF: A Simple Framework for Self-supervised Collaborative Filtering",
        authors="Zhou, Sun, Liu, Zhang, Miao",
        venue="ACM TORS",
        year=2023,
        url="https://arxiv.org/abs/2107.03019",
    )
    samples_negatives = False

    class Parameters(GraphRecommender.Parameters):
        layers: int = parameter(2, "propagations over the user-item graph", ge=1, space=(1, 2))
        dropout: float = parameter(
            0.5, "share of a target's entries set to zero", ge=0, lt=1, space=(0.1, 0.2, 0.5)
        )
        edge_dropout: bool = parameter(
            True, "drop entries of the graph at a rate drawn anew for every batch, as published"
        )
        regularization: float = parameter(
            1e-5,
            "weight of half the squared norms of the batch's representations",
            ge=0,
            space=(0.1, 0.01, 1e-3, 1e-4, 1e-5, 0.0),
        )

    def __init__(self, dataset: Dataset, parameters: Parameters) -> None:
        super().__init__(dataset, parameters)
        size = parameters.embedding_size
        self.layers = parameters.layers
        self.dropout = parameters.dropout
        self.edge_dropout = parameters.edge_dropout
        self.regularization = parameters.regularization
        self.predictor = linear(size, size)
        self.graph = symmetric_graph(dataset)

    def loss(self, batch: Batch) -> Tensor:
        propagated = light_gcn_mean(self._training_graph(), self.embeddings(), self.layers)
        rows = gather_rows(propagated, batch.nodes(self.dataset.user_count))
        predicted_users, predicted_items = self.predictor(rows).chunk(2)
        user_targets, item_targets = dropout(rows.detach(), self.dropout, self.training).chunk(2)
        # Minus a cosine similarity is the cosine distance minus one.
        distance = cosine_distance(predicted_users, item_targets) + cosine_distance(
            predicted_items, user_targets
        )
        return 0.5 * distance - 1.0 + self.regularization * half_squared_sum(rows)

    def representations(self) -> tuple[Tensor, Tensor]:
        propagated = light_gcn_mean(self.graph, self.embeddings(), self.layers)
        predicted = self.predictor(propagated)
        users, _ = self.split_nodes(torch.cat([predicted, propagated], dim=1))
        _, items = self.split_nodes(torch.cat([propagated, predicted], dim=1))
        return users, items

    def _training_graph(self) -> SparseGraph:
        if not (self.training and self.edge_dropout):
            return self.graph
        rate = torch.rand((), device=self.graph.values.device)
        kept = torch.rand_like(self.graph.values) >= rate
        return self.graph.with_values(self.graph.values * kept / (1.0 - rate))
