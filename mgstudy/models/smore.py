"""SMORE: modalities filtered and fused as spectra, and weighed by what they have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional

from mgstudy.config.parameters import parameter
from mgstudy.data.dataset import Dataset
from mgstudy.models.base import GraphRecommender, Paper, train_features_parameter
from mgstudy.models.graph import SparseGraph, arrays_of
from mgstudy.models.item_graphs import VISUAL_MODALITY, weighted_neighbour_matrix
from mgstudy.models.layers import attention, dropout, linear
from mgstudy.models.mgcn import MultiViewRecommender
from mgstudy.models.propagation import propagate_layers
from mgstudy.models.rows import gather_rows
from mgstudy.models.signals import Signal, passed

TEMPERATURE = 0.2
"""Of the contrastive loss; fixed in the published code."""

FUSION = "all_modalities"
"""The view of all modalities together, beside each modality's own."""


class SMORE(MultiViewRecommender):
    """Spectrum-based modality representation fusion (Ong & Khong, WSDM 2025).

    Projected features x_m are transformed along their columns (F, an orthonormal real FFT), where a
    learned complex filter Φ denoises each modality, and the product of all spectra, filtered too,
    is their fusion f. As in MGCN, a gate on each of these views purifies the item embeddings E,
    which are smoothed over the view's item graph G and averaged into users by R. Gates on the
    behaviour view c, the light graph convolution of the embeddings, and attention over the columns
    of the fusion view weigh the views::

        s_m = F^-1(F x_m Φ_m),  s_f = F^-1(Π F x_m Φ_f)
        e_k = G_k^n (E ⊙ logistic(W_k s_k)),  y_k = [R e_k ; e_k]               for k in m, f
        z = mean of  logistic(V_m c) ⊙ softmax(A_m(y_f)) ⊙ y_m  and  logistic(V_f c) ⊙ y_f

    The fusion's item graph joins those of the modalities, with the larger value where several have
    an entry. Representations are c + z; the loss is the BPR loss, a squared norm, and a contrast
    between z and c (see ``MultiViewRecommender``).

    Where the paper has two modalities, any number from two on is fused alike. Quirks of the
    published code that are kept: item graphs are normalised by row sums on both sides though they
    are not symmetric, repeated interactions weigh more, the regulariser is divided by the
    configured batch size even where a batch is shorter, and a filter's imaginary parts at frequency
    0 and at the highest one of an even size act on nothing.
    """

    name = "SMORE"
    paper = Paper(
        title="Spectrum-based Modality Representation Fusion Graph Convolutional Network for "
        "Multimodal Recommendation",
        authors="Ong, Khong",
        venue="WSDM",
        year=2025,
        url="https://arxiv.org/abs/2412.14978",
    )

    class Parameters(GraphRecommender.Parameters):
        layers: int = parameter(3, "propagations over the user-item graph", ge=0, space=(3, 4))
        item_layers: int = parameter(1, "propagations over the item graphs", ge=0)
        image_neighbour_count: int = parameter(
            10,
            "neighbours of an item in the image modality's graph, itself included",
            ge=1,
            space=(10, 15, 20, 40),
        )
        other_neighbour_count: int = parameter(
            10,
            "neighbours of an item in the graphs of the other modalities, itself included",
            ge=1,
            space=(10, 15, 20, 40),
        )
        dropout: float = parameter(
            0.1,
            "share of the entries of the gates on the behaviour view set to zero",
            ge=0,
            lt=1,
            space=(0.0, 0.1),
        )
        regularization: float = parameter(
            1e-4,
            "weight of half the squared norms of the batch's representations",
            ge=0,
            space=(1e-5, 1e-4),
        )
        contrastive_weight: float = parameter(
            0.01, "weight of the contrast between the side view and the behaviour view", ge=0
        )
        train_features: bool = train_features_parameter()

    def __init__(self, dataset: Dataset, parameters: Parameters) -> None:
        super().__init__(dataset, parameters)
        size = parameters.embedding_size
        modalities = self.features.modalities
        views = (*modalities, FUSION)
        self.layers = parameters.layers
        self.item_layers = parameters.item_layers
        self.dropout = parameters.dropout
        self.regularization = parameters.regularization
        self.contrastive_weight = parameters.contrastive_weight
        self.attentions = nn.ModuleDict(
            {modality: attention(size, size) for modality in modalities}
        )
        self.purifiers = nn.ModuleDict({view: SpectralLinear(size) for view in views})
        self.preferences = nn.ModuleDict({view: linear(size, size) for view in views})
        neighbour_counts = {
            modality: parameters.image_neighbour_count
            if modality == VISUAL_MODALITY
            else parameters.other_neighbour_count
            for modality in modalities
        }
        self.item_graphs = nn.ModuleDict(
            {
                modality: SparseGraph.from_scipy(
                    weighted_neighbour_matrix(dataset, modality, count)
                )
                for modality, count in neighbour_counts.items()
            }
        )
        self.item_graphs[FUSION] = fusion_item_graph(dataset, neighbour_counts)

    def modality_views(self) -> dict[str, Tensor]:
        """Each modality's view of all nodes, and their fusion's."""
        projected = {
            modality: projection(self.features.rows(modality))
            for modality, projection in self.projections.items()
        }
        projected[FUSION] = spectral_product(list(projected.values()))
        item_views = {}
        for name, rows in projected.items():
            purified = self.item_embedding * torch.sigmoid(self.purifiers[name](rows))
            graph = cast(SparseGraph, self.item_graphs[name])
            item_views[name] = propagate_layers(graph, purified, self.item_layers)
        return self.joined(item_views)

    def side_view(self, behaviour: Tensor, views: Mapping[str, Tensor]) -> Tensor:
        parts = []
        for name, view in views.items():
            gate = torch.sigmoid(self.preferences[name](behaviour))
            part = dropout(gate, self.dropout, self.training) * view
            if name != FUSION:
                part = part * self.attentions[name](views[FUSION]).softmax(dim=1)
            parts.append(part)
        return reduce(torch.add, parts) / len(parts)


