"""Steps on a table of features: rows or columns brought to one scale, and fewer columns."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from mgstudy.config.parameters import ParameterSet, parameter
from mgstudy.data.encoder import FeatureStep
from mgstudy.errors import InputError


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


class PrincipalComponents(FeatureStep):
    """Reduce to the first `dimensions` principal components; exact, not randomised."""

    name: ClassVar[str] = "pca"

    class Parameters(ParameterSet):
        dimensions: int = parameter(..., "columns that are left", ge=1)
        whiten: bool = parameter(False, "whether every column gets deviation 1")

    parameters: Parameters

    def apply(self, table: NDArray[np.float32]) -> NDArray[np.floating[Any]]:
        # Loaded when something is made, so that finding everything made takes no second.
        from sklearn.decomposition import PCA  # noqa: PLC0415

        rows, width = table.shape
        dimensions = self.parameters.dimensions
        if dimensions > min(rows, width):
            raise InputError(
                f"a table of {rows:,} × {width:,} cannot be reduced to {dimensions:,} dimensions; "
                "set fewer in the step 'pca'"
            )
        solver = "covariance_eigh" if rows >= width else "full"
        pca = PCA(dimensions, whiten=self.parameters.whiten, svd_solver=solver)
        # In single precision the covariance of thousands of rows loses its small components.
        reduced: NDArray[np.floating[Any]] = pca.fit_transform(table.astype(np.float64))
        return reduced.astype(np.float32)
