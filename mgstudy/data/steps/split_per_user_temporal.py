"""Hold out each user's latest interactions."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from mgstudy.data.interactions import RawInteractions
from mgstudy.data.splitting import RatioParameters, held_out_by_ratio, hold_out_last
from mgstudy.data.steps.base import Step


class SplitPerUserTemporal(Step):
    """Split each user's interactions by time and ratio; the latest are test.

    The sizes are those of ``split_per_user_random``. Interactions of one user at the same time are
    taken in the order of the file.
    """

    name: ClassVar[str] = "split_per_user_temporal"
    splits: ClassVar[bool] = True

    class Parameters(RatioParameters):
        pass

    parameters: Parameters

    def apply(self, interactions: RawInteractions) -> RawInteractions:
        users, times = interactions.users, self.timestamps(interactions)
        held_out, validation = held_out_by_ratio(np.bincount(users), self.parameters.ratios)
        splits = hold_out_last(users, times, held_out, held_out - validation)
        return interactions.split(splits, f"split each user's by time {self.parameters.text()}")
