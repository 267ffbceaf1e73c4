"""Graphs that follow from the training interactions: user-item, pruned, and co-occurrence.

Nodes of a user-item graph are the users first, then the items. Each graph depends on the data
alone, so it is built once and shared between trials (``dataset.derived``).
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional

from mgstudy.data.dataset import Dataset, as_tensor
from mgstudy.models.graph import SparseGraph, arrays_of

DEGREE_EPSILON = 1e-7
"""Added to every degree before its inverse square root in the published symmetric graphs."""


def interaction_matrix(dataset: Dataset, count_repeats: bool = False) -> Any:
    """Training interactions as a scipy CSR matrix, float64, shape ``[users, items]``.

    Args:
        dataset: Whose ``train`` split to read.
        count_repeats: Whether a pair that occurs n times is an entry n, or 1.
    """
    train = dataset.train
    matrix = sparse.csr_matrix(
        (np.ones(len(train)), (train.users, train.items)),
        shape=(dataset.user_count, dataset.item_count),
    )
    matrix.sum_duplicates()
    if not count_repeats:
        matrix.data[:] = 1.0
    return matrix


def symmetric_graph(
    dataset: Dataset, epsilon: float = DEGREE_EPSILON, count_repeats: bool = False
) -> SparseGraph:
    """The user-item graph ``D^-1/2 A D^-1/2`` without self loops (LightGCN's), symmetric.

    Computed in float64, stored in float32; the row of a node without interactions is empty.

    Args:
        dataset: Whose training interactions to read.
        epsilon: Added to every degree; 0 gives the plain inverse square root.
        count_repeats: Whether repeated interactions weigh more.
    """

    def compute() -> dict[str, NDArray[Any]]:
        block = _normalized_block(interaction_matrix(dataset, count_repeats), epsilon)
        return arrays_of(_bipartite(block), symmetric=True)

    return _cached(
        dataset, "symmetric_graph", compute, epsilon=epsilon, count_repeats=count_repeats
    )


def mean_graph(dataset: Dataset) -> SparseGraph:
    """The user-item graph with self loops and rows that sum to 1: ``D^-1 (A + I)``."""

    def compute() -> dict[str, NDArray[Any]]:
        adjacency = _bipartite(interaction_matrix(dataset))
        return _row_means(adjacency + sparse.identity(adjacency.shape[0], format="csr"))

    return _cached(dataset, "mean_graph", compute, self_loops=True)


def mean_blocks(dataset: Dataset) -> tuple[SparseGraph, SparseGraph]:
    """The mean over the items of a user's history, shape ``[users, items]``, and over the users of
    an item, shape ``[items, users]``."""

    def over_items() -> dict[str, NDArray[Any]]:
        return _row_means(interaction_matrix(dataset))

    def over_users() -> dict[str, NDArray[Any]]:
        return _row_means(interaction_matrix(dataset).T.tocsr())

    return (
        _cached(dataset, "mean_block", over_items, over="items"),
        _cached(dataset, "mean_block", over_users, over="users"),
    )


def one_sided_blocks(dataset: Dataset) -> tuple[SparseGraph, SparseGraph]:
    """Sums of item rows over a user's history, shape ``[users, items]``, and of user rows over an
    item's, shape ``[items, users]``, each over the root of how many there are."""

    def over_items() -> dict[str, NDArray[Any]]:
        return one_sided(interaction_matrix(dataset))

    def over_users() -> dict[str, NDArray[Any]]:
        return one_sided(interaction_matrix(dataset).T.tocsr())

    return (
        _cached(dataset, "one_sided", over_items, over="items"),
        _cached(dataset, "one_sided", over_users, over="users"),
    )


def one_sided(matrix: Any) -> dict[str, NDArray[Any]]:
    """A scipy matrix with each row over the root of its sum, as arrays of a ``SparseGraph``."""
    return arrays_of(sparse.diags(np.sqrt(_inverse(_row_sums(matrix)))) @ matrix)


def user_to_item_graph(
    dataset: Dataset, normalized: bool, epsilon: float = 0.0, count_repeats: bool = False
) -> SparseGraph:
    """The user-by-item block, shape ``[users, items]``: sums item rows over a user's history.

    Args:
        dataset: Whose training interactions to read.
        normalized: Whether entries are those of ``symmetric_graph``, or 1.
        epsilon: As in ``symmetric_graph``.
        count_repeats: Whether repeated interactions weigh more.
    """

    def compute() -> dict[str, NDArray[Any]]:
        block = interaction_matrix(dataset, count_repeats)
        return arrays_of(_normalized_block(block, epsilon) if normalized else block)

    return _cached(
        dataset,
        "user_to_item_graph",
        compute,
        normalized=normalized,
        epsilon=epsilon,
        count_repeats=count_repeats,
    )


class EdgePruner(nn.Module):
    """Draws user-item graphs with fewer edges, normalised with the degrees that are left.

    LayerGCN and FREEDOM prune their graph at the start of every epoch (degree-sensitive pruning:
    LayerGCN, ICDE 2023). Edges are drawn without replacement by keeping the smallest of
    exponential keys (Efraimidis & Spirakis 2006), which has no limit on the number of edges.
    """

    users: Tensor
    items: Tensor
    item_order: Tensor

    def __init__(self, dataset: Dataset) -> None:
        super().__init__()
        self.user_count, self.item_count = dataset.user_count, dataset.item_count

        def compute() -> dict[str, NDArray[Any]]:
            edges = interaction_matrix(dataset).tocoo()
            return {
                "users": edges.row.astype(np.int32),
                "items": edges.col.astype(np.int32),
                "item_order": np.argsort(edges.col, kind="stable").astype(np.int64),
            }

        arrays = dataset.derived.get("training_edges", _inputs(dataset), compute)
        for name in ("users", "items", "item_order"):
            self.register_buffer(name, as_tensor(arrays[name]), persistent=False)

    def __len__(self) -> int:
        """Distinct training pairs."""
        return len(self.users)

    def draw(self, drop_ratio: float, degree_sensitive: bool) -> SparseGraph:
        """Draw a graph that keeps ``floor(edges * (1 - drop_ratio))`` edges.

        Args:
            drop_ratio: Share of the edges to leave out, in ``[0, 1)``.
            degree_sensitive: Whether an edge is drawn with probability proportional to
                ``1 / sqrt(degree of user * degree of item)``, so that edges between popular nodes
                are the likeliest to go, or uniformly.
        """
        kept_count = int(len(self) * (1.0 - drop_ratio))
        keys = torch.empty(len(self), dtype=torch.float64, device=self.users.device)
        keys.exponential_()
        if degree_sensitive:
            keys /= self._edge_values(self.users, self.items)
        kept = torch.zeros(len(self), dtype=torch.bool, device=keys.device)
        kept[torch.topk(keys, kept_count, largest=False, sorted=False).indices] = True
        return self._graph(kept)

    def _graph(self, kept: Tensor) -> SparseGraph:
        users, items = self.users[kept], self.items[kept]
        values = self._edge_values(users, items)
        position = torch.empty_like(self.item_order)
        position[kept] = torch.arange(len(users), device=position.device)
        by_item = position[self.item_order[kept[self.item_order]]]
        degrees = torch.cat(
            [
                torch.bincount(users, minlength=self.user_count),
                torch.bincount(items, minlength=self.item_count),
            ]
        )
        return SparseGraph(
            row_offsets=functional.pad(degrees.cumsum(0), (1, 0)).int(),
            columns=torch.cat([items + self.user_count, users[by_item]]),
            values=torch.cat([values, values[by_item]]).float(),
            column_count=self.user_count + self.item_count,
            symmetric=True,
        )

    def _edge_values(self, users: Tensor, items: Tensor) -> Tensor:
        user_degrees = torch.bincount(users, minlength=self.user_count).double() + DEGREE_EPSILON
        item_degrees = torch.bincount(items, minlength=self.item_count).double() + DEGREE_EPSILON
        degrees = user_degrees[users.long()] * item_degrees[items.long()]
        return degrees.rsqrt()


def co_occurrence(dataset: Dataset, of: Literal["users", "items"], limit: int) -> Any:
    """Each user's (item's) ``limit`` nearest others by shared distinct training items (users).

    Args:
        dataset: Whose training interactions to read.
        of: Which nodes to compare.
        limit: Neighbours kept per node; a node has fewer when fewer share anything with it.

    Returns:
        scipy CSR, float32, square: how many they share, at least 1; in a row by falling count, ties
        by rising id.
    """

    def compute() -> dict[str, NDArray[Any]]:
        matrix = interaction_matrix(dataset)
        return _co_occurrence(matrix if of == "users" else matrix.T.tocsr(), limit)

    inputs = {**_inputs(dataset), "of": of, "limit": limit}
    arrays = dataset.derived.get("co_occurrence", inputs, compute)
    nodes = len(arrays["offsets"]) - 1
    return sparse.csr_matrix(
        (arrays["counts"], arrays["neighbours"], arrays["offsets"]), shape=(nodes, nodes)
    )


_PRODUCT_ENTRIES = 1 << 24
"""Entries of the co-occurrence matrix held at a time: about 300 MB."""


def _co_occurrence(matrix: Any, limit: int) -> dict[str, NDArray[Any]]:
    transposed = matrix.T.tocsr()
    # An upper bound on the entries of each row of the product, from which blocks of rows are cut.
    bound = np.cumsum(matrix @ np.asarray(transposed.sum(axis=1)).ravel())
    lengths, neighbours, counts = [], [], []
    start, rows = 0, matrix.shape[0]
    while start < rows:
        done = bound[start - 1] if start else 0.0
        stop = max(start + 1, int(np.searchsorted(bound, done + _PRODUCT_ENTRIES, side="right")))
        block = (matrix[start:stop] @ transposed).tocoo()
        others = block.col != block.row + start
        row, column, count = block.row[others], block.col[others], block.data[others]
        # One number that sorts by row, falling count and rising id, and holds all three: sorting
        # those is many times faster than sorting by three keys.
        most = int(count.max(initial=0))
        keys = (row.astype(np.int64) * (most + 1) + (most - count.astype(np.int64))) * rows + column
        keys.sort()
        length = np.bincount(row, minlength=min(stop, rows) - start)
        rank = np.arange(len(row)) - np.repeat(np.cumsum(length) - length, length)
        ranked, column = np.divmod(keys[rank < limit], rows)
        lengths.append(np.minimum(length, limit))
        neighbours.append(column)
        counts.append(most - ranked % (most + 1))
        start = stop
    return {
        "offsets": np.concatenate([[0], np.cumsum(np.concatenate(lengths))]).astype(np.int64),
        "neighbours": np.concatenate(neighbours).astype(np.int64),
        "counts": np.concatenate(counts).astype(np.float32),
    }


def _cached(dataset: Dataset, name: str, compute: Any, **settings: Any) -> SparseGraph:
    inputs = {**_inputs(dataset), **settings}
    return SparseGraph.from_arrays(dataset.derived.get(name, inputs, compute))


def _inputs(dataset: Dataset) -> dict[str, Any]:
    return {"dataset": dataset.fingerprint, "version": 1}


def _normalized_block(block: Any, epsilon: float) -> Any:
    users, items = _row_sums(block) + epsilon, _row_sums(block.T) + epsilon
    return sparse.diags(np.sqrt(_inverse(users))) @ block @ sparse.diags(np.sqrt(_inverse(items)))


def _row_means(matrix: Any) -> dict[str, NDArray[Any]]:
    return arrays_of(sparse.diags(_inverse(_row_sums(matrix))) @ matrix)


def _bipartite(block: Any) -> Any:
    return sparse.bmat([[None, block], [block.T, None]], format="csr")


def _row_sums(matrix: Any) -> NDArray[np.float64]:
    return np.asarray(matrix.sum(axis=1), dtype=np.float64).ravel()


def _inverse(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(1.0, values, out=np.zeros_like(values), where=values > 0)
