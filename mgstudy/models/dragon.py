"""DRAGON: modality views side by side, with a graph between users and one between items."""

from __future__ import annotations

from torch import Tensor

from mgstudy.config.parameters import parameter
from mgstudy.data.dataset import Dataset
from mgstudy.models.base import Paper
from mgstudy.models.dual_graph import DualGraphParameters, DualGraphRecommender
from mgstudy.models.item_graphs import frozen_item_graph
from mgstudy.models.propagation import propagate_layers


class DRAGON(DualGraphRecommender):
    """Dyadic relations with homogeneous graphs (Zhou et al., ECAI 2023).

    With y_m a node's view in modality m (see ``DualGraphRecommender``), items are their views side
    by side, plus those smoothed over the frozen item graph (FREEDOM's). Users g are theirs side by
    side, each times a trained weight of the user's own, plus the sum of g over the user
    co-occurrence graph. The loss is the BPR loss in bits plus ``regularization`` times the mean
    squares of the batch's preferences and of all modality weights.

    A quirk of the published code that is kept: the user graph weighs by the softmax of raw counts,
    with copies that fill up short lists. Its trained copies of the features, which receive no
    gradient, are left out. With a single modality there are no modality weights.
    """

    name = "DRAGON"
    paper = Paper(
        title="Enhancing Dyadic Relations with Homogeneous Graphs for Multimodal Recommendation",
        authors="Zhou, Zhou, Zhang, Shen",
        venue="ECAI",
        year=2023,
        url="https://arxiv.org/abs/2301.12097",
    )

    class Parameters(DualGraphParameters):
        item_layers: int = parameter(1, "propagations over the item graph", ge=0)
        neighbour_count: int = parameter(
            10, "neighbours of an item in its graph, itself included", ge=1
        )
        image_weight: float = parameter(
            0.1, "share of the image modality in the item graph", ge=0, le=1
        )

    def __init__(self, dataset: Dataset, parameters: Parameters) -> None:
        super().__init__(dataset, parameters)
        self.item_layers = parameters.item_layers
        self.item_graph = frozen_item_graph(
            dataset, parameters.neighbour_count, parameters.image_weight
        )

    def combined(self, user_views: Tensor, item_views: Tensor) -> tuple[Tensor, Tensor]:
        items = item_views.flatten(1)
        smoothed = propagate_layers(self.item_graph, items, self.item_layers)
        return self.weighted(user_views).flatten(1), items + smoothed
