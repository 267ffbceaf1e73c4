"""Bring the rows or columns of a feature table to one scale."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from mgstudy.config.parameters import ParameterSet, parameter
from mgstudy.data.encoder import FeatureStep


class Normalize(FeatureStep):
    """Scale rows to length 1, columns to mean 0 and deviation 1, or columns to 0 to 1.

    A row of zeros, and a column whose values are all the same, becomes zeros. The published
    pipelines do not normalise.
    """

    name: ClassVar[str] = "normalize"

    class Parameters(ParameterSet):
        by: Literal["row_length", "column_deviation", "column_range"] = parameter(
            "row_length", "what becomes 1"
        )

    parameters: Parameters

    def apply(self, table: NDArray[np.float32]) -> NDArray[np.floating[Any]]:
        values = table.astype(np.float64)
        if self.parameters.by == "row_length":
            scale = np.linalg.norm(values, axis=1, keepdims=True)
        elif self.parameters.by == "column_deviation":
            values -= values.mean(axis=0)
            scale = values.std(axis=0)
        else:
            values -= values.min(axis=0)
            scale = values.max(axis=0)
        normalized: NDArray[np.float64] = values / np.where(scale > 0, scale, 1)
        return normalized
