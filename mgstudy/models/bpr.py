"""BPR: matrix factorisation learned from pairwise preferences."""

from __future__ import annotations

from torch import Tensor

from mgstudy.config.parameters import ParameterSet, parameter
from mgstudy.data.dataset import Dataset
from mgstudy.models.base import Batch, EmbeddingRecommender, Paper
from mgstudy.models.layers import xavier_normal_embedding
from mgstudy.models.losses import frobenius_penalty, ranking_loss


class BPR(EmbeddingRecommender):
    """Bayesian personalised ranking over matrix factorisation (Rendle et al., UAI 2009).

    The score of user u and item i is the dot product of their embeddings, without biases; the loss
    is the BPR loss plus ``regularization`` times the Frobenius penalty of the batch's rows. The
    paper's regulariser is the squared norm; the published multimodal code, whose numbers we compare
    with, uses the norm itself divided by the batch size.
    """

    name = "BPR"
    paper = Paper(
        title="BPR: Bayesian Personalized Ranking from Implicit Feedback",
        authors="Rendle, Freudenthaler, Gantner, Schmidt-Thieme",
        venue="UAI",
        year=2009,
        url="https://arxiv.org/abs/1205.2618",
    )

    class Parameters(ParameterSet):
        embedding_size: int = parameter(64, "columns of the embeddings", ge=1)
        regularization: float = parameter(
            1e-4,
            "weight of the Frobenius penalty on the batch's embeddings",
            ge=0,
            space=(2.0, 1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-5),
        )

    def __init__(self, dataset: Dataset, parameters: Parameters) -> None:
        super().__init__(dataset, parameters)
        self.regularization = parameters.regularization
        self.user_embedding = xavier_normal_embedding(dataset.user_count, parameters.embedding_size)
        self.item_embedding = xavier_normal_embedding(dataset.item_count, parameters.embedding_size)

    def loss(self, batch: Batch) -> Tensor:
        rows = batch.rows(*self.representations())
        return ranking_loss(*rows) + self.regularization * frobenius_penalty(*rows)

    def representations(self) -> tuple[Tensor, Tensor]:
        return self.user_embedding, self.item_embedding
