"""SLMRec: light graph convolutions per modality, aligned by contrasting them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mgstudy.config.parameters import Choice, Fixed, ParameterSet, Space, parameter
from mgstudy.data.dataset import Dataset
from mgstudy.models.base import Batch, EmbeddingRecommender, ModalityNeed, Paper
from mgstudy.models.interaction_graphs import symmetric_graph
from mgstudy.models.item_graphs import VISUAL_MODALITY
from mgstudy.models.layers import linear, xavier_uniform_embedding
from mgstudy.models.losses import info_nce
from mgstudy.models.propagation import light_gcn_mean
from mgstudy.models.rows import gather_rows
from mgstudy.models.signals import Signal, passed

DEGREE_EPSILON = 1e-8
"""Added to every degree in this model's published graph."""


class SLMRec(EmbeddingRecommender):
    """Self-supervised learning for multimedia recommendation (Tao et al., TMM 2022), with the
    fine-and-coarse task.

    The item embedding and the map of each modality's unit-length features are convolved over the
    user-item graph, each beside the same user embedding. All views of a node, side by side, are
    mapped to its representation, by one map for users and one for items. The loss is InfoNCE on the
    cosine of users and their positive items, the batch's other items being the negatives, plus
    ``contrastive_weight`` times the self-supervised task on the items' views: that of the embedding
    is contrasted with the first modality's in a fine space, and, mapped on from there, with every
    other modality's in a coarse space of half the width. These contrasts use dot products. The
    first modality is the image, if there is one; where the published code has two modalities, any
    further ones have a head into the coarse space of their own.

    Quirks of the published code that are kept: training compares cosines whereas ranking uses dot
    products, and a repeated user or item of a batch counts as a negative of itself. The published
    scores are the sigmoid of these, whose float32 values tie at 1. Its tasks of dropping and
    masking features need audio features in a fixed place, cannot run, and are left out, as is its
    regularisation weight, which has no effect.
    """

    name = "SLMRec"
    paper = Paper(
        title="Self-supervised Learning for Multimedia Recommendation",
        authors="Tao, Liu, Xia, Wang, Yang, Huang, Chua",
        venue="IEEE Transactions on Multimedia",
        year=2022,
        url="https://doi.org/10.1109/TMM.2022.3187556",
    )
    modality_need = ModalityNeed.TWO_OR_MORE
    samples_negatives = False
    optimizer_spaces: ClassVar[Mapping[str, Space]] = {
        "learning_rate": Choice(choices=(1e-4, 1e-3, 1e-2, 0.1)),
        "weight_decay": Fixed(value=1e-4),
    }

    class Parameters(ParameterSet):
        embedding_size: int = parameter(
            64,
            "columns of the embeddings; even, for the coarse space has half",
            ge=2,
            multiple_of=2,
        )
        layers: int = parameter(3, "propagations over the user-item graph", ge=0)
        temperature: float = parameter(0.2, "of the contrast of users and items", gt=0)
        contrastive_weight: float = parameter(
            0.1, "weight of the self-supervised task", ge=0, space=(0.01, 0.05, 0.1, 0.5, 1.0)
        )
        contrastive_temperature: float = parameter(
            0.5, "of the self-supervised task", gt=0, space=(0.1, 0.2, 0.5, 1.0)
        )

    def __init__(self, dataset: Dataset, parameters: Parameters) -> None:
        super().__init__(dataset, parameters)
        size = parameters.embedding_size
        self.layers = parameters.layers
        self.temperature = parameters.temperature
        self.contrastive_weight = parameters.contrastive_weight
        self.contrastive_temperature = parameters.contrastive_temperature
        self.modalities = sorted(
            self.features.modalities, key=lambda modality: modality != VISUAL_MODALITY
        )
        self.user_embedding = xavier_uniform_embedding(dataset.user_count, size)
        self.item_embedding = xavier_uniform_embedding(dataset.item_count, size)
        self.projections = nn.ModuleDict(
            {
                modality: _xavier(self.features.width(modality), size, of_features=True)
                for modality in self.modalities
            }
        )
        views = 1 + len(self.modalities)
        self.item_fusion = _xavier(views * size, size)
        self.user_fusion = _xavier(views * size, size)
        self.embedding_head = _xavier(size, size)
        self.fine_head = _xavier(size, size)
        self.to_coarse = nn.Sequential(_xavier(size, size), _xavier(size, size // 2))
        self.coarse_heads = nn.ModuleList(_xavier(size, size // 2) for _ in self.modalities[1:])
        self.graph = symmetric_graph(dataset, epsilon=DEGREE_EPSILON)
        for modality in self.modalities:
            norms = torch.linalg.vector_norm(self.features.table(modality), dim=1, keepdim=True)
            inverse = norms.clamp(min=1e-12).reciprocal()
            self.register_buffer(f"inverse_norm_{modality}", inverse, persistent=False)

    def loss(self, batch: Batch) -> Tensor:
        user_views, item_views = self._views()
        users = self.user_fusion(gather_rows(user_views, batch.users))
        views = gather_rows(item_views, batch.positives)
        loss = info_nce(users, self.item_fusion(views), self.temperature)
        of_embedding, of_first, *of_others = views.chunk(1 + len(self.modalities), dim=1)
        fine = self.embedding_head(of_embedding)
        task = self._contrast(fine, self.fine_head(of_first))
        coarse = self.to_coarse(fine)
        for head, view in zip(self.coarse_heads, of_others, strict=True):
            task = task + self._contrast(coarse, head(view))
        return loss + self.contrastive_weight * task

    def representations(self) -> tuple[Tensor, Tensor]:
        user_views, item_views = self._views()
        return self.user_fusion(user_views), self.item_fusion(item_views)

    def _views(self) -> tuple[Tensor, Tensor]:
        """All views of the users and of the items, shape ``[.., views * size]``: first that of the
        embedding, then one per modality."""
        item_inputs = [self.item_embedding, *(self._projected(name) for name in self.modalities)]
        users = self.user_embedding.repeat(1, len(item_inputs))
        inputs = torch.cat([users, torch.cat(item_inputs, dim=1)])
        return self.split_nodes(light_gcn_mean(self.graph, inputs, self.layers))

    def _projected(self, modality: str) -> Tensor:
        rows = self.features.rows(modality)
        projection = cast(nn.Linear, self.projections[modality])
        if not self.features.constant:
            return cast(Tensor, projection(functional.normalize(rows)))
        # Scaling what the map gives spares a second table of scaled features.
        inverse_norm = self.get_buffer(f"inverse_norm_{modality}")
        scaled = functional.linear(rows, projection.weight) * inverse_norm
        projected = passed(Signal.PROJECTION, scaled + projection.bias)
        return passed(Signal.HIDDEN, projected)

    def _contrast(self, left: Tensor, right: Tensor) -> Tensor:
        return info_nce(left, right, self.contrastive_temperature, normalize=False)


def _xavier(inputs: int, outputs: int, of_features: bool = False) -> nn.Linear:
    return linear(inputs, outputs, weight="xavier_uniform", of_features=of_features)
