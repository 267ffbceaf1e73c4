"""Bring the rows or columns of a feature table to one scale."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from mgstudy.config.parameters import ParameterSet, parameter
from mgstudy.data.encoder import FeatureStep, TableChange


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

    def fitted(self, rows: NDArray[np.float32]) -> TableChange:
        if self.parameters.by == "row_length":
            return _rows_of_length_one
        values = rows.astype(np.float64)
        if self.parameters.by == "column_deviation":
            start = values.mean(axis=0)
            scale = (values - start).std(axis=0)
        else:
            start = values.min(axis=0)
            scale = (values - start).max(axis=0)
        scale = np.where(scale > 0, scale, 1)
        return lambda table: (table.astype(np.float64) - start) / scale


def _rows_of_length_one(table: NDArray[np.float32]) -> NDArray[np.float64]:
    values = table.astype(np.float64)
    length = np.linalg.norm(values, axis=1, keepdims=True)
    scaled: NDArray[np.float64] = values / np.where(length > 0, length, 1)
    return scaled
