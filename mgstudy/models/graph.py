"""Sparse graphs on a model's device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mgstudy.data.dataset import as_tensor
from mgstudy.models.rows import weighted_sums
from mgstudy.private import torch as private_torch


class SparseGraph(nn.Module):
    """A sparse matrix in compressed sparse row form: row = target node, column = source node.

    A submodule of the model that uses it, so that it moves with the model to another device. It is
    not part of a checkpoint: it follows from the data.

    Args:
        row_offsets: int32, shape ``[rows + 1]``: row r has the entries
            ``row_offsets[r] .. row_offsets[r + 1] - 1``.
        columns: int32, shape ``[entries]``.
        values: float32, shape ``[entries]``.
        column_count: Columns of the matrix.
        symmetric: Whether the matrix equals its transpose, which then need not be stored.
        transpose: ``row_offsets``, ``columns`` and ``values`` of the transpose where they are
            already known; computed otherwise.
    """

    row_offsets: Tensor
    columns: Tensor
    values: Tensor
    _entry_rows: Tensor | None
    _transpose_order: Tensor | None

    def __init__(
        self,
        row_offsets: Tensor,
        columns: Tensor,
        values: Tensor,
        column_count: int,
        symmetric: bool = False,
        transpose: tuple[Tensor, Tensor, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.shape = (len(row_offsets) - 1, column_count)
        self.symmetric = symmetric
        self.register_buffer("row_offsets", row_offsets, persistent=False)
        self.register_buffer("columns", columns, persistent=False)
        self.register_buffer("values", values, persistent=False)
        self.register_buffer("_entry_rows", None, persistent=False)
        self.register_buffer("_transpose_order", None, persistent=False)
        if not symmetric:
            if transpose is None:
                offsets, sources = self._transposed_structure()
                transpose = (offsets, sources, values[self.transpose_order])
            for name, tensor in zip(_TRANSPOSE_NAMES, transpose, strict=True):
                self.register_buffer(name, tensor, persistent=False)

    @classmethod
    def from_scipy(cls, matrix: Any, symmetric: bool = False) -> SparseGraph:
        """Convert a scipy sparse matrix; values become float32."""
        return cls.from_arrays(arrays_of(matrix, symmetric))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> SparseGraph:
        """Wrap what ``arrays_of`` made, which may be read-only and shared, without a copy."""
        tensors = {name: as_tensor(array) for name, array in arrays.items() if name != "shape"}
        transpose = tuple(tensors[name] for name in _TRANSPOSE_NAMES if name in tensors)
        return cls(
            tensors["row_offsets"],
            tensors["columns"],
            tensors["values"],
            column_count=int(arrays["shape"][1]),
            symmetric=not transpose,
            transpose=cast("tuple[Tensor, Tensor, Tensor]", transpose) if transpose else None,
        )

    def __len__(self) -> int:
        """Number of stored entries."""
        return len(self.columns)

    @property
    def entry_rows(self) -> Tensor:
        """Row of every entry, int32, shape ``[entries]``."""
        if self._entry_rows is None:
            counts = self.row_offsets.diff()
            rows = torch.arange(len(counts), dtype=torch.int32, device=counts.device)
            self._entry_rows = rows.repeat_interleave(counts, output_size=len(self))
        return self._entry_rows

    @property
    def transpose_order(self) -> Tensor:
        """Which entry each entry of the transpose is, int64, shape ``[entries]``."""
        if self._transpose_order is None:
            self._transpose_order = self.columns.argsort(stable=True)
        return self._transpose_order

    @property
    def transpose_parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """``row_offsets``, ``columns`` and ``values`` of the transpose."""
        if self.symmetric:
            return self.row_offsets, self.columns, self.values
        return cast(
            "tuple[Tensor, Tensor, Tensor]", tuple(getattr(self, name) for name in _TRANSPOSE_NAMES)
        )

    def with_values(self, values: Tensor, symmetric: bool = False) -> SparseGraph:
        """The same entries with other constant values.

        Args:
            values: Shape ``[entries]``, in the order of ``columns``.
            symmetric: Whether they are equal for both directions of every edge.
        """
        transpose = None
        if not symmetric:
            offsets, sources, _ = self.transpose_parts
            transpose = (offsets, sources, values[self.transpose_order])
        return SparseGraph(
            self.row_offsets, self.columns, values, self.shape[1], symmetric, transpose
        )

    def scaled(self, factors: Tensor) -> SparseGraph:
        """The graph with every entry multiplied by a factor.

        Args:
            factors: Shape ``[entries]``, in the order of ``columns``; of a symmetric graph, equal
                for both directions of an edge.
        """
        return self.with_values(self.values * factors, self.symmetric)

    def transposed(self) -> SparseGraph:
        """The same entries with rows and columns exchanged, sharing this graph's arrays."""
        own = (self.row_offsets, self.columns, self.values)
        return SparseGraph(
            *self.transpose_parts,
            self.shape[0],
            symmetric=self.symmetric,
            transpose=None if self.symmetric else own,
        )

    def multiply(self, x: Tensor, values: Tensor | None = None) -> Tensor:
        """The product with ``x``, outside autograd; ``propagate`` is what models call.

        Args:
            x: Shape ``[columns, width]``.
            values: Used in place of the graph's own, in the order of ``columns``.
        """
        return weighted_sums(
            self.row_offsets, self.columns, x, self.values if values is None else values
        )

    def multiply_transposed(self, x: Tensor, values: Tensor | None = None) -> Tensor:
        """As ``multiply``, with the transpose; ``values`` are those of the graph itself."""
        offsets, sources, own = self.transpose_parts
        return weighted_sums(
            offsets, sources, x, own if values is None else values[self.transpose_order]
        )

    def dot_products(self, rows: Tensor, columns: Tensor) -> Tensor:
        """The dot product of both ends of every entry, outside autograd; models call
        ``entry_dot_products``."""
        return private_torch.entry_dot_products(
            self.row_offsets, self.columns, self.entry_rows, rows, columns
        )

    def _transposed_structure(self) -> tuple[Tensor, Tensor]:
        order, columns = self.transpose_order, self.columns
        numbers = torch.arange(self.shape[1] + 1, dtype=columns.dtype, device=columns.device)
        offsets = torch.searchsorted(columns[order], numbers).to(self.row_offsets.dtype)
        return offsets, self.entry_rows[order]


_TRANSPOSE_NAMES = ("transpose_row_offsets", "transpose_columns", "transpose_values")


def arrays_of(matrix: Any, symmetric: bool = False) -> dict[str, NDArray[Any]]:
    """The arrays of a scipy sparse matrix that a ``SparseGraph`` is made from, for caching."""
    matrix = matrix.tocsr().sorted_indices()  # A copy: the arrays may be shared and read-only.
    arrays = {"shape": np.array(matrix.shape, dtype=np.int64)}
    parts = [("", matrix)] if symmetric else [("", matrix), ("transpose_", matrix.T.tocsr())]
    for prefix, part in parts:
        arrays[f"{prefix}row_offsets"] = part.indptr.astype(np.int32)
        arrays[f"{prefix}columns"] = part.indices.astype(np.int32)
        arrays[f"{prefix}values"] = part.data.astype(np.float32)
    return arrays
