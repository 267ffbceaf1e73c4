"""Keep users and items with enough interactions."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from mgstudy.config.parameters import ParameterSet, parameter
from mgstudy.data.dataset import distinct_count
from mgstudy.data.interactions import RawInteractions
from mgstudy.data.steps.base import Step
from mgstudy.errors import InputError


class KCore(Step):
    """Drop users and items with too few interactions, again and again until none is left.

    As published: in every round the users and the items with too few rows are both found in the
    same snapshot, and all rows of either are dropped. The fixed point is the largest subset in
    which everyone has enough, and so does not depend on who is dropped first; the snapshot matters
    only when ``rounds`` stops early. Rows are counted, so declare ``deduplicate`` before this step
    where repeated pairs should count once.
    """

    name: ClassVar[str] = "k_core"

    class Parameters(ParameterSet):
        users: int = parameter(5, "fewest interactions of a user", ge=1)
        items: int = parameter(5, "fewest interactions of an item", ge=1)
        rounds: int | None = parameter(
            None, "stop after so many; by default at the fixed point", ge=1
        )

    parameters: Parameters

    def apply(self, interactions: RawInteractions) -> RawInteractions:
        settings = self.parameters
        kept = np.arange(len(interactions))
        rounds = 0
        while settings.rounds is None or rounds < settings.rounds:
            users, items = interactions.users[kept], interactions.items[kept]
            enough = np.bincount(users)[users] >= settings.users
            enough &= np.bincount(items)[items] >= settings.items
            if enough.all():
                break
            kept = kept[enough]
            rounds += 1
        if not len(kept):
            raise InputError(
                f"{interactions.origin}: nothing is left of {len(interactions):,} interactions: no "
                f"users with {settings.users} and items with {settings.items} among themselves; "
                "set lower numbers in the step 'k_core'"
            )
        mask = np.zeros(len(interactions), dtype=np.bool_)
        mask[kept] = True
        before = {"users": interactions.users, "items": interactions.items}
        counts = {
            "rounds": rounds,
            **{
                f"{what} dropped": distinct_count(ids) - distinct_count(ids[mask])
                for what, ids in before.items()
            },
        }
        name = f"keep users with {settings.users} and items with {settings.items} interactions"
        return interactions.kept(mask, name, counts)
