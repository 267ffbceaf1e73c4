"""LightGCN: embeddings smoothed over the user-item graph."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from mgstudy.config.parameters import Choice, ParameterSet, parameter
from mgstudy.data.dataset import Dataset
from mgstudy.models.base import Batch, EmbeddingRecommender, Paper
from mgstudy.models.initializers import xavier_uniform_embedding
from mgstudy.models.interaction_graphs import symmetric_graph
from mgstudy.models.losses import bpr_loss, dot_products, frobenius_penalty
from mgstudy.models.propagation import light_gcn_mean


class LightGCN(EmbeddingRecommender):
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

    class Parameters(ParameterSet):
        embedding_size: int = parameter(64, "columns of the embeddings", ge=1)
        layers: int = parameter(
            2, "propagations over the user-item graph", ge=1, space=Choice(choices=(1, 2, 3, 4))
        )
        regularization: float = parameter(
            1e-4,
            "weight of the Frobenius penalty on the batch's embeddings",
            ge=0,
            space=Choice(choices=(1e-2, 1e-3, 1e-4, 1e-5, 1e-6)),
        )

    def __init__(self, dataset: Dataset, parameters: Parameters) -> None:
        super().__init__(dataset, parameters)
        size = parameters.embedding_size
        self.layers = parameters.layers
        self.regularization = parameters.regularization
        self.user_embedding = xavier_uniform_embedding(dataset.user_count, size)
        self.item_embedding = xavier_uniform_embedding(dataset.item_count, size)
        self.graph = symmetric_graph(dataset)

    def loss(self, batch: Batch) -> Tensor:
        embeddings = torch.cat([self.user_embedding, self.item_embedding])
        nodes = batch.nodes(self.dataset.user_count)
        propagated = light_gcn_mean(self.graph, embeddings, self.layers)
        users, positives, negatives = functional.embedding(nodes, propagated).chunk(3)
        ranking = bpr_loss(dot_products(users, positives), dot_products(users, negatives))
        rows = functional.embedding(nodes, embeddings).chunk(3)
        return ranking + self.regularization * frobenius_penalty(*rows)

    def representations(self) -> tuple[Tensor, Tensor]:
        embeddings = torch.cat([self.user_embedding, self.item_embedding])
        propagated = light_gcn_mean(self.graph, embeddings, self.layers)
        return (
            propagated[: self.dataset.user_count],
            propagated[self.dataset.user_count :],
        )