class SpectralLinear(nn.Module):
    """A filter on the spectrum of each row, and a linear map of what it lets through.

    Filtering is a circular convolution, so filter and map together are one linear map, whose weight
    is that of the map times a circulant matrix; nothing as long as the rows is transformed.

    Args:
        size: Columns in and out.

    Attributes:
        response: The filter, shape ``[size // 2 + 1, 2]``: real and imaginary part of the factor of
            each frequency.
        map: What follows it.
    """

    shifts: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.map = linear(size, size)
        self.response = nn.Parameter(torch.randn(size // 2 + 1, 2))
        positions = torch.arange(size)
        shifts = (positions[:, None] - positions) % size
        self.register_buffer("shifts", shifts.flatten(), persistent=False)

    def forward(self, rows: Tensor) -> Tensor:
        """Rows of shape ``[n, size]`` to rows of the same shape."""
        size = self.map.in_features
        kernel = torch.fft.irfft(torch.view_as_complex(self.response), n=size)
        circulant = gather_rows(kernel[:, None], self.shifts).view(size, size)
        weight = self.map.weight @ circulant
        return passed(Signal.HIDDEN, functional.linear(rows, weight, self.map.bias))


def spectral_product(tables: Sequence[Tensor]) -> Tensor:
    """Multiply the orthonormal spectra of several tables row by row, and transform back.

    Args:
        tables: Each of shape ``[rows, size]``.

    Returns:
        Shape ``[rows, size]``.
    """
    spectra = [torch.fft.rfft(table, dim=1, norm="ortho") for table in tables]
    size = tables[0].shape[1]
    product: Tensor = torch.fft.irfft(reduce(torch.mul, spectra), n=size, dim=1, norm="ortho")
    return product


def fusion_item_graph(dataset: Dataset, neighbour_counts: Mapping[str, int]) -> SparseGraph:
    """The union of the modalities' weighted item graphs, the largest value where they overlap.

    Args:
        dataset: Whose feature tables to read.
        neighbour_counts: Neighbours per item in each modality's graph.
    """

    def compute() -> dict[str, NDArray[Any]]:
        matrices = [
            weighted_neighbour_matrix(dataset, modality, count).tocoo()
            for modality, count in neighbour_counts.items()
        ]
        rows, columns, values = (
            np.concatenate([getattr(matrix, name) for matrix in matrices])
            for name in ("row", "col", "data")
        )
        order = np.lexsort((columns, rows))
        rows, columns, values = rows[order], columns[order], values[order]
        is_new = np.append(True, (rows[1:] != rows[:-1]) | (columns[1:] != columns[:-1]))
        starts = np.flatnonzero(is_new)
        largest = np.maximum.reduceat(values, starts)
        return arrays_of(
            sparse.csr_matrix(
                (largest, (rows[starts], columns[starts])),
                shape=(dataset.item_count, dataset.item_count),
            )
        )

    inputs = {
        "features": {name: dataset.feature_fingerprints[name] for name in neighbour_counts},
        "neighbour_counts": dict(neighbour_counts),
        "version": 1,
    }
    return SparseGraph.from_arrays(dataset.derived.get("fusion_item_graph", inputs, compute))
