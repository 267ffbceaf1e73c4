"""Datasets of a few users and items, in which features tell what users like."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mgstudy.data.dataset import Dataset, Interactions

COLD_USERS, COLD_ITEMS = 40, 60
"""Users and items of ``dataset_with_cold_ends``; the last of each has no interactions."""
COLD_WIDTHS = {"image": 12, "text": 8, "audio": 5}
"""Its modalities and the columns of their tables."""


def small_dataset() -> Dataset:
    """60 users and 40 items in four tastes, which interactions and both modalities share; times
    tell nothing."""
    random = np.random.default_rng(7)
    tastes = random.normal(size=(4, 6))
    user_taste, item_taste = random.integers(4, size=60), random.integers(4, size=40)
    likes = np.where(user_taste[:, None] == item_taste[None, :], 0.5, 0.03)
    users, items = np.nonzero(random.random(likes.shape) < likes)
    split = random.choice(3, size=len(users), p=(0.7, 0.15, 0.15))
    # Every user is trained on, as in a prepared dataset.
    split[np.unique(users, return_index=True)[1]] = 0
    features = {
        modality: (tastes[item_taste] + random.normal(scale=0.3, size=(40, 6))).astype(np.float32)
        for modality in ("image", "text")
    }
    times = random.permutation(len(users))
    train, validation, test = (
        Interactions(users[kept], items[kept], times[kept])
        for kept in (split == part for part in range(3))
    )
    made = Dataset.from_arrays("small", 60, 40, train, validation, test, features)
    return made.with_texts({"title": [f"taste {taste}" for taste in item_taste]})


def dataset_with_cold_ends(modalities: int = 2) -> Dataset:
    """40 users and 60 items in four tastes, which the features tell; the last user and the last
    item are cold, and there is nothing to validate or test on. Every other two items are of another
    domain, for models that need two.

    Args:
        modalities: How many of ``COLD_WIDTHS`` there are; each is of another width.
    """
    random = np.random.default_rng(7)
    likes = (np.arange(COLD_USERS)[:, None] % 4) == (np.arange(COLD_ITEMS)[None, :] % 4)
    seen = random.random(likes.shape) < np.where(likes, 0.6, 0.05)
    seen[-1], seen[:, -1] = False, False
    users, items = np.nonzero(seen)
    none = Interactions(np.array([], dtype=np.int64), np.array([], dtype=np.int64))
    features = {
        modality: (
            np.eye(width, dtype=np.float32)[np.arange(COLD_ITEMS) % 4]
            + 0.2 * random.standard_normal((COLD_ITEMS, width), dtype=np.float32)
        )
        for modality, width in list(COLD_WIDTHS.items())[:modalities]
    }
    train = Interactions(users, items, random.permutation(len(users)))
    made = Dataset.from_arrays("tastes", COLD_USERS, COLD_ITEMS, train, none, none, features)
    texts = [f"taste {item % 4}" for item in range(COLD_ITEMS)]
    return with_two_domains(made.with_texts({"title": texts}))


def with_two_domains(dataset: Dataset) -> Dataset:
    """A dataset whose items are of two domains, every other two of another."""
    return replace(
        dataset,
        fingerprint=f"{dataset.fingerprint} in two domains",
        domains=("left", "right"),
        item_domains=(np.arange(dataset.item_count) // 2 % 2).astype(np.int8),
    )
