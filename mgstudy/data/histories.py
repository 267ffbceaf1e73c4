"""What each user did in training, in order: for models that read a user as a history of items."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mgstudy.data.dataset import Dataset


@dataclass(frozen=True)
class Histories:
    """The training interactions of all users, one user after another. What is held out is in none,
    neither when a model is validated nor when it is tested.

    The history of user u is ``items[starts[u] : starts[u + 1]]``, the oldest first: ascending by
    time, and at the same time in the order of the table. A pair that occurs several times stands
    there as often. With the place p of a pair's last occurrence (``last_places``), what the user
    did before it is ``items[starts[u] : p]``, in one slice; it may hold earlier occurrences.

    Attributes:
        starts: int64, shape ``[users + 1]``.
        items: int64, shape ``[interactions]``.
        ordered: Whether the dataset has times. Without, histories are in the order of the table,
            which says nothing of when; a model then reads each as a set.
        pairs: The different pairs as ``user * item_count + item``, int64, ascending, shape
            ``[pairs]``.
        last_places: For each of ``pairs``, where in ``items`` it occurs last, int64.
        ratings: float32, shape ``[interactions]``, of each of ``items``; ``None`` where the dataset
            has none.
    """

    starts: NDArray[np.int64]
    items: NDArray[np.int64]
    ordered: bool
    pairs: NDArray[np.int64]
    last_places: NDArray[np.int64]
    ratings: NDArray[np.float32] | None


def histories(dataset: Dataset) -> Histories:
    """The histories of a dataset's users, found once and shared by all trials.

    A study hands times and ratings only to models whose ``reads_order`` is true (see
    ``Recommender``); others have no order here.
    """
    train = dataset.train
    ordered, rated = train.times is not None, train.ratings is not None

    def compute() -> dict[str, NDArray[Any]]:
        # Both are stable: rows at the same time stay in the order of the table.
        keys = (train.users,) if train.times is None else (train.times, train.users)
        order = np.lexsort(keys)
        users, items = train.users[order], train.items[order]
        pairs = users * dataset.item_count + items
        unique, from_behind = np.unique(pairs[::-1], return_index=True)
        counts = np.bincount(users, minlength=dataset.user_count)
        found: dict[str, NDArray[Any]] = {
            "starts": np.concatenate([[0], np.cumsum(counts)]),
            "items": items,
            "pairs": unique,
            "last_places": len(pairs) - 1 - from_behind,
        }
        if train.ratings is not None:
            found["ratings"] = train.ratings[order].astype(np.float32)
        return found

    # The dataset's fingerprint covers times and ratings, but not whether they were handed on.
    inputs = {"interactions": dataset.fingerprint, "ordered": ordered, "rated": rated, "version": 1}
    arrays = dataset.derived.get("histories", inputs, compute)
    return Histories(
        starts=arrays["starts"],
        items=arrays["items"],
        ordered=ordered,
        pairs=arrays["pairs"],
        last_places=arrays["last_places"],
        ratings=arrays.get("ratings"),
    )


def users_trained_on_later(dataset: Dataset, within_domains: bool = False) -> float | None:
    """Of the users with something held out, the share who train on something later than it, as
    under a random split: their histories then tell of what is to be predicted. ``None`` without
    times.

    Args:
        dataset: The dataset.
        within_domains: Whether times are compared within each domain alone, as domains are split;
            the largest share of a domain is given.
    """
    train = dataset.train
    if train.times is None:
        return None
    if within_domains and dataset.domains:
        within = (users_trained_on_later(dataset.of_domain(name)) for name in dataset.domains)
        return max(share for share in within if share is not None)
    latest = np.full(dataset.user_count, np.iinfo(np.int64).min)
    np.maximum.at(latest, train.users, train.times)
    first = np.full(dataset.user_count, np.iinfo(np.int64).max)
    for split in (dataset.validation, dataset.test):
        assert split.times is not None
        np.minimum.at(first, split.users, split.times)
    held_out = np.unique(np.concatenate([dataset.validation.users, dataset.test.users]))
    return float((latest[held_out] > first[held_out]).mean()) if len(held_out) else 0.0
