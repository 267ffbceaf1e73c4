"""Item graphs that follow from the raw features: nearest neighbours by cosine similarity.

Every item is its own first neighbour and the graphs are not symmetrised, as published. They are
built from the dataset's tables, keyed by each table's fingerprint, so a changed table never meets
another table's graph; no dense items-by-items matrix is held.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor
from torch.nn import functional

from mgstudy.data.dataset import Dataset, as_tensor
from mgstudy.models.graph import SparseGraph, arrays_of

VISUAL_MODALITY = "image"
"""The modality that published models weigh apart from the others."""

_BLOCK_ENTRIES = 1 << 24
"""Entries of a block of similarities held at a time: 64 MiB."""


def block_rows(item_count: int) -> int:
    """How many rows of an items-by-items matrix to hold at a time."""
    return max(1, _BLOCK_ENTRIES // max(1, item_count))


def cosine_blocks(table: Tensor, rows: int | None = None) -> Iterator[tuple[int, Tensor]]:
    """Cosine similarities of all items, a block of rows at a time.

    An item whose features are all zero has similarity 0 to every item (the published code divides
    by zero and spreads NaN).

    Args:
        table: float32, shape ``[items, width]``.
        rows: Of a block. Few stay in a processor's cache, many read a wide table less often; by
            default as many as memory is given for.

    Yields:
        The first item of the block, and its similarities of shape ``[rows, items]``, which the
        caller may overwrite.
    """
    # Float64 norms: those of long rows lose digits in float32.
    norms = torch.linalg.vector_norm(table, dim=1, keepdim=True, dtype=torch.float64)
    directions = (table / norms.where(norms > 0, 1.0)).to(table.dtype)
    rows = rows or block_rows(len(table))
    for start in range(0, len(table), rows):
        yield start, directions[start : start + rows] @ directions.t()


def nearest_items(dataset: Dataset, modality: str, neighbour_count: int) -> Any:
    """Cosine similarity to each item's nearest items, itself included, as scipy CSR.

    An item without features (all zero) has itself as its only neighbour and is no other's.

    Args:
        dataset: Whose feature table to read.
        modality: Which table.
        neighbour_count: Entries per row; all items when there are fewer.

    Returns:
        float64, shape ``[items, items]``, similarities as values; an item's own is exactly 1.
    """

    def compute() -> dict[str, NDArray[Any]]:
        return _nearest(as_tensor(dataset.features[modality]), neighbour_count)

    inputs = {
        "features": dataset.feature_fingerprints[modality],
        "neighbour_count": neighbour_count,
        "version": 1,
    }
    return _similarities(dataset.derived.get("nearest_items", inputs, compute))


def nearest_rows(table: Tensor, neighbour_count: int) -> Any:
    """As ``nearest_items``, of the rows of a table, computed anew."""
    return _similarities(_nearest(table, neighbour_count))


def _similarities(arrays: Mapping[str, NDArray[Any]]) -> Any:
    rows = len(arrays["offsets"]) - 1
    return sparse.csr_matrix(
        (arrays["similarities"].astype(np.float64), arrays["neighbours"], arrays["offsets"]),
        shape=(rows, rows),
    )


def _nearest(table: Tensor, neighbour_count: int) -> dict[str, NDArray[Any]]:
    count = min(neighbour_count, len(table))
    empty = ~table.any(dim=1)
    similarities, neighbours = [], []
    for start, block in cosine_blocks(table):
        block[:, empty] = -torch.inf
        block[empty[start : start + len(block)]] = -torch.inf
        # Rounding must not let an identical item push an item out of its own neighbourhood.
        block.diagonal(start).fill_(torch.inf)
        values, indices = torch.topk(block, count, dim=1)
        similarities.append(values)
        neighbours.append(indices)
    values, indices = torch.cat(similarities), torch.cat(neighbours)
    kept = values > -torch.inf
    return {
        "offsets": functional.pad(kept.sum(dim=1).cumsum(0), (1, 0)).numpy(),
        "neighbours": indices[kept].int().numpy(),
        "similarities": values[kept].where(values[kept] < torch.inf, 1.0).numpy(),
    }


def normalize_by_row_sums(matrix: Any) -> Any:
    """``diag(r)^-1/2 K diag(r)^-1/2`` with the row sums r on both sides, as published, although K
    is not symmetric. A row sum that is not positive counts as an empty row."""
    sums = np.asarray(matrix.sum(axis=1), dtype=np.float64).ravel()
    positive = sums > 0
    scale = np.where(positive, 1.0 / np.sqrt(np.where(positive, sums, 1.0)), 0.0)
    return sparse.diags(scale) @ matrix @ sparse.diags(scale)


def weighted_neighbour_matrix(dataset: Dataset, modality: str, neighbour_count: int) -> Any:
    """Nearest items weighted by their similarity, normalised, as scipy CSR ``[items, items]``."""
    return normalize_by_row_sums(nearest_items(dataset, modality, neighbour_count))


def binary_neighbour_matrix(dataset: Dataset, modality: str, neighbour_count: int) -> Any:
    """The mean over an item's nearest items (every entry ``1 / neighbour_count``), scipy CSR."""
    matrix = nearest_items(dataset, modality, neighbour_count)
    matrix.data[:] = 1.0
    return normalize_by_row_sums(matrix)


