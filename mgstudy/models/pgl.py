"""PGL: trained on a small principal part of the user-item graph, ranked on all of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import linalg as sparse_linalg
from torch import Tensor, nn

from mgstudy.config.parameters import Fixed, ParameterSet, Space, parameter
from mgstudy.data.dataset import Dataset
from mgstudy.models.base import (
    Batch,
    EmbeddingRecommender,
    ModalityNeed,
    Paper,
    train_features_parameter,
)
from mgstudy.models.graph import SparseGraph, arrays_of
from mgstudy.models.interaction_graphs import (
    DEGREE_EPSILON,
    EdgePruner,
    symmetric_graph,
    user_to_item_graph,
)
from mgstudy.models.item_graphs import block_rows, frozen_item_graph
from mgstudy.models.layers import dropout, feature_projections, xavier_uniform_embedding
from mgstudy.models.losses import info_nce, ranking_loss
from mgstudy.models.propagation import light_gcn_mean, propagate_layers
from mgstudy.models.rows import unit_rows

TEMPERATURE = 0.2
"""Of the contrastive loss; fixed in the published code."""

SMALLEST_ENTRY = 1e-3
"""Entries of the global principal graph below this magnitude are left out, as published."""


class PGL(EmbeddingRecommender):
    """Principal graph learning (Yu et al., AAAI 2025).

    Users have one embedding table per modality, items the projected features scaled to length 1;
    there are no item embeddings. The modalities stand side by side. With P the users' and J the
    items' rows, G the user-item graph, L layers and Q FREEDOM's frozen item graph of n layers::

        X = mean over l = 0..L of G^l [P ; J],   users X_U,   items X_I + Q^n J

    Training propagates over a principal part of the user-item graph, ranking over all of it:

    - ``local``: a share of the edges, drawn anew every epoch, those between popular nodes last;
    - ``global``: the graph's strongest singular vectors, see ``global_principal_graph``.

    The loss is the BPR loss plus ``contrastive_weight`` times the mean, over users and items, of
    the contrast between two dropouts of the batch's representations. As in the published code that
    weight is 0 by default, which leaves the contrast out, and 30 % of the edges are kept (there a
    constant). The published code needs two modalities; the equations hold for any number.
    """

    name = "PGL"
    paper = Paper(
        title="Mind Individual Information! Principal Graph Learning for Multimedia Recommendation",
        authors="Yu, Tan, Lu, Bao",
        venue="AAAI",
        year=2025,
        url="https://ojs.aaai.org/index.php/AAAI/article/view/33429",
    )
    modality_need = ModalityNeed.ANY
    optimizer_spaces: ClassVar[Mapping[str, Space]] = {"learning_rate_decay": Fixed(value=0.96)}

    class Parameters(ParameterSet):
        embedding_size: int = parameter(64, "columns of the embeddings of each modality", ge=1)
        layers: int = parameter(2, "propagations over the user-item graph", ge=0)
        item_layers: int = parameter(1, "propagations over the item graph", ge=0)
        neighbour_count: int = parameter(
            10, "neighbours of an item in its graph, itself included", ge=1
        )
        image_weight: float = parameter(
            0.1, "share of the image modality in the item graph", ge=0, le=1
        )
        principal_graph: Literal["local", "global"] = parameter(
            "local", "what part of the user-item graph to train on"
        )
        edge_dropout: float = parameter(
            0.7, "share of the user-item edges that a local principal graph leaves out", ge=0, lt=1
        )
        dropout: float = parameter(
            0.2, "share of a representation's entries set to zero in the contrast", ge=0, lt=1
        )
        contrastive_weight: float = parameter(
            0.0, "weight of the contrast between two dropouts of a representation", ge=0
        )
        train_features: bool = train_features_parameter()

    def __init__(self, dataset: Dataset, parameters: Parameters) -> None:
        super().__init__(dataset, parameters)
        size = parameters.embedding_size
        self.layers = parameters.layers
        self.item_layers = parameters.item_layers
        self.edge_dropout = parameters.edge_dropout
        self.dropout = parameters.dropout
        self.contrastive_weight = parameters.contrastive_weight
        self.user_embeddings = nn.ParameterDict(
            {
                modality: xavier_uniform_embedding(dataset.user_count, size)
                for modality in self.features.modalities
            }
        )
        self.projections = feature_projections(self.features, size)
        self.item_graph = frozen_item_graph(
            dataset, parameters.neighbour_count, parameters.image_weight
        )
        self.full_graph = symmetric_graph(dataset)
        self.training_graph = self.full_graph
        self.edge_pruner: EdgePruner | None = None
        if parameters.principal_graph == "global":
            self.training_graph = global_principal_graph(dataset, size)
        else:
            self.edge_pruner = EdgePruner(dataset)

    def before_epoch(self, epoch: int) -> None:
        if self.edge_pruner is not None and self.edge_dropout > 0:
            self.training_graph = self.edge_pruner.draw(self.edge_dropout, degree_sensitive=True)

    def loss(self, batch: Batch) -> Tensor:
        users, positives, negatives = batch.rows(*self._propagated(self.training_graph))
        total = ranking_loss(users, positives, negatives)
        if self.contrastive_weight > 0:
            contrast = self._contrast(users) + self._contrast(positives)
            total = total + self.contrastive_weight * 0.5 * contrast
        return total

    def representations(self) -> tuple[Tensor, Tensor]:
        return self._propagated(self.full_graph)

    def _propagated(self, graph: SparseGraph) -> tuple[Tensor, Tensor]:
        users = torch.cat(list(self.user_embeddings.values()), dim=1)
        items = torch.cat(
            [
                unit_rows(projection(self.features.rows(modality)))
                for modality, projection in self.projections.items()
            ],
            dim=1,
        )
        propagated = light_gcn_mean(graph, torch.cat([users, items]), self.layers)
        propagated_users, propagated_items = self.split_nodes(propagated)
        smoothed = propagate_layers(self.item_graph, items, self.item_layers)
        return propagated_users, propagated_items + smoothed

    def _contrast(self, rows: Tensor) -> Tensor:
        first, second = (dropout(rows, self.dropout, self.training) for _ in range(2))
        return info_nce(first, second, TEMPERATURE)


def global_principal_graph(dataset: Dataset, rank: int) -> SparseGraph:
    """The user-item graph's strongest singular vectors, weighed by its weakest singular values.

    Of the first ``rank`` singular values of the normalised user-item graph, the largest quarter
    with their vectors is kept, and the j-th value is multiplied by the j-th of the smallest
    quarter; entries of the product below ``SMALLEST_ENTRY`` are left out (global-aware extraction).

    The graph is bipartite, so its singular values come in equal pairs, one pair for each singular
    value of its users-by-items block, and the sum over a pair is that block's term and its
    transpose. Hence the block alone is decomposed, and whole pairs are kept: with a rank that is
    not a multiple of 8, where the published result depends on the basis chosen inside a pair, the
    number of pairs is rounded down. The product is thresholded in blocks of users. As the values
    are at most 1, it has at most rank / 4 / SMALLEST_ENTRY² entries, however many nodes there are.
    """

    def compute() -> dict[str, NDArray[Any]]:
        graph = user_to_item_graph(dataset, normalized=True, epsilon=DEGREE_EPSILON)
        block = sparse.csr_matrix(
            (graph.values.double(), graph.columns, graph.row_offsets), shape=graph.shape
        )
        users, values, items = _leading_singular_vectors(block, count=max(1, rank // 2))
        kept = max(1, len(values) // 4)
        scaled = users[:, :kept] * (values[:kept] * values[len(values) - kept :])
        rows = block_rows(dataset.item_count)
        parts = []
        for start in range(0, dataset.user_count, rows):
            dense = scaled[start : start + rows] @ items[:kept]
            dense[np.abs(dense) < SMALLEST_ENTRY] = 0.0
            parts.append(sparse.csr_matrix(dense))
        principal: Any = sparse.vstack(parts)
        return arrays_of(sparse.bmat([[None, principal], [principal.T, None]]), symmetric=True)

    inputs = {"dataset": dataset.fingerprint, "rank": rank, "version": 1}
    return SparseGraph.from_arrays(dataset.derived.get("global_principal_graph", inputs, compute))


def _leading_singular_vectors(
    matrix: Any, count: int
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Left vectors, falling singular values and right vectors; fewer if the matrix is small."""
    smaller_side = min(matrix.shape)
    if count >= smaller_side:
        return np.linalg.svd(matrix.toarray(), full_matrices=False)
    # A start of our own, as the solver's is drawn from a generator that nobody seeds.
    start = np.random.default_rng(0).standard_normal(smaller_side)
    left, values, right = sparse_linalg.svds(matrix, k=count, v0=start)
    order = np.argsort(-values)
    return left[:, order], values[order], right[order]
