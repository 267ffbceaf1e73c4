"""Items that are alike in every modality: the denoised item graphs of DA-MRS."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor
from torch.nn import functional

from mgstudy.data.dataset import Dataset, as_tensor
from mgstudy.models.item_graphs import block_rows, cosine_blocks


def consistent_neighbours(dataset: Dataset, neighbour_count: int) -> list[Any]:
    """Each modality's nearest items among those that are alike in every modality.

    Two items are alike in a modality if their cosine similarity is at least the mean over all pairs
    of items. The similarities are computed in blocks of rows, so no
    items-by-items matrix is held. An item is always its own first neighbour, and the only one if it
    has no features in some modality.

    Args:
        dataset: Whose feature tables to read.
        neighbour_count: Neighbours per item, itself included; fewer where fewer are alike.

    Returns:
        For each modality a binary scipy CSR matrix, shape ``[items, items]``.
    """

    def compute() -> dict[str, NDArray[Any]]:
        tables = [as_tensor(table) for table in dataset.features.values()]
        means = [mean_cosine(table) for table in tables]
        count = min(neighbour_count, dataset.item_count)
        neighbours: list[list[Tensor]] = [[] for _ in tables]
        lengths = []
        for blocks in zip(*(cosine_blocks(table) for table in tables), strict=True):
            alike = reduce(
                torch.logical_and,
                [block >= mean for (_, block), mean in zip(blocks, means, strict=True)],
            )
            for found, (start, block) in zip(neighbours, blocks, strict=True):
                block.masked_fill_(~alike, -torch.inf)
                # Rounding must not let another item come before the item itself.
                block.diagonal(start).fill_(torch.inf)
                values, indices = torch.topk(block, count, dim=1)
                kept = values > -torch.inf
                found.append(indices[kept].int())
            lengths.append(kept.sum(dim=1))
        arrays = {
            str(position): torch.cat(found).numpy() for position, found in enumerate(neighbours)
        }
        return {"offsets": functional.pad(torch.cat(lengths).cumsum(0), (1, 0)).numpy(), **arrays}

    inputs = {
        "features": [dataset.feature_fingerprints[modality] for modality in dataset.features],
        "neighbour_count": neighbour_count,
        "version": 1,
    }
    arrays = dataset.derived.get("consistent_neighbours", inputs, compute)
    return [
        binary_matrix(arrays["offsets"], arrays[str(position)])
        for position in range(len(dataset.features))
    ]


def mean_cosine(table: Tensor) -> float:
    """Mean cosine similarity over all pairs of rows, each row with itself included.

    It is the squared length of the mean direction, so no pair has to be looked at.

    Args:
        table: float32, shape ``[items, width]``; a row of zeros has similarity 0 to every row.
    """
    total = torch.zeros(table.shape[1], dtype=torch.float64)
    for rows in torch.split(table, block_rows(table.shape[1])):
        norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True, dtype=torch.float64)
        total += (rows / norms.where(norms > 0, 1.0)).sum(dim=0)
    return float((total / len(table)).square().sum())


def binary_matrix(offsets: NDArray[Any], columns: NDArray[Any]) -> Any:
    """A square scipy CSR matrix of ones.

    Args:
        offsets: Shape ``[rows + 1]``: row r has the entries ``offsets[r] .. offsets[r + 1] - 1``.
        columns: Column of each entry.
    """
    rows = len(offsets) - 1
    return sparse.csr_matrix((np.ones(len(columns)), columns, offsets), shape=(rows, rows))
