"""Loss pieces that several models share, in numerically stable form."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from mgstudy.models.blockwise import sum_of_log_normalizers
from mgstudy.models.signals import Signal, is_watched, passed


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
        left = functional.normalize(left, eps=1e-12)
        right = functional.normalize(right, eps=1e-12)
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
