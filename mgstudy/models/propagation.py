"""The one place where sparse graphs multiply embeddings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias

import torch
from torch import Tensor

from mgstudy.models.graph import SparseGraph
from mgstudy.models.rows import linear_map
from mgstudy.models.signals import Signal, passed

EntryScale: TypeAlias = Callable[[SparseGraph], Tensor]
"""Gives the factor of every entry of a graph, as ``SparseGraph.scaled`` wants it."""

_active_scales: ContextVar[tuple[EntryScale, ...]] = ContextVar("_active_scales", default=())


@contextmanager
def entries_scaled(scale: EntryScale) -> Iterator[None]:
    """Multiply the entries of every graph that is propagated over inside the ``with`` block.

    The door to a model's graphs, as ``ItemFeatures`` is to its features: with factors of zero it
    drops edges. ``scale`` is asked anew for each propagation.
    """
    token = _active_scales.set((*_active_scales.get(), scale))
    try:
        yield
    finally:
        _active_scales.reset(token)


def _scaled(graph: SparseGraph) -> SparseGraph:
    for scale in _active_scales.get():
        graph = graph.scaled(scale(graph))
    return graph


def propagate(graph: SparseGraph, x: Tensor, known: Tensor | None = None) -> Tensor:
    """Multiply node rows by a constant graph: ``y[r] = sum over c of graph[r, c] * x[c]``.

    Args:
        graph: Shape ``[rows, columns]``.
        x: float32, shape ``[columns, width]``. Several inputs over one graph are cheapest side by
            side in one call.
        known: The product, where ``x`` is constant and it was computed before; it is used unless
            entries are scaled.

    Returns:
        Shape ``[rows, width]``.
    """
    scaled = _scaled(graph)
    if known is not None and scaled is graph:
        return passed(Signal.HIDDEN, known)
    return passed(Signal.HIDDEN, linear_map(x, scaled.multiply, scaled.multiply_transposed))


def propagate_layers(graph: SparseGraph, x: Tensor, layers: int) -> Tensor:
    """The last of ``layers`` propagations over a square graph; ``x`` itself for none."""
    for _ in range(layers):
        x = propagate(graph, x)
    return x


def light_gcn_mean(graph: SparseGraph, x: Tensor, layers: int) -> Tensor:
    """Mean of ``x`` and its first ``layers`` propagations (He et al., SIGIR 2020).

    Args:
        graph: Shape ``[nodes, nodes]``.
        x: float32, shape ``[nodes, width]``.
        layers: Propagations, 0 or more.
    """
    if layers == 0:
        return x

    def mean(multiply: Callable[[Tensor], Tensor], start: Tensor) -> Tensor:
        # Horner's rule: x + G(x + G(x + ...)) needs one buffer instead of one per layer.
        total = start
        for _ in range(layers):
            total = multiply(total).add_(start)
        return total.div_(layers + 1)

    graph = _scaled(graph)
    product = linear_map(
        x,
        lambda start: mean(graph.multiply, start),
        lambda start: mean(graph.multiply_transposed, start),
    )
    return passed(Signal.HIDDEN, product)


def propagate_weighted(structure: SparseGraph, weights: Tensor, x: Tensor) -> Tensor:
    """Multiply node rows by a graph whose entries are computed, such as attention weights.

    Differentiable once, in both ``weights`` and ``x``.

    Args:
        structure: Which entries there are; its own values are not used.
        weights: float32, shape ``[entries]``, in the order of ``structure.columns``.
        x: float32, shape ``[columns, width]``.
    """
    for scale in _active_scales.get():
        weights = weights * scale(structure)
    product = _bilinear_map(
        weights,
        x,
        lambda own, other: structure.multiply(other, own),
        structure.dot_products,
        structure.multiply_transposed,
    )
    return passed(Signal.HIDDEN, product)


def entry_dot_products(structure: SparseGraph, rows: Tensor, columns: Tensor) -> Tensor:
    """The dot product of both ends of every entry of a graph, such as attention scores.

    Differentiable once, in both tables; no buffer of shape ``[entries, width]`` is held.

    Args:
        structure: Which entries there are; its own values are not used.
        rows: float32, shape ``[rows, width]``: of the entries' rows.
        columns: float32, shape ``[columns, width]``: of the entries' columns.

    Returns:
        Shape ``[entries]``, in the order of ``structure.columns``.
    """
    return _bilinear_map(
        rows,
        columns,
        structure.dot_products,
        lambda gradient, other: structure.multiply(other, gradient),
        lambda gradient, other: structure.multiply_transposed(other, gradient),
    )


def segment_softmax(structure: SparseGraph, scores: Tensor) -> Tensor:
    """Softmax over the entries of each row: attention of a target over its sources.

    Args:
        structure: Which entry belongs to which row.
        scores: float32, shape ``[entries]``, in the order of ``structure.columns``.
    """
    offsets, rows = structure.row_offsets.long(), structure.entry_rows

    def totals(values: Tensor) -> Tensor:
        return torch.segment_reduce(values.contiguous(), "sum", offsets=offsets)

    def spread(values: Tensor) -> Tensor:
        return values.index_select(0, rows)

    highest = torch.segment_reduce(scores.detach(), "max", offsets=offsets)
    exponentials = (scores - spread(highest)).exp()
    return exponentials / linear_map(linear_map(exponentials, totals, spread), spread, totals)


_Product: TypeAlias = Callable[[Tensor, Tensor], Tensor]


def _bilinear_map(
    left: Tensor, right: Tensor, product: _Product, left_adjoint: _Product, right_adjoint: _Product
) -> Tensor:
    """``product(left, right)``, linear in both and differentiable once; an adjoint makes a factor's
    gradient from that of the product and the other factor."""
    return _BilinearMap.apply(left, right, product, left_adjoint, right_adjoint)  # type: ignore[no-any-return,no-untyped-call]


class _BilinearMap(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, left: Tensor, right: Tensor, product: _Product, *adjoints: _Product
    ) -> Tensor:
        ctx.adjoints = adjoints
        ctx.save_for_backward(left, right)
        return product(left.detach(), right.detach())

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        gradient = gradient.contiguous()
        gradients = [
            adjoint(gradient, other) if needed else None
            for adjoint, other, needed in zip(
                ctx.adjoints, reversed(ctx.saved_tensors), ctx.needs_input_grad[:2], strict=True
            )
        ]
        return (*gradients, None, None, None)
