"""Loss pieces that several models share, in numerically stable form.

Those over all pairs of two sets of rows never hold all pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from mgstudy.models.rows import unit_rows
from mgstudy.models.signals import Signal, is_watched, passed

_BLOCK_ROWS = {"cpu": 64}
"""Rows of a block by kind of device: few enough for a cache where there is one to speak of.

Measured on one core, with 64 columns: a contrast of 1,850 rows with 9,319 takes 0.14 to 0.18 s in
blocks of 32 to 256 rows, 0.30 s at once; of 512 rows with 192,403, 1.2 to 2.1 s and 1.8 s.
"""

_BLOCK_ROWS_ELSEWHERE = 4096


def bpr_loss(
    positive_scores: Tensor, negative_scores: Tensor, reduction: Literal["mean", "sum"] = "mean"
) -> Tensor:
    """Bayesian personalised ranking: ``-log sigmoid(positive - negative)`` over the rows.

    Rendle et al., UAI 2009, without its regulariser. The published ``log(1e-10 + sigmoid)``
    and naive forms have the same value; this one cannot overflow.

    Args:
        positive_scores: Shape ``[rows]``.
        negative_scores: Shape ``[rows]``.
        reduction: Mean or sum over the rows.
    """
    preferences = passed(Signal.LOGITS, positive_scores - negative_scores)
    losses = functional.softplus(-preferences)
    return losses.mean() if reduction == "mean" else losses.sum()


def ranking_loss(
    users: Tensor,
    positives: Tensor,
    negatives: Tensor,
    *,
    reduction: Literal["mean", "sum"] = "mean",
) -> Tensor:
    """The BPR loss of a batch whose scores are dot products.

    Args:
        users: Shape ``[rows, width]``, as the others.
        positives: Rows of the positive items.
        negatives: Rows of the negative items.
        reduction: Mean or sum over the rows.
    """
    return bpr_loss(dot_products(users, positives), dot_products(users, negatives), reduction)


def dot_products(left: Tensor, right: Tensor) -> Tensor:
    """Dot product of each pair of rows: ``[rows, width]`` twice gives ``[rows]``."""
    left, right = passed(Signal.REPRESENTATION, left), passed(Signal.REPRESENTATION, right)
    return (left * right).sum(dim=1)


def cosine_distance(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean over the rows of one minus their cosine similarity: half of BYOL's loss (Grill et al.,
    NeurIPS 2020).

    Args:
        prediction: Shape ``[rows, width]``.
        target: Shape ``[rows, width]``; the caller detaches it where gradients must stop.
    """
    prediction = passed(Signal.REPRESENTATION, prediction)
    target = passed(Signal.REPRESENTATION, target)
    return 1.0 - functional.cosine_similarity(prediction, target, dim=1, eps=1e-8).mean()


def info_nce(left: Tensor, right: Tensor, temperature: float, normalize: bool = True) -> Tensor:
    """Contrast each row of ``left`` with all rows of ``right``, its own being the positive.

    InfoNCE (van den Oord et al., 2018) with in-batch negatives, in one direction. Rows that
    repeat the positive's item or user count as negatives, as published.

    Args:
        left: Shape ``[rows, width]``.
        right: Shape ``[rows, width]``.
        temperature: Divides the similarities.
        normalize: Whether similarity is the cosine, or the dot product.
    """
    left, right = passed(Signal.REPRESENTATION, left), passed(Signal.REPRESENTATION, right)
    if normalize:
        left = unit_rows(left)
        right = unit_rows(right)
    # Dividing the rows spares two passes over the [rows, rows] logits.
    left = left / temperature
    if is_watched(Signal.LOGITS):
        logits = passed(Signal.LOGITS, left @ right.t())
        return functional.cross_entropy(logits, torch.arange(len(left), device=left.device))
    weights = left.new_full((len(left),), 1.0 / len(left))
    return sum_of_log_normalizers(left, right, weights) - (left * right).sum() / len(left)


def frobenius_penalty(*matrices: Tensor) -> Tensor:
    """Sum of the matrices' Frobenius norms, not squared, over the rows of the last one.

    The published regulariser of BPR, VBPR, LightGCN and LGMRec. Its gradient is much weaker than
    that of the usual squared norm, and couples the rows of a batch.
    """
    norms = torch.stack([torch.linalg.vector_norm(matrix) for matrix in matrices])
    return norms.sum() / len(matrices[-1])


