"""Give users and items ids from 0 without gaps."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mgstudy.data.interactions import RawInteractions, StepRecord
from mgstudy.data.steps.base import Step


class Reindex(Step):
    """Number the users and items that are left from 0, in order of first appearance.

    As published. What the raw data calls each of them is kept in the tables ``user_ids`` and
    ``item_ids`` of the dataset.
    """

    name: ClassVar[str] = "reindex"

    def apply(self, interactions: RawInteractions) -> RawInteractions:
        users, old_users = by_first_appearance(interactions.users)
        items, old_items = by_first_appearance(interactions.items)
        counts = {"users": len(old_users), "items": len(old_items)}
        rows, domains = len(interactions), interactions.item_domains
        record = StepRecord(name="reindex", rows_in=rows, rows_out=rows, counts=counts)
        return replace(
            interactions,
            users=users,
            items=items,
            user_count=len(old_users),
            item_count=len(old_items),
            user_keys=_taken(interactions.user_keys, old_users),
            item_keys=_taken(interactions.item_keys, old_items),
            item_domains=None if domains is None else domains[old_items],
            steps=(*interactions.steps, record),
        )


def by_first_appearance(ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """New id of each row, and old id of each new id."""
    old, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    order = np.argsort(first)
    new = np.empty(len(old), dtype=np.int64)
    new[order] = np.arange(len(old))
    return new[inverse], old[order]


def _taken(keys: pa.Array | None, old: NDArray[np.int64]) -> pa.Array:
    # Where the raw data counts from 0 itself, its ids are what it calls them.
    return pa.array(old).cast(pa.string()) if keys is None else keys.take(pa.array(old))
