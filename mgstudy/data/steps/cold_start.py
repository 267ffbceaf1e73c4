"""What becomes of held-out interactions of users and items that training never sees."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from mgstudy.config.parameters import ParameterSet, parameter
from mgstudy.data.interactions import TRAIN, RawInteractions
from mgstudy.data.steps.base import Step


class ColdStart(Step):
    """Drop or keep held-out interactions of users, and of items, without training interactions.

    As published: those of such users are dropped, because nothing could be learnt about them; those
    of such items stay. They still count as users and items. A pipeline that does not declare this
    step has it at its end, with its defaults.
    """

    name: ClassVar[str] = "cold_start"

    class Parameters(ParameterSet):
        users: Literal["drop", "keep"] = parameter("drop", "users without training interactions")
        items: Literal["drop", "keep"] = parameter("keep", "items without training interactions")

    parameters: Parameters

    def apply(self, interactions: RawInteractions) -> RawInteractions:
        warm_users = _trained(interactions, interactions.users, interactions.user_count)
        warm_items = _trained(interactions, interactions.items, interactions.item_count)
        counts = {
            "interactions of cold users": int((~warm_users).sum()),
            "interactions of cold items": int((~warm_items).sum()),
        }
        drops = [
            (self.parameters.users, "users", warm_users),
            (self.parameters.items, "items", warm_items),
        ]
        dropped = [name for choice, name, _ in drops if choice == "drop"]
        mask = np.ones(len(interactions), dtype=np.bool_)
        for choice, _, warm in drops:
            if choice == "drop":
                mask &= warm
        if not dropped:
            return interactions.kept(mask, "keep cold users and items", counts)
        what = " and ".join(dropped)
        name = f"drop held-out interactions of {what} without training interactions"
        return interactions.kept(mask, name, counts)


def _trained(
    interactions: RawInteractions, ids: NDArray[np.int64], count: int
) -> NDArray[np.bool_]:
    """Whether each interaction's user, or item, has a training interaction."""
    trained = np.zeros(count, dtype=np.bool_)
    trained[ids[interactions.splits == TRAIN]] = True
    return trained[ids]
