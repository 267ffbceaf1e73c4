"""MVGAE: variational graph auto-encoders per modality, fused as a product of experts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mgstudy.config.parameters import Choice, ParameterSet, Space, parameter
from mgstudy.data.dataset import Dataset
from mgstudy.models.base import Batch, EmbeddingRecommender, ModalityNeed, Paper
from mgstudy.models.graph import SparseGraph
from mgstudy.models.interaction_graphs import mean_graph
from mgstudy.models.layers import dropout, linear, xavier_normal_embedding
from mgstudy.models.losses import bpr_loss, dot_products
from mgstudy.models.propagation import propagate
from mgstudy.models.rows import gather_rows, unit_rows

INPUT_SIZE = 128
"""Columns of the preferences and of the mapped features; fixed in the published code."""

MAXIMAL_LOG_VARIANCE = 10.0
"""Where log-variances are cut off in sampling and in the divergence."""


class MVGAE(EmbeddingRecommender):
    """Multi-modal variational graph auto-encoder (Yi & Chen, TMM 2021).

    Every modality, and a trained collaborative table of the items, has an encoder: a graph
    convolution of user preferences and mapped features, over each node and its neighbours, with a
    head for the mean and one for the log-variance of the node's Gaussian. Their product of experts
    is the fused Gaussian, whose mean ranks. For the fused one and for that of each encoder, the
    loss has the divergence from the standard Gaussian, a mean over the nodes times ``kl_weight``,
    and a reconstruction: with z a sample, the BPR loss in bits, summed over the batch, of z_u z_p
    against the largest z_u z_n over all the batch's negatives, which may hold an item of the user.

    Faults of the published code that are corrected here: it reads the rows of users in place of
    items in the reconstruction (``compatibility: published`` does too); it never trains preferences
    and collaborative table (neither does ``published``); it ranks with dropout; and it takes the
    sigmoid of z and of both scores before that of the BPR loss, which leaves a gradient of about
    1e-7 at 64 columns, so that the divergence alone trains it (``reconstruction:
    nested_sigmoids``). Where it has two modalities, this takes any number of them.
    """

    name = "MVGAE"
    paper = Paper(
        title="Multi-Modal Variational Graph Auto-Encoder for Recommendation Systems",
        authors="Yi, Chen",
        venue="IEEE Transactions on Multimedia",
        year=2021,
        url="https://doi.org/10.1109/TMM.2021.3111487",
    )
    modality_need = ModalityNeed.ANY
    optimizer_spaces: ClassVar[Mapping[str, Space]] = {
        "learning_rate": Choice(choices=(1e-4, 1e-3, 1e-2, 0.1))
    }

    class Parameters(ParameterSet):
        embedding_size: int = parameter(64, "columns of the Gaussians", ge=1)
        dropout: float = parameter(0.1, "share of a convolution's entries set to zero", ge=0, lt=1)
        sampling_noise: float = parameter(
            0.1, "factor of the standard deviation when a sample is drawn in training", ge=0
        )
        kl_weight: float = parameter(
            0.1, "weight of the divergence from the standard Gaussian", ge=0, space=(0.01, 0.1, 1.0)
        )
        reconstruction: Literal["dot_product", "nested_sigmoids"] | None = parameter(
            None,
            "score that is reconstructed and ranked by: of samples and means as they are, or of "
            "their sigmoids, as published; by default the latter where compatibility is published",
        )
        compatibility: Literal["corrected", "published"] = parameter(
            "corrected",
            "published: the reconstruction reads user rows in place of items, and preferences and "
            "collaborative table stay at their random initial values",
        )

    def __init__(self, dataset: Dataset, parameters: Parameters) -> None:
        super().__init__(dataset, parameters)
        size = parameters.embedding_size
        published = parameters.compatibility == "published"
        self.sampling_noise = parameters.sampling_noise
        self.kl_weight = parameters.kl_weight
        self.first_item = 0 if published else dataset.user_count
        by_default = "nested_sigmoids" if published else "dot_product"
        self.squashes = (parameters.reconstruction or by_default) == "nested_sigmoids"
        self.graph = mean_graph(dataset)
        self.collaborative_features = xavier_normal_embedding(dataset.item_count, size)

        def encoder(width: int) -> _Encoder:
            return _Encoder(dataset.user_count, width, size, parameters.dropout)

        self.encoders = nn.ModuleDict(
            {
                modality: encoder(self.features.width(modality))
                for modality in self.features.modalities
            }
        )
        self.collaborative_encoder = encoder(size)
        if published:
            self.collaborative_features.requires_grad_(False)
            for one in (*self.encoders.values(), self.collaborative_encoder):
                one.user_preference.requires_grad_(False)

    def loss(self, batch: Batch) -> Tensor:
        assert batch.negatives is not None
        nodes = torch.cat(
            [batch.users, self.first_item + batch.positives, self.first_item + batch.negatives]
        )
        # A node has one sample, however often it is in the batch.
        distinct, positions = torch.unique(nodes, return_inverse=True)
        encoded = self._encoded()
        return torch.stack(
            [
                self._reconstruction_loss(self._sample(gaussian, distinct), positions)
                + self.kl_weight * _divergence(gaussian)
                for gaussian in (_product_of_experts(encoded), *encoded)
            ]
        ).sum()

    def representations(self) -> tuple[Tensor, Tensor]:
        return self.split_nodes(self._squashed(_product_of_experts(self._encoded()).mean))

    def _encoded(self) -> list[Gaussian]:
        """The Gaussians of all nodes, of each modality and last the collaborative one."""
        gaussians = [
            encoder(self.graph, self.features.rows(modality))
            for modality, encoder in self.encoders.items()
        ]
        return [*gaussians, self.collaborative_encoder(self.graph, self.collaborative_features)]

    def _sample(self, gaussian: Gaussian, nodes: Tensor) -> Tensor:
        mean = gather_rows(gaussian.mean, nodes)
        if not self.training or self.sampling_noise == 0:
            return mean
        log_variance = gather_rows(gaussian.log_variance, nodes)
        deviation = (0.5 * log_variance.clamp(max=MAXIMAL_LOG_VARIANCE)).exp()
        return mean + self.sampling_noise * torch.randn_like(mean) * deviation

    def _reconstruction_loss(self, samples: Tensor, positions: Tensor) -> Tensor:
        rows = gather_rows(self._squashed(samples), positions)
        users, positives, negatives = rows.chunk(3)
        with torch.no_grad():
            hardest = (users @ negatives.t()).argmax(dim=1)
        positive_scores = dot_products(users, positives)
        negative_scores = dot_products(users, gather_rows(negatives, hardest))
        loss = bpr_loss(self._squashed(positive_scores), self._squashed(negative_scores), "sum")
        return loss / math.log(2)

    def _squashed(self, values: Tensor) -> Tensor:
        return values.sigmoid() if self.squashes else values


class Gaussian(NamedTuple):
    """Mean and log-variance of every node, each of shape ``[nodes, size]``."""

    mean: Tensor
    log_variance: Tensor


def _product_of_experts(experts: list[Gaussian]) -> Gaussian:
    """The product of the Gaussians, two at a time in order, as published."""
    fused, *others = experts
    for expert in others:
        precisions = [(one.log_variance.exp() + 1e-8).reciprocal() for one in (fused, expert)]
        total = precisions[0] + precisions[1]
        mean = (fused.mean * precisions[0] + expert.mean * precisions[1]) / total
        fused = Gaussian(mean, -total.log())
    return fused


def _divergence(gaussian: Gaussian) -> Tensor:
    """Kullback-Leibler divergence from the standard Gaussian, as the mean over the nodes."""
    log_variance = gaussian.log_variance.clamp(max=MAXIMAL_LOG_VARIANCE)
    total = gaussian.mean.square().sum() + (log_variance.expm1() - log_variance).sum()
    return 0.5 * total / len(log_variance)


class _Encoder(nn.Module):
    """From an item table to the Gaussians of all nodes.

    Args:
        user_count: Users.
        width: Columns of the item table.
        size: Columns of the Gaussians.
        dropout_rate: Of the convolutions.
    """

    def __init__(self, user_count: int, width: int, size: int, dropout_rate: float) -> None:
        super().__init__()
        self.user_preference = xavier_normal_embedding(user_count, INPUT_SIZE)
        self.input_map = linear(width, INPUT_SIZE, weight="xavier_normal", of_features=True)
        self.convolution = _Convolution(INPUT_SIZE, size, dropout_rate)
        self.hidden_map = linear(size, size, weight="xavier_normal")
        self.mean_head = _Head(size, dropout_rate)
        self.log_variance_head = _Head(size, dropout_rate)

    def forward(self, graph: SparseGraph, items: Tensor) -> Gaussian:
        x = unit_rows(torch.cat([self.user_preference, self.input_map(items)]))
        # The map comes first where it makes fewer columns to propagate, and last where two share
        # what was propagated.
        convolved = self.convolution(propagate(graph, x @ self.convolution.weight))
        x = functional.leaky_relu(self.hidden_map(functional.leaky_relu(convolved)))
        neighbourhoods = propagate(graph, x)
        return Gaussian(
            self.mean_head(x, neighbourhoods), self.log_variance_head(x, neighbourhoods)
        )


class _Head(nn.Module):
    """One moment of the Gaussians."""

    def __init__(self, size: int, dropout_rate: float) -> None:
        super().__init__()
        self.convolution = _Convolution(size, size, dropout_rate)
        self.convolved_map = linear(size, size, weight="xavier_normal")
        self.own_map = linear(size, size, weight="xavier_normal")

    def forward(self, x: Tensor, neighbourhoods: Tensor) -> Tensor:
        convolved = self.convolution(neighbourhoods @ self.convolution.weight)
        own = functional.leaky_relu(self.own_map(x))
        return own + cast(Tensor, self.convolved_map(functional.leaky_relu(convolved)))


class _Convolution(nn.Module):
    """The weights of a graph convolution, and what follows its product with graph and weight."""

    def __init__(self, inputs: int, outputs: int, dropout_rate: float) -> None:
        super().__init__()
        self.dropout_rate = dropout_rate
        self.weight = xavier_normal_embedding(inputs, outputs)
        bound = 1 / math.sqrt(inputs)
        self.bias = nn.Parameter(torch.empty(outputs).uniform_(-bound, bound))

    def forward(self, product: Tensor) -> Tensor:
        unit = unit_rows(product + self.bias)
        return dropout(unit, self.dropout_rate, self.training)
