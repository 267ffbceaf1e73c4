"""LightGCN: embeddings smoothed over the user-item graph."""

from __future__ import annotations

from torch import Tensor

from mgstudy.config.parameters import parameter
from mgstudy.data.dataset import Dataset
from mgstudy.models.base import Batch, GraphRecommender, Paper
from mgstudy.models.interaction_graphs import symmetric_graph
from mgstudy.models.losses import frobenius_penalty, ranking_loss
from mgstudy.models.propagation import light_gcn_mean
from mgstudy.models.rows import gather_rows


class LightGCN(GraphRecommender):
    """Light graph convolution (He et al., SIGIR 2020).

    Representations are the mean of the embeddings and their first ``layers`` propagations over the
    symmetrically normalised user-item graph. The loss is the BPR loss on the representations plus
    ``regularization`` times the Frobenius penalty on the batch's embeddings before propagation; the
    paper's regulariser is the squared norm (a quirk of the published multimodal code that is kept).
    """

    name = "LightGCN"
    paper = Paper(
        title="LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation",
        authors="He, Deng, Wang, Li, Zhang, Wang",
        venue="SIGIR",
        year=2020,
        url="https://arxiv.org/abs/2002.02126",
    )

    class Parameters(GraphRecommender.Parameters):
        layers: int = parameter(
            2, "propagations over the user-item graph", ge=1, space=(1, 2, 3, 4)
        )
        regularization: float = parameter(
            1e-4,
            "weight of the Frobenius penalty on the batch's embeddings",
            ge=0,
            space=(1e-2, 1e-3, 1e-4, 1e-5, 1e-6),
        )

    def __init__(self, dataset: Dataset, parameters: Parameters) -> None:
        super().__init__(dataset, parameters)
        self.layers = parameters.layers
        self.regularization = parameters.regularization
        self.graph = symmetric_graph(dataset)

    def loss(self, batch: Batch) -> Tensor:
        embeddings = self.embeddings()
        nodes = batch.nodes(self.dataset.user_count)
        propagated = light_gcn_mean(self.graph, embeddings, self.layers)
        ranking = ranking_loss(*gather_rows(propagated, nodes).chunk(3))
        rows = gather_rows(embeddings, nodes).chunk(3)
        return ranking + self.regularization * frobenius_penalty(*rows)

    def representations(self) -> tuple[Tensor, Tensor]:
        return self.split_nodes(light_gcn_mean(self.graph, self.embeddings(), self.layers))
