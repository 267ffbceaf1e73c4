"""Hold out a share of each user's interactions: drawn at random, or the latest."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from mgstudy.config.parameters import parameter
from mgstudy.data.interactions import RawInteractions
from mgstudy.data.splitting import RatioParameters, split_by_time, split_per_user
from mgstudy.data.steps.base import Step


class SplitPerUserRandom(Step):
    """Split each user's interactions at random by ratio; by default the published 8:1:1.

    A user with fewer than ten interactions has one in validation and one in test; with more, the
    held-out share is rounded down, and an odd one out goes to test. The published pipelines shuffle
    without a seed, so only their own files have their splits; here the seed is declared.
    """

    name: ClassVar[str] = "split_per_user_random"
    splits: ClassVar[bool] = True

    class Parameters(RatioParameters):
        seed: int = parameter(0, "of the draw", ge=0)

    parameters: Parameters

    def apply(self, interactions: RawInteractions) -> RawInteractions:
        generator = np.random.default_rng(self.parameters.seed)
        splits = split_per_user(interactions.users, generator, ratios=self.parameters.ratios)
        return interactions.split(splits, f"split each user's at random {self.parameters.text()}")


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
        times = self.timestamps(interactions)
        splits = split_by_time(interactions.users, times, self.parameters.ratios)
        return interactions.split(splits, f"split each user's by time {self.parameters.text()}")