def modality_weights(modalities: Sequence[str], image_weight: float) -> dict[str, float]:
    """How FREEDOM, DRAGON and PGL weigh the modalities' item graphs against each other.

    The image modality has ``image_weight`` and the others share the rest equally, which for image
    and text is the published weighting. All are equal where there is no image modality, and a
    single modality has weight 1.
    """
    others = [modality for modality in modalities if modality != VISUAL_MODALITY]
    if not others or len(others) == len(modalities):
        return dict.fromkeys(modalities, 1.0 / len(modalities))
    weights = dict.fromkeys(others, (1.0 - image_weight) / len(others))
    return {modality: weights.get(modality, image_weight) for modality in modalities}


def frozen_item_graph(dataset: Dataset, neighbour_count: int, image_weight: float) -> SparseGraph:
    """Weighted sum over the modalities of ``binary_neighbour_matrix``, shape ``[items, items]``.

    The frozen item-item graph of FREEDOM (MM 2023), used by DRAGON and PGL too. Rows sum to
    1.
    """
    total = sum(
        weight * binary_neighbour_matrix(dataset, modality, neighbour_count)
        for modality, weight in modality_weights(tuple(dataset.features), image_weight).items()
    )
    return SparseGraph.from_scipy(total)


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


def consensus_graph(dataset: Dataset, neighbour_count: int) -> SparseGraph:
    """Items joined with those of their domain that are near in several modalities.

    Of each modality's nearest items of the same domain, with cosines below 0 as 0, an edge weighs
    the sum of the cosines times the share of the modalities that have it, and the heaviest stay (of
    equal ones those with the lower ids). What noise in one modality makes near counts little.

    Args:
        dataset: Whose feature tables to read.
        neighbour_count: Edges of an item, in each modality and in the end, its own included.

    Returns:
        Shape ``[items, items]``; a row sums to 1, or to 0 for an item without features.
    """

    def compute() -> dict[str, NDArray[Any]]:
        rows, columns, values = [], [], []
        assert dataset.item_domains is not None
        for position in range(len(dataset.domains)):
            items = np.flatnonzero(dataset.item_domains == position)
            tables = [table[items] for table in dataset.features.values()]
            matrix = _consensus(tables, neighbour_count).tocoo()
            rows.append(items[matrix.row])
            columns.append(items[matrix.col])
            values.append(matrix.data)
        places = (np.concatenate(rows), np.concatenate(columns))
        shape = (dataset.item_count, dataset.item_count)
        return arrays_of(sparse.csr_matrix((np.concatenate(values), places), shape=shape))

    inputs = {
        "dataset": dataset.fingerprint,
        "features": [dataset.feature_fingerprints[modality] for modality in dataset.features],
        "neighbour_count": neighbour_count,
        "version": 1,
    }
    return SparseGraph.from_arrays(dataset.derived.get("consensus_graph", inputs, compute))


def _consensus(tables: Sequence[NDArray[np.float32]], neighbour_count: int) -> Any:
    found = []
    for table in tables:
        near = nearest_rows(as_tensor(table), neighbour_count)
        near.data[:] = near.data.clip(min=0) * np.asarray(table.any(axis=1))[near.indices]
        near.eliminate_zeros()
        found.append(near)
    total = sum(found[1:], found[0]).multiply(
        sum(((near > 0) * 1.0 for near in found[1:]), (found[0] > 0) * 1.0)
    )
    edges = total.tocoo()
    order = np.lexsort((edges.col, -edges.data, edges.row))
    starts = np.searchsorted(edges.row[order], np.arange(edges.shape[0]))
    kept = order[np.arange(len(order)) - starts[edges.row[order]] < neighbour_count]
    matrix = sparse.csr_matrix((edges.data[kept], (edges.row[kept], edges.col[kept])), edges.shape)
    sums = np.asarray(matrix.sum(axis=1)).ravel()
    return sparse.diags(1 / np.where(sums > 0, sums, 1.0)) @ matrix


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
