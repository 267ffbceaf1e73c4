"""Hold out a fixed number of each user's interactions."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from mgstudy.config.parameters import ParameterSet, parameter
from mgstudy.data.interactions import RawInteractions
from mgstudy.data.splitting import hold_out_last
from mgstudy.data.steps.base import Step


class SplitLeaveOut(Step):
    """Hold out `k` interactions of each user for test and `k` for validation (leave-k-out).

    A user with fewer than 2k + 1 interactions keeps all for training.
    """

    name: ClassVar[str] = "split_leave_out"
    splits: ClassVar[bool] = True

    class Parameters(ParameterSet):
        k: int = parameter(1, "interactions of a user in each of validation and test", ge=1)
        by: Literal["time", "random"] = parameter(
            "time", "hold out the latest, test after validation, or any"
        )
        seed: int = parameter(0, "of the draw, where it is random", ge=0)

    parameters: Parameters

    def apply(self, interactions: RawInteractions) -> RawInteractions:
        settings, users = self.parameters, interactions.users
        priority: NDArray[Any] = (
            self.timestamps(interactions)
            if settings.by == "time"
            else np.random.default_rng(settings.seed).random(len(users))
        )
        test = np.where(np.bincount(users) > 2 * settings.k, settings.k, 0)
        splits = hold_out_last(users, priority, 2 * test, test)
        how = "latest" if settings.by == "time" else "at random"
        return interactions.split(splits, f"leave {settings.k} of each user out, {how}")
