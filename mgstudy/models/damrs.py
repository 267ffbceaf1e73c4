"""DA-MRS: denoised item graphs and feedback, and item views aligned with each other and users."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional

from mgstudy.config.parameters import parameter
from mgstudy.data.dataset import Dataset
from mgstudy.models.base import Batch, GraphRecommender, ModalityNeed, Paper
from mgstudy.models.graph import SparseGraph
from mgstudy.models.highest import highest
from mgstudy.models.interaction_graphs import co_occurrence, symmetric_graph
from mgstudy.models.item_graphs import binary_matrix, consistent_neighbours, normalize_by_row_sums
from mgstudy.models.losses import dot_products, sum_over_products
from mgstudy.models.propagation import light_gcn_mean, propagate_layers
from mgstudy.models.rows import gather_rows, unit_rows
from mgstudy.models.signals import Signal, passed

RELATED_ITEMS = 10
"""Items in each of the two groups of an item's relatives; fixed in the published code."""

TEMPERATURE = 0.2
"""Of the similarities to an item's relatives; fixed in the published code."""

EPSILON = 1e-9
"""Added to a group's share before its logarithm, as published."""


class DAMRS(GraphRecommender):
    """Denoising and aligning multimodal recommender, DA-MRS (Xv et al., KDD 2024).

    Items have a view ``h_m = G_m^n E_I`` per modality, over the graph of the items that are alike
    in every modality (``consistent_neighbours``), and one more, over the graph of the items bought
    together. Representations are the light graph convolution c of the embeddings, to which items
    add the mean g of their views. With the score difference D of a pair, the loss is the sum of

    - the denoised BPR loss, the mean of ``-t log logistic(D) - d log logistic(-D)``: a pair is
      trusted (t) the less, the less likely and the more disputed its positive item is by the user's
      similarity to the item's views, and doubted (d) where it is less likely than negatives are
      (``feedback_weights``);
    - ``preference_weight`` times the symmetric divergence between the probabilities that the
      batch's users prefer its items by c and by g, of length 1 each;
    - ``relation_weight`` times the alignment of the views on each item's relatives: ten that all
      views see as closest, and the ten next closest in one view.

    The features serve only to build graphs; none is trained or read after that. The co-occurrence
    graph comes with the published code as a file that nothing there makes; here an item's
    neighbours are the ``co_occurrence_count`` items with which it shares most training users, ties
    by rising id. As published, neither its counts nor the similarities weigh the graphs, and row
    sums normalise them on both sides though they are not symmetric. Where the paper has two
    modalities, any number from two on is treated alike.
    """

    name = "DAMRS"
    paper = Paper(
        title="Improving Multi-modal Recommender Systems by Denoising and Aligning Multi-modal "
        "Content and User Feedback",
        authors="Xv, Li, Xie, Lin, Liu, Xia, Kang, Lin",
        venue="KDD",
        year=2024,
        url="https://doi.org/10.1145/3637528.3671703",
    )
    modality_need = ModalityNeed.TWO_OR_MORE

    class Parameters(GraphRecommender.Parameters):
        layers: int = parameter(2, "propagations over the user-item graph", ge=0, space=(1, 2, 3))
        item_layers: int = parameter(1, "propagations over the item graphs", ge=0, space=(1, 2))
        neighbour_count: int = parameter(
            10,
            "neighbours of an item in the modalities' graphs, itself included",
            ge=1,
            space=(3, 5, 10, 15, 20),
        )
        co_occurrence_count: int = parameter(
            10, "neighbours of an item in the co-occurrence graph, besides itself", ge=0
        )
        relation_weight: float = parameter(
            0.001, "weight of the alignment on related items", ge=0, space=(1e-4, 1e-3, 1e-2, 0.1)
        )
        preference_weight: float = parameter(
            1.0, "weight of the alignment on user preferences", ge=0, space=(0.01, 0.1, 1.0)
        )

    def __init__(self, dataset: Dataset, parameters: Parameters) -> None:
        super().__init__(dataset, parameters)
        self.layers = parameters.layers
        self.item_layers = parameters.item_layers
        self.relation_weight = parameters.relation_weight
        self.preference_weight = parameters.preference_weight
        self.graph = symmetric_graph(dataset)
        matrices = consistent_neighbours(dataset, parameters.neighbour_count)
        matrices.append(co_occurring_items(dataset, parameters.co_occurrence_count))
        self.item_graphs = nn.ModuleList(
            SparseGraph.from_scipy(normalize_by_row_sums(matrix)) for matrix in matrices
        )

    @classmethod
    def refusal(cls, dataset: Dataset) -> str | None:
        if dataset.item_count < 2 * RELATED_ITEMS:
            return (
                f"{cls.name} needs {2 * RELATED_ITEMS} or more items, "
                f"dataset {dataset.name!r} has {dataset.item_count}"
            )
        return super().refusal(dataset)

    def loss(self, batch: Batch) -> Tensor:
        assert batch.negatives is not None
        all_users, all_items, views = self._views()
        mean_view = torch.stack(views).mean(dim=0)
        directions = [unit_rows(view) for view in views]
        total = self._denoised_ranking(batch, all_users, all_items + mean_view, directions)
        items = torch.unique(torch.cat([batch.positives, batch.negatives]))
        if self.preference_weight > 0:
            users = gather_rows(all_users, torch.unique(batch.users))
            divergence = preference_divergence(
                users,
                gather_rows(all_items, items),
                gather_rows(mean_view, items),
            )
            total = total + self.preference_weight * divergence
        if self.relation_weight > 0:
            total = total + self.relation_weight * relation_alignment(directions, items)
        return total

    def representations(self) -> tuple[Tensor, Tensor]:
        users, items, views = self._views()
        return users, items + torch.stack(views).mean(dim=0)

    def _views(self) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Collaborative users and items, and the items' views, each ``[items, size]``."""
        propagated = light_gcn_mean(self.graph, self.embeddings(), self.layers)
        views = []
        for graph in self.item_graphs:
            assert isinstance(graph, SparseGraph)
            views.append(propagate_layers(graph, self.item_embedding, self.item_layers))
        return *self.split_nodes(propagated), views

    def _denoised_ranking(
        self, batch: Batch, all_users: Tensor, all_items: Tensor, directions: Sequence[Tensor]
    ) -> Tensor:
        assert batch.negatives is not None
        users, positives, negatives = batch.rows(all_users, all_items)
        with torch.no_grad():
            positive_likelihoods, negative_likelihoods = (
                torch.stack(
                    [
                        torch.sigmoid((users * gather_rows(view, items)).sum(dim=1))
                        for view in directions
                    ]
                )
                for items in (batch.positives, batch.negatives)
            )
            trust, doubt = feedback_weights(positive_likelihoods, negative_likelihoods)
        preferences = dot_products(users, positives) - dot_products(users, negatives)
        preferences = passed(Signal.LOGITS, preferences)
        kept = trust * functional.softplus(-preferences)
        reversed_ = doubt * functional.softplus(preferences)
        return (kept + reversed_).mean()


