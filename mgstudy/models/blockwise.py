"""Losses over all pairs of two sets of rows, without holding all pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

_BLOCK_ROWS = {"cpu": 64}
"""Rows of a block by kind of device: few enough for a cache where there is one to speak of.

Measured on one core, with 64 columns: a contrast of 1,850 rows with 9,319 takes 0.14 to 0.18 s in
blocks of 32 to 256 rows, 0.30 s at once; of 512 rows with 192,403, 1.2 to 2.1 s and 1.8 s.
"""

_BLOCK_ROWS_ELSEWHERE = 1024


def sum_over_row_blocks(
    function: Callable[..., Tensor], rows: Sequence[Tensor], shared: Sequence[Tensor]
) -> Tensor:
    """``function(*rows, *shared)`` for a function that is a sum over the rows, block by block.

    Where a loss compares each row of a batch with every item, its intermediate results have a
    column per item. Here only one block of rows has them at a time: each block's gradients are
    computed right after its value and summed, so nothing is kept for the backward pass and nothing
    is computed twice. Differentiable once.

    Args:
        function: Gives a scalar from a block of each of ``rows`` and the whole of each of
            ``shared``. It must be deterministic.
        rows: Tensors of equal length that are cut into blocks.
        shared: Tensors that every block sees.
    """
    with_gradient = torch.is_grad_enabled()
    return _SumOverRowBlocks.apply(function, len(rows), with_gradient, *rows, *shared)  # type: ignore[no-any-return,no-untyped-call]


def sum_of_log_normalizers(anchors: Tensor, everything: Tensor, weights: Tensor) -> Tensor:
    """``sum over r of weights[r] * log(sum over w of exp(<anchors[r], everything[w]>))``.

    What a contrastive loss costs beside its positives, as ``sum_over_row_blocks`` would compute it,
    with the gradients written out: every elementary step of them passes over all pairs, and left to
    autograd takes twice as long. Differentiable once.

    Args:
        anchors: Shape ``[rows, width]``.
        everything: Shape ``[candidates, width]``.
        weights: Shape ``[rows]``; a constant.
    """
    with_gradient = torch.is_grad_enabled()
    return _SumOfLogNormalizers.apply(anchors, everything, weights, with_gradient)  # type: ignore[no-any-return,no-untyped-call]


class _SumOfLogNormalizers(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, anchors: Tensor, everything: Tensor, weights: Tensor, with_gradient: bool
    ) -> Tensor:
        wanted = with_gradient and any(ctx.needs_input_grad[:2])
        anchors, everything = anchors.detach(), everything.detach()
        transposed = everything.t()
        gradients = torch.empty_like(anchors), torch.zeros_like(everything)
        normalizers = anchors.new_empty(len(anchors), 1)
        block_rows = _BLOCK_ROWS.get(anchors.device.type, _BLOCK_ROWS_ELSEWHERE)
        for start in range(0, len(anchors), block_rows):
            span = slice(start, start + block_rows)
            rows = anchors[span]
            logits = rows @ transposed
            highest = logits.amax(dim=1, keepdim=True)
            sums = logits.sub_(highest).exp_().sum(dim=1, keepdim=True)
            normalizers[span] = sums.log() + highest
            if wanted:
                scales = weights[span, None] / sums
                torch.mm(logits, everything, out=gradients[0][span])
                gradients[0][span] *= scales
                gradients[1].addmm_(logits.t(), rows * scales)
        ctx.gradients = gradients if wanted else None
        return (weights * normalizers[:, 0]).sum()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        anchors, everything = ctx.gradients
        return gradient * anchors, gradient * everything, None, None


class _SumOverRowBlocks(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        function: Callable[..., Tensor],
        row_tensors: int,
        with_gradient: bool,
        *tensors: Tensor,
    ) -> Tensor:
        wanted = [
            position
            for position, tensor in enumerate(tensors)
            if with_gradient and ctx.needs_input_grad[position + 3]
        ]
        gradients = {position: torch.zeros_like(tensors[position]) for position in wanted}
        rows, shared = tensors[:row_tensors], tensors[row_tensors:]
        device = rows[0].device
        total = torch.zeros((), device=device)
        block_rows = _BLOCK_ROWS.get(device.type, _BLOCK_ROWS_ELSEWHERE)
        for start in range(0, len(rows[0]), block_rows):
            span = slice(start, start + block_rows)
            block = [tensor[span].detach() for tensor in rows]
            block += [tensor.detach() for tensor in shared]
            for position in wanted:
                block[position].requires_grad_()
            with torch.set_grad_enabled(bool(wanted)):
                value = function(*block)
            total += value.detach()
            if wanted:
                computed = torch.autograd.grad(value, [block[position] for position in wanted])
                for position, gradient in zip(wanted, computed, strict=True):
                    target = gradients[position]
                    (target[span] if position < row_tensors else target).add_(gradient)
        ctx.gradients = gradients
        ctx.tensor_count = len(tensors)
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        scaled = {position: gradient * value for position, value in ctx.gradients.items()}
        return (None, None, None, *(scaled.get(position) for position in range(ctx.tensor_count)))
