"""Private parts of torch, each with the public behaviour that it stands in for."""

from __future__ import annotations

import inspect
import sys
from collections import deque
from typing import TypeVar

import torch
from torch import Tensor
from torch.optim import Optimizer

Implementation = TypeVar("Implementation", bound=Optimizer)


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


def without_compiler(implementation: type[Implementation]) -> type[Implementation]:
    """An optimizer of torch's whose steps do not import ``torch._dynamo``.

    Stands in for an import that torch could leave until something is compiled: it takes as long as
    that of torch, in every process that trains. What is left out of a step does nothing where it is
    not compiled, and the same kernels compute the same numbers; the settings ``differentiable`` and
    ``capturable`` are not for it. Where a release has other insides, it is only as slow as torch.
    """
    module = vars(sys.modules[implementation.__module__])
    for function in (*vars(Optimizer).values(), *module.values()):
        plain = getattr(function, "__wrapped__", None)
        if plain is not None:
            # Where ``torch._disable_dynamo`` keeps what it has made of a function.
            vars(plain).setdefault("__dynamo_disable", plain)
    step = torch.no_grad()(inspect.unwrap(implementation.step))
    return type(implementation.__name__, (implementation,), {"step": step})