def feedback_weights(positives: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor]:
    """How much to trust that each positive is preferred to its negative, and how much the reverse.

    With m, v and h the mean, the unbiased variance and the largest of a positive's likelihoods over
    the views, and n the mean of all negatives' likelihoods: ``m exp(-2 v)`` and, only where m < n,
    ``h - n``, both cut to [0, 1].

    Args:
        positives: Likelihood of each positive in each view, shape ``[views, rows]``.
        negatives: Likelihood of each negative in each view, shape ``[views, rows]``.

    Returns:
        Two tensors of shape ``[rows]``.
    """
    mean, variance = positives.mean(dim=0), positives.var(dim=0)
    negative_mean = negatives.mean()
    trust = mean * (-2.0 * variance).exp()
    doubt = (positives.amax(dim=0) - negative_mean) * (mean < negative_mean)
    return trust.clamp(0.0, 1.0), doubt.clamp(0.0, 1.0)


def preference_divergence(users: Tensor, items: Tensor, item_views: Tensor) -> Tensor:
    """How differently users prefer items by two representations of the items.

    The mean over all pairs of ``KL(p || q) + KL(q || p)``, where p and q are the logistic functions
    a and b of a user's dot products with either representation, scaled to length 1. For Bernoulli
    distributions this is ``(p - q) (a - b)``, which needs no logarithm.

    Args:
        users: Shape ``[users, width]``.
        items: Shape ``[items, width]``.
        item_views: Shape ``[items, width]``.
    """
    users = passed(Signal.REPRESENTATION, users)
    directions = [unit_rows(passed(Signal.REPRESENTATION, rows)) for rows in (items, item_views)]
    total = sum_over_products(_divergence_of_block, [users, users], directions)
    return total / (len(users) * len(items))


