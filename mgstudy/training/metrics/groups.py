"""Groups of items and of users that a metric can be asked of, such as ``recall-tail@20``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mgstudy.config.metrics import DOMAINS, ITEM_GROUPS, ranking_metrics, split_group
from mgstudy.data.dataset import Dataset

if TYPE_CHECKING:
    from mgstudy.training.metrics.base import RankedLists

HEAD = 0.8
"""Share of the training interactions that the most popular items have together."""
_HEAVY = 0.2


def is_popular(dataset: Dataset) -> NDArray[np.bool_]:
    """Whether each item is one of the most popular, which together have 80 % of the training
    interactions, shape ``[items]``."""
    counts = dataset.train_counts
    order = np.argsort(-counts, kind="stable")
    before = counts[order].cumsum() - counts[order]
    popular = np.empty(dataset.item_count, dtype=np.bool_)
    popular[order] = before < HEAD * counts.sum()
    return popular


def is_heavy(dataset: Dataset) -> NDArray[np.bool_]:
    """Whether each user is one of the fifth with the most training interactions, shape
    ``[users]``; of equal ones those with the lower ids."""
    counts = np.bincount(dataset.train.users, minlength=dataset.user_count)
    heavy = np.zeros(dataset.user_count, dtype=np.bool_)
    heavy[np.argsort(-counts, kind="stable")[: round(_HEAVY * dataset.user_count)]] = True
    return heavy


_MEMBERS: dict[str, Callable[[Dataset], NDArray[np.bool_]]] = {
    "cold": lambda dataset: dataset.train_counts == 0,
    "tail": lambda dataset: ~is_popular(dataset) & (dataset.train_counts > 0),
    "head": is_popular,
    "complete": lambda dataset: ~dataset.incomplete,
    "incomplete": lambda dataset: dataset.incomplete,
    "light": lambda dataset: ~is_heavy(dataset),
    "heavy": is_heavy,
}


def members(dataset: Dataset, group: str) -> NDArray[np.bool_]:
    """Which items, or which users, a group has: bool, shape ``[items]`` or ``[users]``."""
    return _MEMBERS[group](dataset)


def relevant_in_group(
    dataset: Dataset, group: str, split: Literal["validation", "test"]
) -> NDArray[np.bool_]:
    """Which interactions of a split are with an item, or of a user, of a group."""
    interactions = getattr(dataset, split)
    ids = interactions.items if group in ITEM_GROUPS else interactions.users
    within: NDArray[np.bool_] = members(dataset, group)[ids]
    return within


def refusal(measure: str, dataset: Dataset) -> str | None:
    """Why a measure, of a group or of all, means nothing of a dataset; ``None`` where it does."""
    name, group = split_group(measure)
    reason = ranking_metrics.get(name).refusal(dataset)
    if reason is not None or group is None:
        return reason
    if group == DOMAINS:
        return None if dataset.domains else f"{dataset.name} has no domains"
    what = "item" if group in ITEM_GROUPS else "user"
    for split in ("validation", "test"):
        if len(getattr(dataset, split)) and not relevant_in_group(dataset, group, split).any():
            return f"no {split} interaction of {dataset.name} has a {group} {what}"
    return None


@dataclass(frozen=True)
class Group:
    """How lists look to a group of items or of users.

    Attributes:
        user_count: Users of the split.
        rows: int64: those who have something to do with the group, as positions.
        counted: bool, shape ``[items]``: the items that count as relevant; ``None`` for all.
        relevant: int64, of the length of ``rows``: relevant items that count.
    """

    user_count: int
    rows: Tensor
    counted: Tensor | None
    relevant: Tensor

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        split: Literal["validation", "test"],
        group: str,
        users: NDArray[np.int64],
        device: torch.device | str,
    ) -> Group:
        interactions = getattr(dataset, split)
        positions = np.searchsorted(users, interactions.users)
        within = relevant_in_group(dataset, group, split)
        counts = np.bincount(positions[within], minlength=len(users))
        rows = np.flatnonzero(counts)
        counted = torch.from_numpy(members(dataset, group)).to(device)
        return cls(
            len(users),
            torch.from_numpy(rows).to(device),
            counted if group in ITEM_GROUPS else None,
            torch.from_numpy(counts[rows]).to(device),
        )

    def seen(self, ranked: RankedLists) -> RankedLists:
        """The lists of the users who have something to do with the group."""
        return ranked.of_group(self.rows, self.counted, self.relevant)

    def spread(self, values: Tensor) -> Tensor:
        """Values of these users among those of all, where the others have NaN."""
        spread = values.new_full((self.user_count, values.shape[1]), torch.nan)
        return spread.index_copy_(0, self.rows, values)
