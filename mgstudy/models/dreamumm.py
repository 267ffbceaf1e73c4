"""DreamUMM: a user is the mean direction of what they did, among the items' own vectors."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from itertools import combinations
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from mgstudy.config.parameters import Value, parameter
from mgstudy.data.dataset import Dataset
from mgstudy.models.base import Batch, EmbeddingRecommender, ModalityNeed, Paper
from mgstudy.models.history_means import HistoryMeans, HistoryParameters
from mgstudy.models.layers import feature_projections
from mgstudy.models.losses import info_nce, ranking_loss
from mgstudy.models.rows import gather_rows

PAPER = Paper(
    title="Dreaming User Multimodal Representation Guided by The Platonic Representation "
    "Hypothesis for Micro-Video Recommendation",
    authors="Lin et al.",
    venue="arXiv",
    year=2024,
    url="https://arxiv.org/abs/2410.03538",
)


class HistoryRecommender(EmbeddingRecommender):
    """What both models share: the vector of a user, made of the items' vectors."""

    modality_need = ModalityNeed.ANY
    reads_order: ClassVar[bool] = True
    paper = PAPER
    popularity: Tensor

    @classmethod
    def without_effect(cls, dataset: Dataset, fixed: Mapping[str, Value]) -> Mapping[str, Value]:
        ordered = dataset.train.times is not None
        return {} if ordered else {"history_length": None, "recency": 1.0}

    def __init__(self, dataset: Dataset, parameters: HistoryParameters) -> None:
        super().__init__(dataset, parameters)
        fixed = self.without_effect(dataset, {})
        self.popular_share = parameters.popular_share
        self.means = HistoryMeans(dataset, parameters.model_copy(update=dict(fixed)))
        shares = dataset.train_counts / len(dataset.train)
        self.register_buffer("popularity", torch.from_numpy(shares).float(), persistent=False)

    @abstractmethod
    def item_vectors(self) -> Tensor:
        """A unit vector per item, shape ``[items, width]``."""

    def representations(self) -> tuple[Tensor, Tensor]:
        items = self.item_vectors()
        return self.user_vectors(items, *self.means.of_all(items)), items

    def user_vectors(self, items: Tensor, means: Tensor, empty: Tensor) -> Tensor:
        """A unit vector per user.

        Args:
            items: All items' vectors, shape ``[items, width]``.
            means: Over each user's history, shape ``[users, width]``.
            empty: Whether each has none, shape ``[users]``.
        """
        popular = (self.popularity @ items).unsqueeze(0)
        share = empty.to(items.dtype).clamp(min=self.popular_share).unsqueeze(1)
        return functional.normalize((1.0 - share) * means + share * popular, eps=1e-12)


class DreamUMM(HistoryRecommender):
    """DreamUMM with a learned item space (Lin et al., arXiv 2024).

    Users are the closed form of ``DreamUMMFixed``, whose docstring says what of it is the paper's,
    on item vectors that are trained: ``x_i = normalize(sum over modalities k of a_k x_i^k)`` with
    ``x_i^k = normalize(W_k f_ki + b_k)`` and shares a, a softmax of trained logits. Nothing belongs
    to a single user or item, so cold items are scored like others.

    The loss is *assumed*, as the paper trains a multimodal language model for its item space: BPR
    on ``(<mu, x_p> - <mu, x_n>) / temperature``, where the history behind ``mu`` is what the user
    did before the last time with the positive p, and the whole without p where there are no times;
    and ``alignment_weight`` times the contrast, in both directions, between each two modalities of
    the batch's positive items: the hypothesis of the title made a loss. Ranking takes the whole
    training history and no temperature.
    """

    name = "DreamUMM"

    class Parameters(HistoryParameters):
        embedding_size: int = parameter(64, "columns of the item vectors", ge=1)
        temperature: float = parameter(
            0.05, "divides the cosines in the loss", gt=0, space=(0.05, 0.1, 0.2)
        )
        alignment_weight: float = parameter(
            0.0,
            "weight of the contrast between the modalities of an item",
            ge=0,
            space=(0.0, 1e-3, 1e-2, 1e-1),
        )

    def __init__(self, dataset: Dataset, parameters: Parameters) -> None:
        super().__init__(dataset, parameters)
        self.temperature = parameters.temperature
        self.alignment_weight = parameters.alignment_weight
        self.modality_logits = nn.Parameter(torch.zeros(len(self.features.modalities)))
        self.projections = feature_projections(self.features, parameters.embedding_size)

    def loss(self, batch: Batch) -> Tensor:
        assert batch.negatives is not None
        views = self._views()
        items = self._fused(views)
        positives = gather_rows(items, batch.positives)
        means, empty = self.means.before(items, batch.users, batch.positives)
        users = self.user_vectors(items, means, empty) / self.temperature
        total = ranking_loss(users, positives, gather_rows(items, batch.negatives))
        if self.alignment_weight > 0:
            rows = [gather_rows(view, batch.positives) for view in views]
            for one, other in combinations(rows, 2):
                both = info_nce(one, other, self.temperature)
                both = both + info_nce(other, one, self.temperature)
                total = total + self.alignment_weight * 0.5 * both
        return total

    def item_vectors(self) -> Tensor:
        return self._fused(self._views())

    def _views(self) -> list[Tensor]:
        """Each modality's unit vectors of all items."""
        return [
            functional.normalize(projection(self.features.rows(modality)), eps=1e-12)
            for modality, projection in self.projections.items()
        ]

    def _fused(self, views: list[Tensor]) -> Tensor:
        shares = self.modality_logits.softmax(dim=0)
        fused = sum(share * view for share, view in zip(shares, views, strict=True))
        return functional.normalize(fused, eps=1e-12)
