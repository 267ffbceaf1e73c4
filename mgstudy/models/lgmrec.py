"""LGMRec: local user interests from graphs, global ones from hyperedges learned from features."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor, nn

from mgstudy.config.parameters import parameter
from mgstudy.data.dataset import Dataset
from mgstudy.models.base import Batch, GraphRecommender, ModalityNeed, Paper
from mgstudy.models.interaction_graphs import DEGREE_EPSILON, symmetric_graph, user_to_item_graph
from mgstudy.models.layers import dropout, xavier_uniform_embedding
from mgstudy.models.losses import frobenius_penalty, ranking_loss, sum_of_log_normalizers
from mgstudy.models.propagation import light_gcn_mean, propagate, propagate_layers
from mgstudy.models.rows import gather_rows, unit_rows
from mgstudy.models.signals import Signal, passed

TEMPERATURE = 0.2
"""Of the Gumbel-softmax and of the contrastive loss; fixed in the published code."""


class LGMRec(GraphRecommender):
    """Local and global graph learning (Guo et al., AAAI 2024).

    Local: the light graph convolution c of the embeddings, plus, per modality, the last of n
    propagations of the projected features F W, in which a user starts as the mean over its history
    R. Global: per modality, items and users belong softly to hyperedges (Gumbel-softmax of learned
    logits F V; a user's being the sum over its history), over which c's items are passed, in one
    or more layers, to all items and users. With noise g and every row y / |y| of length 1::

        Y_m = G^n [mean_R(F_m W_m) ; F_m W_m]
        H_m = softmax((F_m V_m + g) / 0.2),   H'_m = softmax((R F_m V_m + g) / 0.2)
        Z_m = [H'_m B_m ; H_m B_m],   B_m = H_m^T c_I
        X = c + Σ_m Y_m / |Y_m| + global_weight Σ_m Z_m / |Σ_m Z_m|

    The loss is the BPR loss, plus the Frobenius penalty of the batch's rows, plus the contrast
    between the modalities' global representations of the batch's users (and items), each against
    those of all users (items); with more than two modalities, between every two of them. The
    contrast is a sum over the batch, as published.

    Unlike in the published code, which draws Gumbel noise in evaluation too and so gives a user
    other scores each time, ranking is without noise. The published defaults here are those for
    Amazon Baby; the search space has those for Sports and Clothing too. ``layers = 0`` is the
    published "mf" backbone.
    """

    name = "LGMRec"
    paper = Paper(
        title="LGMRec: Local and Global Graph Learning for Multimodal Recommendation",
        authors="Guo, Li, Li, Wang, Shi, Ruan",
        venue="AAAI",
        year=2024,
        url="https://arxiv.org/abs/2312.16400",
    )
    modality_need = ModalityNeed.TWO_OR_MORE

    class Parameters(GraphRecommender.Parameters):
        layers: int = parameter(2, "propagations of the embeddings over the user-item graph", ge=0)
        modality_layers: int = parameter(
            2, "propagations of the projected features over the user-item graph", ge=0
        )
        hypergraph_layers: int = parameter(
            1, "propagations over the hyperedges", ge=1, space=(1, 2)
        )
        hyperedge_count: int = parameter(4, "hyperedges of each modality", ge=1, space=(4, 64))
        hyperedge_dropout: float = parameter(
            0.5,
            "share of the memberships in hyperedges set to zero",
            ge=0,
            lt=1,
            space=(0.5, 0.6, 0.8),
        )
        global_weight: float = parameter(
            0.3, "weight of the global representation", ge=0, space=(0.2, 0.3, 0.6)
        )
        contrastive_weight: float = parameter(
            1e-4, "weight of the contrast between the modalities' global representations", ge=0
        )
        regularization: float = parameter(
            1e-6, "weight of the Frobenius penalty on the batch's representations", ge=0
        )

    def __init__(self, dataset: Dataset, parameters: Parameters) -> None:
        super().__init__(dataset, parameters)
        size = parameters.embedding_size
        widths = {modality: self.features.width(modality) for modality in self.features.modalities}
        self.layers = parameters.layers
        self.modality_layers = parameters.modality_layers
        self.hypergraph_layers = parameters.hypergraph_layers
        self.hyperedge_dropout = parameters.hyperedge_dropout
        self.global_weight = parameters.global_weight
        self.contrastive_weight = parameters.contrastive_weight
        self.regularization = parameters.regularization
        self.projections = nn.ParameterDict(
            {modality: xavier_uniform_embedding(width, size) for modality, width in widths.items()}
        )
        self.hyperedges = nn.ParameterDict(
            {
                modality: xavier_uniform_embedding(width, parameters.hyperedge_count)
                for modality, width in widths.items()
            }
        )
        self.graph = symmetric_graph(dataset)
        self.history = user_to_item_graph(dataset, normalized=False)

    def loss(self, batch: Batch) -> Tensor:
        nodes = batch.nodes(self.dataset.user_count)
        collaborative, content, interests = self._views()
        fused = self._fused(
            gather_rows(collaborative, nodes),
            [gather_rows(view, nodes) for view in content],
            [gather_rows(view, nodes) for view in interests],
        )
        rows = fused.chunk(3)
        total = ranking_loss(*rows) + self.regularization * frobenius_penalty(*rows)
        if self.contrastive_weight > 0:
            total = total + self.contrastive_weight * self._contrast(interests, batch)
        return total

    def representations(self) -> tuple[Tensor, Tensor]:
        return self.split_nodes(self._fused(*self._views()))

    def _views(self) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """What representations are made of, each of shape ``[users + items, size]``: the
        collaborative view, each modality's local view, and each modality's global view."""
        embeddings = self.embeddings()
        collaborative = light_gcn_mean(self.graph, embeddings, self.layers)
        # Both maps of all modalities side by side, so that histories are summed only once.
        maps = []
        for modality in self.features.modalities:
            weight = torch.cat([self.projections[modality], self.hyperedges[modality]], dim=1)
            projected = passed(Signal.PROJECTION, self.features.rows(modality) @ weight)
            maps.append(passed(Signal.HIDDEN, projected))
        summed = propagate(self.history, torch.cat(maps, dim=1)).chunk(len(maps), dim=1)
        size = embeddings.shape[1]
        lengths = self.history.row_offsets.diff().unsqueeze(1) + DEGREE_EPSILON
        content = torch.cat(
            [
                torch.cat([users[:, :size] / lengths, items[:, :size]])
                for users, items in zip(summed, maps, strict=True)
            ],
            dim=1,
        )
        content = propagate_layers(self.graph, content, self.modality_layers)
        _, collaborative_items = self.split_nodes(collaborative)
        interests = [
            self._interests(users[:, size:], items[:, size:], collaborative_items)
            for users, items in zip(summed, maps, strict=True)
        ]
        return collaborative, list(content.chunk(len(maps), dim=1)), interests

    def _interests(self, users: Tensor, items: Tensor, passed_items: Tensor) -> Tensor:
        """Pass item rows over hyperedges, given the logits of users and items to belong to each."""
        user_membership, item_membership = self._membership(users), self._membership(items)
        for _ in range(self.hypergraph_layers):
            hyperedges = item_membership.t() @ passed_items
            passed_items = item_membership @ hyperedges
        return torch.cat([user_membership @ hyperedges, passed_items])

    def _membership(self, logits: Tensor) -> Tensor:
        if self.training:
            logits = logits + standard_gumbel(logits)
        membership = (logits / TEMPERATURE).softmax(dim=1)
        return dropout(membership, self.hyperedge_dropout, self.training)

    def _fused(
        self, collaborative: Tensor, content: list[Tensor], interests: list[Tensor]
    ) -> Tensor:
        local = collaborative + torch.stack([unit_rows(v) for v in content]).sum(dim=0)
        shared = unit_rows(torch.stack(interests).sum(dim=0))
        return local + self.global_weight * shared

    def _contrast(self, interests: list[Tensor], batch: Batch) -> Tensor:
        sizes = [self.dataset.user_count, self.dataset.item_count]
        total = interests[0].new_zeros(())
        for left, right in combinations(interests, 2):
            kinds = zip(torch.split(left, sizes), torch.split(right, sizes), strict=True)
            for (one, other), ids in zip(kinds, (batch.users, batch.positives), strict=True):
                total = total + contrast_with_all(one, other, ids)
        return total


def standard_gumbel(like: Tensor) -> Tensor:
    """Independent draws from the standard Gumbel distribution, of the shape of ``like``."""
    return -torch.empty_like(like).exponential_().log()


def contrast_with_all(left: Tensor, right: Tensor, rows: Tensor) -> Tensor:
    """Contrast rows of one table with all rows of another, the same row being the positive.

    LGMRec's hypergraph contrast: with cosine similarity s and temperature t, the sum over ``rows``
    of ``-log(exp(s(left_r, right_r) / t) / sum over all w of exp(s(left_r, right_w) / t))``.

    Args:
        left: Shape ``[n, width]``.
        right: Shape ``[n, width]``.
        rows: int64, shape ``[m]``; a row that occurs repeatedly counts as often.
    """
    rows, counts = torch.unique(rows, return_counts=True)
    everything = unit_rows(passed(Signal.REPRESENTATION, right))
    anchors = passed(Signal.REPRESENTATION, gather_rows(left, rows))
    anchors = unit_rows(anchors) / TEMPERATURE
    positives = gather_rows(everything, rows)
    weights = counts.to(anchors.dtype)
    attraction: Tensor = (weights * (anchors * positives).sum(dim=1)).sum()
    return sum_of_log_normalizers(anchors, everything, weights) - attraction
