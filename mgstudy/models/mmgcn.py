"""MMGCN: one graph convolution per modality, tied together by shared node embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, TypeAlias, cast

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from mgstudy.config.parameters import Choice, ParameterSet, Space, parameter
from mgstudy.data.dataset import Dataset, as_tensor
from mgstudy.models.base import Batch, EmbeddingRecommender, ModalityNeed, Paper
from mgstudy.models.graph import SparseGraph
from mgstudy.models.interaction_graphs import mean_blocks
from mgstudy.models.item_graphs import VISUAL_MODALITY
from mgstudy.models.layers import linear, xavier_normal_embedding
from mgstudy.models.losses import ranking_loss, squared_pair_penalty
from mgstudy.models.propagation import propagate
from mgstudy.models.rows import gather_rows, unit_rows
from mgstudy.models.signals import Signal, passed

IMAGE_WIDTH = 256
"""Columns that image features are mapped to; fixed in the published code."""


class MMGCN(EmbeddingRecommender):
    """Multi-modal graph convolution (Wei et al., MM 2019).

    Per modality, the features x of all nodes start as the users' preferences and the items'
    features, rows scaled to length 1: image features are mapped to 256 columns first, those of
    other modalities are used raw. A layer averages the mapped features of a node's neighbours (the
    paper's mean aggregation) and combines them with the node's own and its embedding z, which all
    modalities share (its concatenation combination)::

        h = leaky_relu(mean over neighbours y of C x_y)
        own = leaky_relu(A x + a) + z
        x' = leaky_relu(G [h, own] + g)

    A representation is the mean of the modalities' last layers; the loss is the BPR loss plus
    ``regularization`` times the mean squares of the batch's z and of the image preferences.

    The published code never trains z and the user preferences, which the paper learns; here only
    ``compatibility: published`` leaves them at their random values, where ``regularization`` shifts
    the loss and nothing else. A quirk that is kept: the regulariser covers the preferences of the
    image modality alone, and all users' at every step.
    """

    name = "MMGCN"
    paper = Paper(
        title="MMGCN: Multi-modal Graph Convolution Network for Personalized Recommendation of "
        "Micro-video",
        authors="Wei, Wang, Nie, He, Hong, Chua",
        venue="ACM Multimedia",
        year=2019,
        url="https://doi.org/10.1145/3343031.3351034",
    )
    modality_need = ModalityNeed.ANY
    optimizer_spaces: ClassVar[Mapping[str, Space]] = {
        "learning_rate": Choice(choices=(1e-4, 5e-4, 1e-3, 5e-3, 1e-2))
    }

    class Parameters(ParameterSet):
        embedding_size: int = parameter(64, "columns of the embeddings", ge=1)
        layers: int = parameter(3, "graph convolutions per modality", ge=1)
        combination: Literal["concatenation", "addition"] = parameter(
            "concatenation",
            "how a layer joins a node's neighbours with the node itself: G [h, own], or the "
            "paper's other variant G h + own, which the published code never runs",
        )
        regularization: float = parameter(
            1e-3,
            "weight of the squared embeddings of the batch and of the image preferences",
            ge=0,
            space=(0.0, 1e-5, 1e-4, 1e-3, 1e-2, 0.1),
        )
        compatibility: Literal["corrected", "published"] = parameter(
            "corrected",
            "published: node embedding and user preferences stay at their random initial values",
        )

    def __init__(self, dataset: Dataset, parameters: Parameters) -> None:
        super().__init__(dataset, parameters)
        self.regularization = parameters.regularization
        trained = parameters.compatibility == "corrected"
        self.node_embedding = xavier_normal_embedding(
            dataset.user_count + dataset.item_count, parameters.embedding_size
        ).requires_grad_(trained)
        self.mean_over_items, self.mean_over_users = mean_blocks(dataset)
        self.branches = nn.ModuleDict(
            {
                modality: _Branch(dataset, modality, self.mean_over_items, parameters, trained)
                for modality in self.features.modalities
            }
        )

    def loss(self, batch: Batch) -> Tensor:
        assert batch.negatives is not None
        batch_items = torch.cat([batch.positives, batch.negatives])
        users, items = self._propagated(batch.users, batch_items)
        loss = ranking_loss(users, *items.chunk(2))
        embeddings = gather_rows(self.node_embedding, batch.nodes(self.dataset.user_count))
        penalty = squared_pair_penalty(*embeddings.chunk(3))
        if VISUAL_MODALITY in self.branches:
            preference = cast(_Branch, self.branches[VISUAL_MODALITY]).user_preference
            penalty = penalty + preference.square().mean()
        return loss + self.regularization * penalty

    def representations(self) -> tuple[Tensor, Tensor]:
        return self._propagated()

    def _propagated(
        self, users: Tensor | None = None, items: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Representations of the given users and items, or of all."""
        outputs = [
            self._convolved(modality, cast(_Branch, branch), users, items)
            for modality, branch in self.branches.items()
        ]
        user_outputs, item_outputs = zip(*outputs, strict=True)
        return torch.stack(user_outputs).mean(dim=0), torch.stack(item_outputs).mean(dim=0)

    def _convolved(
        self, modality: str, branch: _Branch, users: Tensor | None, items: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        user_rows = unit_rows(branch.user_preference)
        known_means = None
        if self.features.constant and branch.unit_features is not None:
            item_rows, known_means = branch.unit_features, branch.mean_unit_features
        else:
            item_rows = unit_rows(branch.project(self.features.rows(modality)))
        user_embedding, item_embedding = self.split_nodes(self.node_embedding)
        for layer in branch.layers:
            history_means = propagate(self.mean_over_items, item_rows, known_means)
            known_means = None
            of_users = (user_rows, history_means, user_embedding)
            of_items = (item_rows, propagate(self.mean_over_users, user_rows), item_embedding)
            if layer is branch.layers[-1]:
                # A layer acts on each node alone, so the last one is for the wanted nodes only.
                of_users, of_items = _chosen(users, of_users), _chosen(items, of_items)
            user_rows, item_rows = layer(*of_users), layer(*of_items)
        return user_rows, item_rows


_Inputs: TypeAlias = tuple[Tensor, Tensor, Tensor]


def _chosen(rows: Tensor | None, tables: _Inputs) -> _Inputs:
    if rows is None:
        return tables
    x, neighbours, embedding = (gather_rows(table, rows) for table in tables)
    return x, neighbours, embedding


class _Branch(nn.Module):
    """What one modality has of its own.

    Raw features never change in training, so neither do their unit rows ``unit_features``, shape
    ``[items, width]``, and the mean of those over each user's history, ``mean_unit_features``,
    shape ``[users, width]``: the users' share of the first layer's aggregation. Both are ``None``
    for the image modality, whose features are mapped by trained weights.
    """

    unit_features: Tensor | None
    mean_unit_features: Tensor

    def __init__(
        self,
        dataset: Dataset,
        modality: str,
        mean_over_items: SparseGraph,
        parameters: MMGCN.Parameters,
        trained: bool,
    ) -> None:
        super().__init__()
        feature_width = dataset.features[modality].shape[1]
        is_image = modality == VISUAL_MODALITY
        width = IMAGE_WIDTH if is_image else feature_width
        self.user_preference = xavier_normal_embedding(dataset.user_count, width)
        self.user_preference.requires_grad_(trained)
        self.project = linear(feature_width, width, of_features=True) if is_image else nn.Identity()
        self.layers = nn.ModuleList(
            _Layer(
                parameters.embedding_size if index else width,
                parameters.embedding_size,
                weight="default" if index else "xavier_normal",
                concatenates=parameters.combination == "concatenation",
            )
            for index in range(parameters.layers)
        )
        constants = {} if is_image else _constants(dataset, modality, mean_over_items)
        for name in ("unit_features", "mean_unit_features"):
            constant = as_tensor(constants[name]) if name in constants else None
            self.register_buffer(name, constant, persistent=False)


def _constants(
    dataset: Dataset, modality: str, mean_over_items: SparseGraph
) -> dict[str, NDArray[Any]]:
    def compute() -> dict[str, NDArray[Any]]:
        unit = functional.normalize(as_tensor(dataset.features[modality]))
        return {
            "unit_features": unit.numpy(),
            "mean_unit_features": mean_over_items.multiply(unit).numpy(),
        }

    inputs = {
        "interactions": dataset.fingerprint,
        "features": dataset.feature_fingerprints[modality],
        "version": 1,
    }
    return dataset.derived.get("history_mean_of_unit_features", inputs, compute)


class _Layer(nn.Module):
    """One graph convolution and its combination with the node's own features.

    Args:
        inputs: Columns of the nodes' features.
        outputs: Columns of the node embedding and of the result.
        weight: Initial weight of the map that combines both.
        concatenates: Whether it combines them side by side, or by their sum.
    """

    def __init__(self, inputs: int, outputs: int, weight: str, concatenates: bool) -> None:
        super().__init__()
        self.concatenates = concatenates
        self.neighbour_map = xavier_normal_embedding(inputs, inputs)
        self.own_map = linear(inputs, outputs, weight="xavier_normal")
        self.combine = linear(inputs + outputs * concatenates, outputs, weight=weight)

    def forward(self, x: Tensor, neighbours: Tensor, embedding: Tensor) -> Tensor:
        """Features of the next layer, shape ``[nodes, outputs]``.

        Args:
            x: The nodes' features, shape ``[nodes, inputs]``.
            neighbours: Mean of their neighbours' features, shape ``[nodes, inputs]``. Averaging
                before the map is the same as after it.
            embedding: The nodes' embeddings, shape ``[nodes, outputs]``.
        """
        messages = functional.leaky_relu(neighbours @ self.neighbour_map, inplace=True)
        own = functional.leaky_relu(self.own_map(x)) + embedding
        # The map of [h, own] is applied to both parts, which spares joining them.
        width = messages.shape[1]
        weight = self.combine.weight
        combined = functional.linear(messages, weight[:, :width], self.combine.bias)
        combined = combined + (
            functional.linear(own, weight[:, width:]) if self.concatenates else own
        )
        return functional.leaky_relu(passed(Signal.HIDDEN, combined))
