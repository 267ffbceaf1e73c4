"""Hold out a fixed number of each user's interactions."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from mgstudy.config.parameters import ParameterSet, parameter
from mgstudy.data.interactions import TEST, TRAIN, VALIDATION, RawInteractions
from mgstudy.data.splitting import rank_within_user
from mgstudy.data.steps.base import Step


class SplitLeaveOut(Step):
    """Hold out `k` interactions of each user for test and `k` for validation (leave-k-out).

    A user with fewer than 2k + 1 interactions keeps all for training.
    """

    name: ClassVar[str] = "split_leave_out"

    class Parameters(ParameterSet):
        k: int = parameter(1, "interactions of a user in each of validation and test", ge=1)
        by: Literal["time", "random"] = parameter(
            "time", "hold out the latest, test after validation, or any"
        )
        seed: int = parameter(0, "of the draw, where it is random", ge=0)

    parameters: Parameters

    def apply(self, interactions: RawInteractions) -> RawInteractions:
        settings, users = self.parameters, interactions.users
        if settings.by == "time":
            rank = rank_within_user(users, self.timestamps(interactions))
        else:
            rank = rank_within_user(users, np.random.default_rng(settings.seed).random(len(users)))
        sizes = np.bincount(users)[users]
        from_the_end = sizes - rank
        enough = sizes > 2 * settings.k
        splits = np.full(len(users), TRAIN, dtype=np.int8)
        splits[enough & (from_the_end <= 2 * settings.k)] = VALIDATION
        splits[enough & (from_the_end <= settings.k)] = TEST
        how = "latest" if settings.by == "time" else "at random"
        return interactions.split(splits, f"leave {settings.k} of each user out, {how}")
