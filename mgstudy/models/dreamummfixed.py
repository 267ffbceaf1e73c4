"""DreamUMMFixed: DreamUMM's closed form on the features as they are."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from mgstudy.config.parameters import parameter
from mgstudy.data.dataset import Dataset
from mgstudy.models.base import UntrainedRecommender
from mgstudy.models.dreamumm import HistoryRecommender
from mgstudy.models.history_means import HistoryParameters


class DreamUMMFixed(UntrainedRecommender, HistoryRecommender):
    """DreamUMM's closed form on the dataset's own features (Lin et al., arXiv 2024), untrained.

    With unit item vectors ``x`` and weights ``w`` of what a user did, ``mu = normalize(sum of w_j
    x_j)`` is the unit vector that maximises ``sum of w_j <mu, x_j>``, and ``<mu, x_i>`` is the
    user's preference for item i. The abstract and the problem formulation say this much: users live
    in the same space as the items' multimodal embeddings, by a closed form of their history and its
    interaction strengths; one without recent behaviour is inferred from the candidate items.

    Assumed, as the public text does not say: ``w_j = r_j * recency^k`` for the ``history_length``
    latest training interactions, where k is 0 at the latest, 1 at the one before, and r is 1 or the
    rating over the largest. That all items are the candidates, predicted by their share c of the
    training interactions: ``g = sum of c_i x_i``; that ``mu`` is the direction of ``(1 -
    popular_share) m + popular_share g`` with the weighted mean m over the history, and of g without
    one. That x joins the modalities with equal weight, each a unit vector after its mean over all
    items was taken off (``centre``: what all items share would dominate every cosine). The paper's
    embeddings come from a multimodal language model, and it is evaluated online only, so there is
    no published number to compare with.

    On a dataset without times, a history is a set: all of it counts, without recency, and neither
    is searched. Under a random split the latest training item may be later than a held-out one:
    split by time.
    """

    name = "DreamUMMFixed"

    class Parameters(HistoryParameters):
        centre: bool = parameter(True, "take each modality's mean over all items off its features")

    def __init__(self, dataset: Dataset, parameters: Parameters) -> None:
        super().__init__(dataset, parameters)
        self.centre = parameters.centre

    def item_vectors(self) -> Tensor:
        joined = []
        for modality in self.features.modalities:
            rows = self.features.rows(modality)
            rows = rows - rows.mean(dim=0) if self.centre else rows
            joined.append(functional.normalize(rows, eps=1e-12))
        return functional.normalize(torch.cat(joined, dim=1), eps=1e-12)
