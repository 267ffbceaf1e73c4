"""The private doors of torch are still open: each fails here by name when a release closes it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mgstudy.private.torch import entry_dot_products, is_differentiable_once


def test_embedding_bag_per_sample_weights_backward_gives_the_dot_products_of_entries() -> None:
    left, right = torch.randn(3, 4), torch.randn(5, 4)
    entry_rows, columns = (torch.tensor(ids, dtype=torch.int32) for ids in ([0, 0, 2], [1, 4, 0]))
    offsets = torch.tensor([0, 2, 2, 3], dtype=torch.int32)
    found = entry_dot_products(offsets, columns, entry_rows, left, right)
    torch.testing.assert_close(found, (left @ right.t())[entry_rows.long(), columns.long()])


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 2.0 * ctx.saved_tensors[0] * gradient


class SquareOnce(Square):
    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return Square.backward(ctx, gradient)


def test_forward_cls_tells_an_operation_that_is_differentiable_once() -> None:
    x = torch.ones(2, requires_grad=True)
    assert is_differentiable_once(SquareOnce.apply(3.0 * x).sum().exp())
    assert not is_differentiable_once(Square.apply(3.0 * x).sum().exp())
    assert not is_differentiable_once(torch.ones(2))
