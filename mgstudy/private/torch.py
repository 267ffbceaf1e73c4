"""Private parts of torch, each with the public behaviour that it stands in for."""

from __future__ import annotations

import inspect
from collections import deque

import torch
from torch import Tensor


def entry_dot_products(
    row_offsets: Tensor, columns: Tensor, entry_rows: Tensor, left: Tensor, right: Tensor
) -> Tensor:
    """``<left[r], right[c]>`` for every entry (r, c) of a sparse matrix.

    Stands in for ``torch.sparse.sampled_addmm``, which sums in another order, so that recorded
    numbers would not repeat to the bit. Many times faster than indexing both tables first, and no
    buffer of shape ``[entries, width]`` is held.

    Args:
        row_offsets: int32, shape ``[rows + 1]``: row r has the entries
            ``row_offsets[r] .. row_offsets[r + 1] - 1``.
        columns: int32, shape ``[entries]``.
        entry_rows: int32, shape ``[entries]``: the row of every entry.
        left: float32, shape ``[rows, width]``.
        right: float32, shape ``[columns, width]``.

    Returns:
        Shape ``[entries]``.
    """
    sum_mode = 0
    return torch.ops.aten._embedding_bag_per_sample_weights_backward(  # type: ignore[no-any-return]
        left.contiguous(), right.contiguous(), columns, row_offsets, entry_rows, sum_mode
    )


def is_differentiable_once(value: Tensor) -> bool:
    """Whether a custom operation that led to a value is marked ``once_differentiable``.

    Stands in for an error from ``torch.autograd.grad``: where the gradient that reaches such an
    operation is a constant, its second derivative is left out without a word, so one must look.
    """
    waiting, seen = deque([value.grad_fn]), set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        function = getattr(node, "_forward_cls", None)
        if function is not None:
            # The mark is a wrapper from torch's own module around the backward function.
            backward = inspect.getattr_static(function, "backward")
            wrapper = getattr(backward, "__func__", backward)
            if wrapper.__code__.co_filename == torch.autograd.function.__file__:
                return True
        waiting.extend(following for following, _ in node.next_functions)
    return False