def half_squared_sum(*matrices: Tensor) -> Tensor:
    """Half the sum of all squared entries, not divided by the number of rows."""
    return 0.5 * torch.stack([matrix.square().sum() for matrix in matrices]).sum()


def squared_pair_penalty(users: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
    """Mean square of a user's entries plus that of an item's, over a batch's user-item pairs.

    Each user is paired once with its positive and once with its negative. The published regulariser
    of MMGCN and GRCN.

    Args:
        users: Shape ``[rows, width]``, as the others.
        positives: Rows of the positive items.
        negatives: Rows of the negative items.
    """
    return (users.square() + 0.5 * (positives.square() + negatives.square())).mean()


def sum_over_products(
    function: Callable[..., Iterable[tuple[Tensor, Tensor]]],
    rows: Sequence[Tensor],
    everything: Sequence[Tensor],
) -> Tensor:
    """A function of the products ``rows[p] @ everything[p].t()`` that is a sum over the rows, block
    by block.

    Where a loss compares each row of a batch with every item, its intermediate results have a
    column per item. Here only one block of rows has them at a time: each block's gradients are
    computed right after its value and summed, so nothing is kept for the backward pass and nothing
    is computed twice. Differentiable once.

    The function gives its gradients itself: every elementary step of a loss over all pairs passes
    over all of them, and autograd takes twice as many as gradients that are written out.

    Args:
        function: From a block's place among the rows, and its part of each product, shape
            ``[block, candidates]``, which it may overwrite: for each product, terms of the sum over
            the block, and the gradient of the whole sum by the part.
        rows: Shape ``[rows, width]`` each.
        everything: Shape ``[candidates, width]`` each.
    """
    with_gradient = torch.is_grad_enabled()
    return _SumOverProducts.apply(function, len(rows), with_gradient, *rows, *everything)  # type: ignore[no-any-return,no-untyped-call]


def sum_of_log_normalizers(anchors: Tensor, everything: Tensor, weights: Tensor) -> Tensor:
    """``sum over r of weights[r] * log(sum over w of exp(<anchors[r], everything[w]>))``.

    What a contrastive loss costs beside its positives. Differentiable once.

    Args:
        anchors: Shape ``[rows, width]``.
        everything: Shape ``[candidates, width]``.
        weights: Shape ``[rows]``; a constant.
    """

    def of_block(span: slice, logits: Tensor) -> Iterable[tuple[Tensor, Tensor]]:
        own = weights[span, None]
        highest = logits.amax(dim=1, keepdim=True)
        sums = logits.sub_(highest).exp_().sum(dim=1, keepdim=True)
        yield (own * (sums.log() + highest)).sum(), logits.mul_(own / sums)

    return sum_over_products(of_block, [anchors], [everything])


class _SumOverProducts(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        function: Callable[..., Iterable[tuple[Tensor, Tensor]]],
        count: int,
        with_gradient: bool,
        *tensors: Tensor,
    ) -> Tensor:
        wanted = with_gradient and any(ctx.needs_input_grad[3:])
        tensors = tuple(tensor.detach() for tensor in tensors)
        rows, everything = tensors[:count], tensors[count:]
        of_rows, of_everything = (
            [torch.zeros_like(tensor) for tensor in group] for group in (rows, everything)
        )
        total = rows[0].new_zeros(())
        block_rows = _BLOCK_ROWS.get(rows[0].device.type, _BLOCK_ROWS_ELSEWHERE)
        for start in range(0, len(rows[0]), block_rows):
            span = slice(start, start + block_rows)
            products = [one[span] @ other.t() for one, other in zip(rows, everything, strict=True)]
            for position, (terms, gradient) in enumerate(function(span, *products)):
                total += terms
                if wanted:
                    torch.mm(gradient, everything[position], out=of_rows[position][span])
                    of_everything[position].addmm_(gradient.t(), rows[position][span])
        ctx.gradients = (*of_rows, *of_everything)
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return (None, None, None, *(gradient * value for value in ctx.gradients))
