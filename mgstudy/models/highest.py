"""The highest values of each row of a matrix."""

from __future__ import annotations

import torch
from torch import Tensor

GROUP = 8
"""Columns in a group of which first only the highest value is looked at."""


def highest(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """As ``values.topk(count, dim=1)``, in a third of the time where ``count`` is small.

    Columns are divided into groups. Only the ``count`` groups with the highest maxima can hold any
    of the ``count`` highest values, so only their members are sorted.

    Args:
        values: Shape ``[rows, columns]``.
        count: How many of each row.

    Returns:
        Values in falling order, and their columns, each of shape ``[rows, count]``.
    """
    columns = values.shape[1]
    groups = columns // GROUP
    if groups < 2 * count:
        found = values.topk(count, dim=1)
        return found.values, found.indices
    # Column j is in group j modulo the number of groups: maxima are taken over whole rows at once.
    maxima = values[:, : groups * GROUP].unflatten(1, (GROUP, groups)).amax(dim=1)
    candidates = members(maxima.topk(count, dim=1, sorted=False).indices, groups, columns)
    best, positions = values.gather(1, candidates).topk(count, dim=1)
    return best, candidates.gather(1, positions)


def members(chosen: Tensor, groups: int, columns: int) -> Tensor:
    """Columns of the chosen groups of each row, and those at the end that are in none.

    Args:
        chosen: int64, shape ``[rows, count]``.
        groups: How many groups there are.
        columns: How many columns there are.

    Returns:
        int64, shape ``[rows, GROUP * count + columns - GROUP * groups]``.
    """
    device = chosen.device
    offsets = groups * torch.arange(GROUP, device=device)[:, None]
    rest = torch.arange(groups * GROUP, columns, device=device)
    grouped = (chosen[:, None, :] + offsets).flatten(1)
    return torch.cat([grouped, rest.expand(len(chosen), -1)], dim=1)
