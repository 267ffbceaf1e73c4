"""Groups of items and of users that a metric can be asked of, such as ``recall-tail@20``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mgstudy.config.metrics import ITEM_GROUPS, ranking_metrics, split_group
from mgstudy.data.dataset import Dataset

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
    what = "item" if group in ITEM_GROUPS else "user"
    for split in ("validation", "test"):
        if len(getattr(dataset, split)) and not relevant_in_group(dataset, group, split).any():
            return f"no {split} interaction of {dataset.name} has a {group} {what}"
    return None
