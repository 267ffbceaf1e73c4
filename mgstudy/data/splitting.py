"""Which of a user's interactions are held out, and how many."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from mgstudy.config.parameters import ParameterSet, parameter
from mgstudy.data.interactions import TEST, TRAIN, VALIDATION

SMALL_HISTORY = 10
"""A user with fewer interactions has one in validation and one in test, whatever the ratios."""


def _add_to_one(ratios: tuple[float, float, float]) -> tuple[float, float, float]:
    if min(ratios) <= 0 or abs(sum(ratios) - 1) > 1e-9:
        raise ValueError(f"ratios must be positive and add to 1, got {list(ratios)}")
    return ratios


Ratios = Annotated[tuple[float, float, float], Field(strict=False), AfterValidator(_add_to_one)]
"""Shares of training, validation and test."""


class RatioParameters(ParameterSet):
    """What every split by ratio can be told."""

    ratios: Ratios = parameter((0.8, 0.1, 0.1), "shares of training, validation and test")

    def text(self) -> str:
        """The ratios as people write them, such as 8:1:1."""
        return ":".join(f"{10 * ratio:g}" for ratio in self.ratios)


def split_per_user(
    users: NDArray[np.int64],
    generator: np.random.Generator,
    held_out_first: NDArray[np.bool_] | None = None,
    ratios: tuple[float, float, float] = (0.8, 0.1, 0.1),
) -> NDArray[np.int8]:
    """Split each user's interactions at random.

    Of a user's n interactions, one each goes to validation and test when n < 10; otherwise
    ``h = floor(0.2 n)`` are held out, ``floor(h / 2)`` of them for validation, the rest for test
    (the split of the published Amazon datasets, here with its 8:1:1). A user with one or two keeps
    all for training.

    Args:
        users: User of each interaction, shape ``[interactions]``, in any order.
        generator: Source of randomness.
        held_out_first: Interactions to hold out before any other of the same user.
        ratios: Shares of training, validation and test.

    Returns:
        The position of each interaction's split in ``SPLITS``, int8.
    """
    held_out_sizes, validation_sizes = held_out_by_ratio(np.bincount(users), ratios)
    priority = generator.random(len(users))
    if held_out_first is not None:
        priority -= held_out_first
    held_out = rank_within_user(users, priority) < held_out_sizes[users]

    splits = np.full(len(users), TRAIN, dtype=np.int8)
    # Drawn anew, so that what was held out first is as likely in validation as in test.
    rank = rank_within_user(users[held_out], generator.random(int(held_out.sum())))
    validation = rank < validation_sizes[users[held_out]]
    splits[held_out] = np.where(validation, VALIDATION, TEST)
    return splits


def split_by_time(
    users: NDArray[np.int64],
    times: NDArray[np.int64],
    ratios: tuple[float, float, float] = (0.8, 0.1, 0.1),
) -> NDArray[np.int8]:
    """Hold out as many of each user's interactions as ``split_per_user`` does: the latest, and of
    these the last for test. Those of one user at the same time are taken by row.

    Args:
        users: User of each interaction, shape ``[interactions]``, in any order.
        times: Of each interaction.
        ratios: Shares of training, validation and test.

    Returns:
        The position of each interaction's split in ``SPLITS``, int8.
    """
    held_out, validation = held_out_by_ratio(np.bincount(users), ratios)
    return hold_out_last(users, times, held_out, held_out - validation)


def held_out_by_ratio(
    sizes: NDArray[np.int64], ratios: tuple[float, float, float]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many of each user's interactions are held out, and how many of those for validation."""
    # Rounded, because 1 - 0.8 is a little less than a fifth and floor would see it.
    share = round(ratios[1] + ratios[2], 9)
    validation_share = ratios[1] / (ratios[1] + ratios[2])
    held_out = np.floor(np.round(share * sizes, 6)).astype(np.int64)
    validation = np.floor(np.round(validation_share * held_out, 6)).astype(np.int64)
    small = sizes < SMALL_HISTORY
    held_out[small], validation[small] = 2, 1
    held_out[sizes < 3] = validation[sizes < 3] = 0
    return held_out, validation


def hold_out_last(
    users: NDArray[np.int64],
    priority: NDArray[np.floating | np.integer],
    held_out: NDArray[np.int64],
    test: NDArray[np.int64],
) -> NDArray[np.int8]:
    """Split so that each user's interactions of the highest priority are held out, the very
    highest for test.

    Args:
        users: User of each interaction, shape ``[interactions]``.
        priority: Of each interaction; ties by row.
        held_out: How many of each user are held out, shape ``[users]``.
        test: How many of those are for test.

    Returns:
        The position of each interaction's split in ``SPLITS``, int8.
    """
    from_the_end = np.bincount(users)[users] - rank_within_user(users, priority)
    splits = np.full(len(users), TRAIN, dtype=np.int8)
    splits[from_the_end <= held_out[users]] = VALIDATION
    splits[from_the_end <= test[users]] = TEST
    return splits


def rank_within_user(
    users: NDArray[np.int64], priority: NDArray[np.floating | np.integer]
) -> NDArray[np.int64]:
    """Position of each row among its user's rows, lowest priority first, ties by row."""
    order = np.lexsort((priority, users))
    sizes = np.bincount(users)
    starts = np.cumsum(sizes) - sizes
    rank = np.empty(len(users), dtype=np.int64)
    rank[order] = np.arange(len(users)) - starts[users[order]]
    return rank
