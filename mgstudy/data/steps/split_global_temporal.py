"""Hold out everything after a point in time."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from mgstudy.data.interactions import TEST, TRAIN, VALIDATION, RawInteractions
from mgstudy.data.splitting import RatioParameters
from mgstudy.data.steps.base import Step


class SplitGlobalTemporal(Step):
    """Cut at two points in time, the same for everybody: training before, validation, test after.

    The points are the quantiles of the timestamps at the cumulated ratios, as in the provisional
    split of the published pipelines; an interaction at a point belongs to what comes after it.
    """

    name: ClassVar[str] = "split_global_temporal"
    splits: ClassVar[bool] = True

    class Parameters(RatioParameters):
        pass

    parameters: Parameters

    def apply(self, interactions: RawInteractions) -> RawInteractions:
        times = self.timestamps(interactions)
        train, validation, _ = self.parameters.ratios
        cuts = np.quantile(times, [train, train + validation])
        splits = np.full(len(times), TRAIN, dtype=np.int8)
        splits[times >= cuts[0]] = VALIDATION
        splits[times >= cuts[1]] = TEST
        return interactions.split(splits, f"cut at the times {cuts[0]:.0f} and {cuts[1]:.0f}")
