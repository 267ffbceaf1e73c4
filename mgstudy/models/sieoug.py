"""SIEOUG: two domains that share item similarities and, through the users they share, all users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mgstudy.config.parameters import Value, parameter
from mgstudy.data.dataset import Dataset
from mgstudy.models.base import Batch, GraphRecommender, ModalityNeed, Paper, Recommender, Scorer
from mgstudy.models.interaction_graphs import symmetric_graph
from mgstudy.models.item_graphs import consensus_graph
from mgstudy.models.layers import (
    attention,
    feature_projections,
    sparsemax,
    xavier_uniform_embedding,
)
from mgstudy.models.losses import half_squared_sum, ranking_loss
from mgstudy.models.propagation import light_gcn_mean, propagate_layers
from mgstudy.models.rows import gather_rows
from mgstudy.models.signals import Signal, passed

_TINY = 1e-12
_OF_ITEMS = ("item_layers", "neighbour_count", "hyperedges", "hyperedge_temperature")
_OF_USERS = (
    *("anchors", "anchor_temperature", "matching_smoothness", "matching_rounds"),
    *("overlap_weight", "matching_weight"),
)
"""Parameters that act in one of the two ways of transfer alone."""


class SIEOUG(Recommender):
    """Joint similarity item exploration and overlapped user guidance (Liu et al., WWW 2025), for a
    dataset of two domains with few users in both.

    From the paper, of which only abstract and summaries were at hand, and no code: there is a
    pair-wise view of the items (a robust similarity graph), a group-wise one (a sparse hypergraph),
    attention between them, collaborative filtering, and guidance, in which the users of both
    domains tell which of the others correspond, by optimal matching. *Everything more definite is
    assumed*, every formula included::

        h = mean over modalities of Lin(F)                   v = S^n h
        A = sparsemax(cos(h, C) / τ_h)                       w = A (Aᵀ h / column sums of A)
        x = E + π_v v + π_w w,  π = softmax of q·tanh(Lin(v)), q·tanh(Lin(w))
        [z ; y] = LightGCN([P ; x]) over the interactions of each domain alone

    S joins items of a domain that are near in several modalities (``consensus_graph``). C and P are
    each domain's own, all else is shared. A user's score of an item is ⟨z, y⟩ with z of the item's
    domain, or of the other for a user without training interactions there. The loss is the BPR
    loss, a squared norm, and for the users of a batch

    - OVER, the mean of 1 - cos(z⁰, z¹) of those who are known in both domains;
    - MATCH, the sum over pairs of a user of each domain of Π (1 - cos(z⁰, z¹)). The plan Π is that
      of entropic optimal transport with equal shares. It costs the squared distance between the
      users' profiles, softmax(cos(z, z of users known in both) / τ_o), and nothing to be matched
      with oneself, over the largest cost; no gradient flows through it.

    One graph for both domains would let interactions leak through the shared users before any
    guidance, so each has its own. Negatives are to come from the positive's domain.
    """

    name = "SIEOUG"
    paper = Paper(
        title="Joint Similarity Item Exploration and Overlapped User Guidance for Multi-Modal "
        "Cross-Domain Recommendation",
        authors="Liu, Chen, Xu, Liao, Wang, Zheng, Fu, Pei, Wang",
        venue="WWW",
        year=2025,
        url="https://arxiv.org/abs/2502.16068",
    )
    modality_need = ModalityNeed.ANY

    class Parameters(GraphRecommender.Parameters):
        layers: int = parameter(2, "propagations over the user-item graphs", ge=0)
        item_layers: int = parameter(1, "propagations over the item graph", ge=0)
        neighbour_count: int = parameter(
            10, "neighbours of an item in the item graph, itself included", ge=1
        )
        hyperedges: int = parameter(32, "groups of items in each domain", ge=1, space=(16, 32, 64))
        hyperedge_temperature: float = parameter(
            0.1, "of the items' shares in groups; low for few groups", gt=0, space=(0.05, 0.1, 0.2)
        )
        anchors: int = parameter(
            256, "users known in both domains who are drawn in each epoch for profiles", ge=1
        )
        anchor_temperature: float = parameter(0.1, "of the users' profiles", gt=0)
        matching_smoothness: float = parameter(
            0.1,
            "of the optimal matching; low for one match each (from 0.02 on, float32 does)",
            ge=0.02,
            space=(0.05, 0.1, 0.5),
        )
        matching_rounds: int = parameter(20, "Sinkhorn iterations of the matching", ge=1)
        regularization: float = parameter(
            1e-4,
            "weight of half the squared norms of the batch's embeddings, over its rows",
            ge=0,
            space=(1e-5, 1e-4, 1e-3),
        )
        overlap_weight: float = parameter(
            0.1,
            "weight of OVER, which draws both sides of a user together",
            ge=0,
            space=(0.0, 0.01, 0.1, 0.5),
        )
        matching_weight: float = parameter(
            0.1,
            "weight of MATCH, which draws users together who were matched",
            ge=0,
            space=(0.0, 0.01, 0.1, 0.5),
        )
        transfer: Literal["both", "items", "users", "none"] = parameter(
            "both",
            "for ablation: `items` is without OVER and MATCH, `users` without views of the items, "
            "`none` without either",
        )
        pair_view: bool = parameter(True, "for ablation: whether items have the pair-wise view")
        group_view: bool = parameter(True, "for ablation: whether items have the group-wise view")

    item_domains: Tensor
    items_by_domain: Tensor
    position_of_item: Tensor
    overlapped: Tensor
    sides: Tensor
    anchors: Tensor

    def __init__(self, dataset: Dataset, parameters: Parameters) -> None:
        super().__init__(dataset, parameters)
        assert dataset.item_domains is not None  # Refused without.
        size, users = parameters.embedding_size, dataset.user_count
        self.settings = parameters
        with_views = parameters.transfer in ("both", "items")
        self.pair_view = with_views and parameters.pair_view
        self.group_view = with_views and parameters.group_view
        self.guided = parameters.transfer in ("both", "users")
        self.user_embeddings = nn.ParameterList(
            xavier_uniform_embedding(users, size) for _ in dataset.domains
        )
        self.item_embedding = xavier_uniform_embedding(dataset.item_count, size)
        if self.pair_view or self.group_view:
            self.projections = feature_projections(self.features, size)
        if self.pair_view:
            self.item_graph = consensus_graph(dataset, parameters.neighbour_count)
        if self.group_view:
            self.prototypes = nn.ParameterList(
                xavier_uniform_embedding(parameters.hyperedges, size) for _ in dataset.domains
            )
        if self.pair_view and self.group_view:
            self.attention = attention(size)
        self.graph = symmetric_graph(with_users_by_domain(dataset))
        domains = dataset.item_domains.astype(np.int64)
        order = np.argsort(domains, kind="stable")
        first, second = dataset.trained_in.T
        own = np.arange(users)
        followed = {
            "item_domains": domains,
            "items_by_domain": order,
            "position_of_item": np.argsort(order),
            "overlapped": first & second,
            # Where a user has nothing in a domain, the other side stands in, if it has something.
            "sides": np.stack(
                [
                    np.where(first | ~second, own, own + users),
                    np.where(second | ~first, own + users, own),
                ]
            ),
            "anchors": np.flatnonzero(first & second)[: parameters.anchors],
        }
        for name, values in followed.items():
            self.register_buffer(name, torch.from_numpy(values), persistent=False)
        self.in_order = bool((np.diff(domains) >= 0).all())
        self.domain_sizes: list[int] = np.bincount(domains).tolist()
        self.overlapped_count = int((first & second).sum())

    @classmethod
    def refusal(cls, dataset: Dataset) -> str | None:
        if len(dataset.domains) != 2:
            return (
                f"{cls.name} needs two domains, "
                f"dataset {dataset.name!r} has {len(dataset.domains) or 'none'}"
            )
        overlapped = int(dataset.trained_in.all(axis=1).sum())
        if overlapped < 2:
            return (
                f"{cls.name} needs 2 or more users with training interactions in both domains, "
                f"dataset {dataset.name!r} has {overlapped}"
            )
        return super().refusal(dataset)

    @classmethod
    def without_effect(cls, dataset: Dataset, fixed: Mapping[str, Value]) -> Mapping[str, Value]:
        transfer = fixed.get("transfer")
        idle = (
            *(_OF_ITEMS if transfer in ("users", "none") else ()),
            *(_OF_USERS if transfer in ("items", "none") else ()),
        )
        return {name: cls.Parameters.model_fields[name].default for name in idle}

    def before_epoch(self, epoch: int) -> None:
        """Draw the anchors, where there are more users known in both domains than are wanted."""
        if self.guided and self.overlapped_count > len(self.anchors):
            keys = torch.rand(len(self.overlapped), device=self.overlapped.device)
            keys = keys.masked_fill(~self.overlapped, -1.0)
            self.anchors = keys.topk(len(self.anchors)).indices

    def loss(self, batch: Batch) -> Tensor:
        assert batch.negatives is not None
        settings, user_count = self.settings, self.dataset.user_count
        domain_users, items = self.representations()
        # A user is one row in each domain; a batch's rows are of the positive's.
        users = batch.users + user_count * self.item_domains[batch.positives]
        ranking = ranking_loss(
            gather_rows(domain_users, users),
            gather_rows(items, batch.positives),
            gather_rows(items, batch.negatives),
        )
        penalty = half_squared_sum(
            gather_rows(torch.cat(list(self.user_embeddings)), users),
            gather_rows(self.item_embedding, batch.positives),
            gather_rows(self.item_embedding, batch.negatives),
        )
        total = ranking + settings.regularization / len(batch) * penalty
        if not self.guided:
            return total
        first, second = self._distinct(users)
        over = self._overlap_loss(domain_users, first, second)
        match = self._matching_loss(domain_users, first, second)
        return total + settings.overlap_weight * over + settings.matching_weight * match

    def scorer(self) -> Scorer:
        domain_users, items = self.representations()
        users = [gather_rows(domain_users, side) for side in self.sides]
        transposed = [rows.t().contiguous() for rows in self._by_domain(items)]

        def scores(user_ids: Tensor) -> Tensor:
            parts = [rows[user_ids] @ those for rows, those in zip(users, transposed, strict=True)]
            together = torch.cat(parts, dim=1)
            return together if self.in_order else together[:, self.position_of_item]

        return scores

    def representations(self) -> tuple[Tensor, Tensor]:
        """A row per user and domain, shape ``[2 * users, width]``, those of the first domain first;
        and one per item."""
        nodes = torch.cat([*self.user_embeddings, self.item_inputs()])
        # Users by domain are users of their own, so one graph holds both domains' apart.
        convolved = light_gcn_mean(self.graph, nodes, self.settings.layers)
        user_rows = 2 * self.dataset.user_count
        return convolved[:user_rows], convolved[user_rows:]

    def item_inputs(self) -> Tensor:
        """The items' embeddings with what their views say, shape ``[items, width]``."""
        if not (self.pair_view or self.group_view):
            return self.item_embedding
        projected = [
            projection(self.features.rows(modality))
            for modality, projection in self.projections.items()
        ]
        content = torch.stack(projected).mean(dim=0)
        views: list[Tensor] = []
        if self.pair_view:
            views.append(propagate_layers(self.item_graph, content, self.settings.item_layers))
        if self.group_view:
            views.append(self._group_view(content))
        if len(views) == 1:
            return torch.add(self.item_embedding, views[0])
        logits = torch.cat([self.attention(view) for view in views], dim=1)
        shares = logits.softmax(dim=1)
        weighed = [share[:, None] * view for share, view in zip(shares.t(), views, strict=True)]
        combined: Tensor = self.item_embedding + weighed[0] + weighed[1]
        return combined

    def group_shares(self, content: Tensor) -> list[Tensor]:
        """Each domain's items' shares in its groups, ``[items of the domain, hyperedges]``."""
        return [
            sparsemax(
                _directions(rows) @ _directions(groups).t() / self.settings.hyperedge_temperature
            )
            for rows, groups in zip(self._by_domain(content), self.prototypes, strict=True)
        ]

    def _group_view(self, content: Tensor) -> Tensor:
        views = []
        for rows, shares in zip(self._by_domain(content), self.group_shares(content), strict=True):
            sizes = shares.sum(dim=0).clamp_min(_TINY)
            views.append(shares @ (shares.t() @ rows / sizes[:, None]))
        return gather_rows(torch.cat(views), self.position_of_item)

    def _by_domain(self, items: Tensor) -> Sequence[Tensor]:
        """The rows of each domain's items, given those of all."""
        return torch.split(gather_rows(items, self.items_by_domain), self.domain_sizes)

    def _distinct(self, users: Tensor) -> tuple[Tensor, Tensor]:
        """The distinct users of each domain, ascending, of rows of users by domain."""
        user_count = self.dataset.user_count
        distinct: Tensor = torch.unique(users)
        of_first = int((distinct < user_count).sum())
        return distinct[:of_first], distinct[of_first:] - user_count

    def _overlap_loss(self, domain_users: Tensor, first: Tensor, second: Tensor) -> Tensor:
        user_count = self.dataset.user_count
        also_first = torch.zeros_like(self.overlapped).index_fill_(0, first, True)
        users = torch.cat([first, second])
        # Whoever is in both counts once.
        once = torch.cat([torch.ones_like(first, dtype=torch.bool), ~also_first[second]])
        weights = (self.overlapped[users] & once).to(domain_users.dtype)
        sides = (gather_rows(domain_users, users + side * user_count) for side in (0, 1))
        left, right = (_directions(passed(Signal.REPRESENTATION, rows)) for rows in sides)
        distances = 1 - (left * right).sum(dim=1)
        return (weights * distances).sum() / weights.sum().clamp_min(1)

    def _matching_loss(self, domain_users: Tensor, first: Tensor, second: Tensor) -> Tensor:
        if not (len(first) and len(second)):
            return domain_users.new_zeros(())
        user_count = self.dataset.user_count
        rows = [gather_rows(domain_users, nodes) for nodes in (first, second + user_count)]
        left, right = (_directions(passed(Signal.REPRESENTATION, side)) for side in rows)
        plan = self.plan(domain_users.detach(), first, second)
        # The sum over all pairs of plan * (1 - cosine), without a gradient of every pair.
        return plan.sum() - (left * (plan @ right)).sum()

    @torch.no_grad()
    def plan(self, domain_users: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Which users of the first domain are matched with which of the second, and how much.

        Args:
            domain_users: A row per user and domain, shape ``[2 * users, width]``.
            first: Users of the first domain, int64.
            second: Users of the second.

        Returns:
            Shape ``[len(first), len(second)]``; every user has an equal share of 1 in all.
        """
        settings, user_count = self.settings, self.dataset.user_count
        profiles = []
        for side, users in ((0, first), (1, second)):
            anchors = _directions(domain_users[self.anchors + side * user_count])
            cosines = _directions(domain_users[users + side * user_count]) @ anchors.t()
            profiles.append((cosines / settings.anchor_temperature).softmax(dim=1))
        return optimal_plan(
            profiles[0],
            profiles[1],
            first[:, None] == second,
            settings.matching_smoothness,
            settings.matching_rounds,
        )


def optimal_plan(
    left: Tensor, right: Tensor, same: Tensor, smoothness: float, rounds: int
) -> Tensor:
    """Match rows with rows: entropic optimal transport with equal shares, by Sinkhorn's iteration.

    A pair costs the squared distance of its rows, or nothing where it is known to be the same, over
    the largest cost.

    Args:
        left: float32, shape ``[m, width]``.
        right: Shape ``[n, width]``.
        same: bool, shape ``[m, n]``.
        smoothness: From 0.02 on: costs of 1 over it must not underflow in float32.
        rounds: Iterations.

    Returns:
        Shape ``[m, n]``. Columns sum to ``1 / n``, rows nearly to ``1 / m``.
    """
    squares = left.square().sum(dim=1)[:, None] + right.square().sum(dim=1)
    costs = (squares - 2 * left @ right.t()).clamp_min(0).masked_fill(same, 0)
    kernel = torch.exp(-costs / costs.amax().clamp_min(_TINY) / smoothness)
    m, n = kernel.shape
    of_columns = kernel.new_ones(n)
    for _ in range(rounds):
        of_rows = 1 / (m * (kernel @ of_columns))
        of_columns = 1 / (n * (kernel.t() @ of_rows))
    return of_rows[:, None] * kernel * of_columns


def with_users_by_domain(dataset: Dataset) -> Dataset:
    """A dataset of two domains in which a user is another one in each: those of the second domain
    come after all of the first."""
    assert dataset.item_domains is not None
    train = dataset.train
    users = train.users + dataset.user_count * dataset.item_domains[train.items].astype(np.int64)
    return replace(
        dataset,
        user_count=2 * dataset.user_count,
        train=replace(train, users=users),
        fingerprint=f"{dataset.fingerprint}-users by domain",
    )


def _directions(rows: Tensor) -> Tensor:
    return functional.normalize(rows, dim=1, eps=_TINY)
