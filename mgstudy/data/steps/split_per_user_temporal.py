"""Hold out each user's latest interactions."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from mgstudy.config.parameters import ParameterSet, parameter
from mgstudy.data.interactions import TEST, TRAIN, VALIDATION, RawInteractions
from mgstudy.data.splitting import held_out_by_ratio, rank_within_user
from mgstudy.data.steps.base import Step
from mgstudy.data.steps.ratios import PUBLISHED_RATIOS, Ratios


class SplitPerUserTemporal(Step):
    """Split each user's interactions by time and ratio; the latest are test.

    The sizes are those of ``split_per_user_random``. Interactions of one user at the same time are
    taken in the order of the file.
    """

    name: ClassVar[str] = "split_per_user_temporal"

    class Parameters(ParameterSet):
        ratios: Ratios = parameter(PUBLISHED_RATIOS, "shares of training, validation and test")

    parameters: Parameters

    def apply(self, interactions: RawInteractions) -> RawInteractions:
        users = interactions.users
        sizes = np.bincount(users)
        held_out, validation = held_out_by_ratio(sizes, self.parameters.ratios)
        rank = rank_within_user(users, self.timestamps(interactions))
        from_the_end = sizes[users] - rank
        splits = np.full(len(users), TRAIN, dtype=np.int8)
        splits[from_the_end <= held_out[users]] = VALIDATION
        splits[from_the_end <= (held_out - validation)[users]] = TEST
        ratios = ":".join(f"{10 * ratio:g}" for ratio in self.parameters.ratios)
        return interactions.split(splits, f"split each user's by time {ratios}")
