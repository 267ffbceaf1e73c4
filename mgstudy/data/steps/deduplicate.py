"""Keep one of several interactions that are the same."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from mgstudy.config.parameters import ParameterSet, parameter
from mgstudy.data.interactions import RawInteractions
from mgstudy.data.steps.base import Step


class Deduplicate(Step):
    """Keep one interaction of each user with each item, or of each of them at each time.

    The published Amazon pipelines take user, item and timestamp together (``by_time: true``), so
    that a pair which occurs at two times is kept twice.
    """

    name: ClassVar[str] = "deduplicate"

    class Parameters(ParameterSet):
        keep: Literal["first", "last"] = parameter(
            "first", "which to keep: by time, or by their order in the file without timestamps"
        )
        by_time: bool = parameter(False, "whether only interactions at the same time are the same")

    parameters: Parameters

    def apply(self, interactions: RawInteractions) -> RawInteractions:
        rows = np.arange(len(interactions))
        columns = [interactions.users, interactions.items]
        if self.parameters.by_time:
            columns.append(self.timestamps(interactions))
        order = rows
        if interactions.timestamps is not None:
            order = np.argsort(interactions.timestamps, kind="stable")
        if self.parameters.keep == "last":
            order = order[::-1]
        # A stable sort by the columns leaves the wanted one first in every group.
        grouped = order[np.lexsort([column[order] for column in columns])]
        first = np.ones(len(rows), dtype=np.bool_)
        first[1:] = np.any([column[grouped][1:] != column[grouped][:-1] for column in columns], 0)
        kept = np.zeros(len(rows), dtype=np.bool_)
        kept[grouped[first]] = True
        what = "user, item and time" if self.parameters.by_time else "user and item"
        return interactions.kept(kept, f"keep the {self.parameters.keep} of each {what}")
