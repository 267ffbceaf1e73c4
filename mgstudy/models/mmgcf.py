"""MMGCF: projected features fused with light graph convolution, in one of nine ways."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Literal, TypeAlias

import torch
from pydantic import model_validator
from torch import Tensor, nn

from mgstudy.config.parameters import parameter
from mgstudy.data.dataset import Dataset
from mgstudy.models.base import Batch, GraphRecommender, ModalityNeed, Paper
from mgstudy.models.interaction_graphs import EdgePruner, symmetric_graph
from mgstudy.models.layers import feature_projections, linear
from mgstudy.models.losses import half_squared_sum, ranking_loss
from mgstudy.models.propagation import light_gcn_mean
from mgstudy.models.rows import gather_rows, unit_rows

Fusion: TypeAlias = Literal["mean", "sum", "concat"]
Weighting: TypeAlias = Literal["equal", "alpha", "normalized"]


class MMGCF(GraphRecommender):
    """Multimodal graph collaborative filtering (UMAP 2026).

    With X the light graph convolution of the embeddings, users are ``X_U`` and items Y fuse ``h =
    X_I`` with the projected features ``x_m`` of M modalities. ``fusion`` is the mean, the sum, or a
    linear map of the parts side by side; ``weighting`` says which parts::

        equal        Y = fuse(h, fuse(x_1, .., x_M))
        alpha        Y = fuse(a h, (1 - a) x_1, .., (1 - a) x_M),  a = logistic(one learned number)
        normalized   Y = fuse(M h / |h|, x_1 / |x_1|, .., x_M / |x_M|)

    Training prunes the user-item graph anew every epoch as FREEDOM does; ranking uses the full
    graph. The loss is the BPR loss plus ``regularization`` times half the squared norms of the
    batch's embeddings, not of its fused representations, divided by the batch's rows. Only the maps
    that the chosen fusion and weighting use are made.
    """

    name = "MMGCF"
    paper = Paper(
        title="Multimodal Graph Collaborative Filtering for Recommendation with Graph "
        "Convolutional Networks",
        authors="Spillo et al.",
        venue="UMAP",
        year=2026,
        url="https://doi.org/10.1145/3774935.3806158",
    )
    modality_need = ModalityNeed.ANY

    class Parameters(GraphRecommender.Parameters):
        feature_size: int = parameter(
            64, "columns of the projected features; as the embeddings unless fusion is concat", ge=1
        )
        layers: int = parameter(2, "propagations over the user-item graph", ge=0, space=(1, 2, 3))
        fusion: Fusion = parameter(
            "mean", "how an item's parts become one", space=("mean", "sum", "concat")
        )
        weighting: Weighting = parameter(
            "equal",
            "how the collaborative part and the modalities weigh against each other",
            space=("equal", "alpha", "normalized"),
        )
        dropout: float = parameter(
            0.5,
            "share of the user-item edges left out in an epoch",
            ge=0,
            lt=1,
            space=(0.2, 0.5, 0.8),
        )
        regularization: float = parameter(
            1e-3,
            "weight of half the squared norms of the batch's embeddings",
            ge=0,
            space=(0.1, 0.01, 1e-3, 1e-4),
        )

        @model_validator(mode="after")
        def _parts_of_one_width(self) -> MMGCF.Parameters:
            if self.fusion != "concat" and self.feature_size != self.embedding_size:
                raise ValueError(
                    f"fusion {self.fusion!r} adds parts of one width: set feature_size "
                    f"({self.feature_size}) to embedding_size ({self.embedding_size}), or use "
                    "fusion 'concat'"
                )
            return self

    def __init__(self, dataset: Dataset, parameters: Parameters) -> None:
        super().__init__(dataset, parameters)
        size, feature_size = parameters.embedding_size, parameters.feature_size
        modalities = self.features.modalities
        self.layers = parameters.layers
        self.fusion = parameters.fusion
        self.weighting = parameters.weighting
        self.dropout = parameters.dropout
        self.regularization = parameters.regularization
        self.projections = feature_projections(self.features, feature_size)
        if self.weighting == "alpha":
            self.gate = nn.Parameter(torch.zeros(()))
        self.joins = nn.ModuleDict()
        if self.fusion == "concat" and self.weighting == "equal":
            if len(modalities) > 1:
                self.joins["modalities"] = linear(len(modalities) * feature_size, feature_size)
            self.joins["both"] = linear(size + feature_size, size)
        elif self.fusion == "concat":
            self.joins["all"] = linear(size + len(modalities) * feature_size, size)
        self.full_graph = symmetric_graph(dataset)
        self.training_graph = self.full_graph
        self.edge_pruner = EdgePruner(dataset)

    def before_epoch(self, epoch: int) -> None:
        if self.dropout > 0:
            self.training_graph = self.edge_pruner.draw(self.dropout, degree_sensitive=True)

    def loss(self, batch: Batch) -> Tensor:
        assert batch.negatives is not None
        nodes = batch.nodes(self.dataset.user_count)
        embeddings = self.embeddings()
        propagated = light_gcn_mean(self.training_graph, embeddings, self.layers)
        rows = gather_rows(propagated, nodes)
        users, items = rows[: len(batch)], rows[len(batch) :]
        fused = self._fused(items, torch.cat([batch.positives, batch.negatives]))
        ranking = ranking_loss(users, *fused.chunk(2))
        penalty = half_squared_sum(gather_rows(embeddings, nodes)) / len(batch)
        return ranking + self.regularization * penalty

    def representations(self) -> tuple[Tensor, Tensor]:
        propagated = light_gcn_mean(self.full_graph, self.embeddings(), self.layers)
        users, items = self.split_nodes(propagated)
        return users, self._fused(items, None)

    def _fused(self, collaborative: Tensor, items: Tensor | None) -> Tensor:
        """Item representations from their collaborative rows; ``None`` stands for all items."""
        modalities = [
            projection(self.features.rows(modality, items))
            for modality, projection in self.projections.items()
        ]
        if self.weighting == "equal":
            content = modalities[0]
            if len(modalities) > 1:
                content = self._fuse(modalities, "modalities")
            return self._fuse([collaborative, content], "both")
        if self.weighting == "alpha":
            share = torch.sigmoid(self.gate)
            parts = [share * collaborative, *((1.0 - share) * part for part in modalities)]
        else:
            parts = [unit_rows(part) for part in (collaborative, *modalities)]
            parts[0] = len(modalities) * parts[0]
        return self._fuse(parts, "all")

    def _fuse(self, parts: Sequence[Tensor], join: str) -> Tensor:
        if self.fusion == "concat":
            joined: Tensor = self.joins[join](torch.cat(list(parts), dim=1))
            return joined
        total = reduce(torch.add, parts)
        return total / len(parts) if self.fusion == "mean" else total
