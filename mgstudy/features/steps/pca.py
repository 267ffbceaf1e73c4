"""Fewer columns of a feature table by principal components."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from mgstudy.config.parameters import ParameterSet, parameter
from mgstudy.data.encoder import FeatureStep, TableChange
from mgstudy.errors import InputError


class PrincipalComponents(FeatureStep):
    """Reduce to the first `dimensions` principal components; exact, not randomised."""

    name: ClassVar[str] = "pca"

    class Parameters(ParameterSet):
        dimensions: int = parameter(..., "columns that are left", ge=1)
        whiten: bool = parameter(False, "whether every column gets deviation 1")

    parameters: Parameters

    def fitted(self, rows: NDArray[np.float32]) -> TableChange:
        # Loaded when something is made, so that finding everything made takes no second.
        from sklearn.decomposition import PCA  # noqa: PLC0415

        count, width = rows.shape
        dimensions = self.parameters.dimensions
        if dimensions > min(count, width):
            raise InputError(
                f"a table of {count:,} × {width:,} cannot be reduced to {dimensions:,} dimensions; "
                "set fewer in the step 'pca'"
            )
        solver = "covariance_eigh" if count >= width else "full"
        pca = PCA(dimensions, whiten=self.parameters.whiten, svd_solver=solver)
        # In single precision the covariance of thousands of rows loses its small components.
        with np.errstate(invalid="ignore"):  # Rows that are all the same vary by nothing.
            pca.fit(rows.astype(np.float64))
        return lambda table: pca.transform(table.astype(np.float64)).astype(np.float32)
