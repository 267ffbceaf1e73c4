"""Interactions on their way from a source to a dataset, and what was done to them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from mgstudy.data.dataset import distinct, distinct_count

SPLITS = ("train", "validation", "test")
"""Names of the splits; a split's code is its position."""
TRAIN, VALIDATION, TEST = range(len(SPLITS))
UNSPLIT = -1
"""The code of an interaction that no split step has placed yet."""


class StepRecord(BaseModel):
    """What one step did to the interactions.

    Attributes:
        name: What was done.
        rows_in: Interactions before.
        rows_out: Interactions after.
        counts: What else the step counted, such as users that went with their interactions.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    rows_in: int
    rows_out: int
    counts: dict[str, int] = {}


class Counts(BaseModel):
    """How large a dataset is.

    Attributes:
        users: Users over all splits.
        items: Items over all splits.
        train: Interactions to learn from.
        validation: Interactions that select.
        test: Interactions that are scored on at the end.
        items_without_training: Items that no training interaction names (cold items).
        sparsity: Share of all user-item pairs without an interaction.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    users: int
    items: int
    train: int
    validation: int
    test: int
    items_without_training: int
    sparsity: float


@dataclass(frozen=True)
class RawInteractions:
    """Interactions as a source gives them, with what was done to them so far.

    Attributes:
        users: int64, shape ``[interactions]``, ids from 0.
        items: int64, shape ``[interactions]``, ids from 0.
        splits: int8, shape ``[interactions]``: the position of the split in ``SPLITS``, or
            ``UNSPLIT``.
        user_count: Users, counted before anything was dropped, or at the last reindexing.
        item_count: Items, counted in the same way.
        origin: Where they come from, for messages.
        steps: What was done, in order; the first is the reading itself.
        ratings: float64, shape ``[interactions]``, where the raw data has them.
        timestamps: int64, shape ``[interactions]``, seconds since 1970, where there are some.
        user_keys: What the raw data calls each user, strings, length ``user_count``; ``None`` where
            it counts them from 0 itself.
        item_keys: What the raw data calls each item.
        domains: The names of the domains; empty where all items are of one kind.
        item_domains: Each item's domain as a position in ``domains``, int8, length ``item_count``.
    """

    users: NDArray[np.int64]
    items: NDArray[np.int64]
    splits: NDArray[np.int8]
    user_count: int
    item_count: int
    origin: str
    steps: tuple[StepRecord, ...] = ()
    ratings: NDArray[np.float64] | None = None
    timestamps: NDArray[np.int64] | None = None
    user_keys: pa.Array | None = field(default=None, compare=False)
    item_keys: pa.Array | None = field(default=None, compare=False)
    domains: tuple[str, ...] = ()
    item_domains: NDArray[np.int8] | None = field(default=None, compare=False)

    def __len__(self) -> int:
        return len(self.users)

    def kept(
        self, mask: NDArray[np.bool_], step: str, counts: dict[str, int] | None = None
    ) -> RawInteractions:
        """Those where ``mask`` is true, and a record of the ``step`` that kept them."""
        record = StepRecord(
            name=step, rows_in=len(self), rows_out=int(mask.sum()), counts=counts or {}
        )
        return replace(
            self,
            users=self.users[mask],
            items=self.items[mask],
            splits=self.splits[mask],
            ratings=None if self.ratings is None else self.ratings[mask],
            timestamps=None if self.timestamps is None else self.timestamps[mask],
            steps=(*self.steps, record),
        )

    def split(self, splits: NDArray[np.int8], step: str) -> RawInteractions:
        """The same interactions in these splits, and a record of the ``step`` that placed them."""
        sizes = np.bincount(splits, minlength=len(SPLITS))
        counts = {name: int(size) for name, size in zip(SPLITS, sizes, strict=True)}
        record = StepRecord(name=step, rows_in=len(self), rows_out=len(self), counts=counts)
        return replace(self, splits=splits, steps=(*self.steps, record))

    def counts(self) -> Counts:
        """Count them."""
        by_split = np.bincount(self.splits, minlength=len(SPLITS))
        trained_items = distinct_count(self.items[self.splits == TRAIN])
        distinct_pairs = len(distinct(self.users * self.item_count + self.items))
        return Counts(
            users=self.user_count,
            items=self.item_count,
            train=int(by_split[TRAIN]),
            validation=int(by_split[VALIDATION]),
            test=int(by_split[TEST]),
            items_without_training=self.item_count - trained_items,
            sparsity=1 - distinct_pairs / max(1, self.user_count * self.item_count),
        )