def _divergence_of_block(
    _: slice, first: Tensor, second: Tensor
) -> Iterable[tuple[Tensor, Tensor]]:
    """The sum over a block of pairs and its gradient by either score."""
    probabilities, others = first.sigmoid(), second.sigmoid()
    gap, difference = probabilities - others, first.sub_(second)
    # The slope of a logistic function p is p (1 - p).
    by_first = probabilities.mul_(1 - probabilities).mul_(difference).add_(gap)
    yield (gap * difference).sum(), by_first
    by_second = others.mul_(1 - others).mul_(difference).add_(gap).neg_()
    yield gap.new_zeros(()), by_second


def relation_alignment(directions: Sequence[Tensor], items: Tensor) -> Tensor:
    """How far each view is from seeing an item's relatives as close, averaged over views and items.

    An item's relatives in a view are the ``RELATED_ITEMS`` items with the highest sum of softmax
    similarities over all views, its own counted twice, and as many of the others with the highest
    in its own. With e the exponential similarities at ``TEMPERATURE``, the loss is minus the
    logarithm of the first group's share in e of all items, and of the second's in e of all items
    but the first group. No gradient flows through the choice.

    Args:
        directions: Each view's items, scaled to length 1, shape ``[all items, width]``.
        items: int64, shape ``[n]``: whose relatives to align.
    """
    directions = [passed(Signal.REPRESENTATION, direction) for direction in directions]
    rows = [gather_rows(direction, items) for direction in directions]
    total = sum_over_products(_alignment_of_block, rows, directions)
    return total / (len(directions) * len(items))


def _alignment_of_block(_: slice, *cosines: Tensor) -> Iterable[tuple[Tensor, Tensor]]:
    """Each view's sum over a block of items and its gradient by the view's cosines."""
    exponentials = [cosine.exp_() for cosine in cosines]
    normalizers = [one.sum(dim=1, keepdim=True) for one in exponentials]
    all_shares = torch.zeros_like(cosines[0])
    for exponential, normalizer in zip(exponentials, normalizers, strict=True):
        all_shares.addcdiv_(exponential, normalizer)
    for exponential, normalizer in zip(exponentials, normalizers, strict=True):
        together = torch.addcdiv(all_shares, exponential, normalizer)
        first = highest(together, RELATED_ITEMS)[1]
        # exp(cosine / TEMPERATURE) is the fifth power, a third of another exponential's time.
        closeness = exponential.mul_(exponential.square().square_())
        of_first = closeness.gather(1, first)
        # Summed without the first group, as the difference would cancel where that dominates.
        others = closeness.scatter_(1, first, 0.0)
        of_second, second = highest(others, RELATED_ITEMS)
        loss, by_first, by_second, by_others = _loss_of_shares(
            *(group.sum(dim=1, keepdim=True) for group in (of_first, of_second, others))
        )
        # An exponential is its own slope, but for the temperature.
        gradient = others.mul_(by_others / TEMPERATURE)
        gradient.scatter_(1, second, of_second * ((by_others + by_second) / TEMPERATURE))
        gradient.scatter_(1, first, of_first * (by_first / TEMPERATURE))
        yield loss, gradient


def _loss_of_shares(first: Tensor, second: Tensor, others: Tensor) -> tuple[Tensor, ...]:
    """The loss of some items, and its gradients by the sums over their first groups, their second
    groups and all but the first, shape ``[items, 1]`` each."""
    everything = first + others
    first_share, second_share = first / everything, second / others
    loss = -((first_share + EPSILON).log() + (second_share + EPSILON).log()).sum()
    by_first_share, by_second_share = (
        -1.0 / (share + EPSILON) for share in (first_share, second_share)
    )
    by_first = by_first_share * others / everything.square()
    by_second = by_second_share / others
    by_others = -by_first_share * first_share / everything - by_second * second_share
    return loss, by_first, by_second, by_others


def co_occurring_items(dataset: Dataset, neighbour_count: int) -> Any:
    """Each item with those it shares most training users with, ties by rising id.

    Args:
        dataset: Whose training interactions to read.
        neighbour_count: Neighbours per item besides itself.

    Returns:
        Binary scipy CSR, shape ``[items, items]``.
    """
    found = co_occurrence(dataset, "items", neighbour_count)
    own = sparse.identity(dataset.item_count, format="csr")
    return binary_matrix(found.indptr, found.indices) + own
