"""Flatness by curvature: the Hessian's largest eigenvalue and its trace."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from mgstudy.robustness.flatness.loss_surface import LossSurface

_SMALL = 24
"""Weights up to which the whole Hessian is made."""
_LANCZOS_VECTORS = 10
_MOST_RESTARTS = 30


def top_eigenvalue(surface: LossSurface, tolerance: float = 1e-4, seed: int = 0) -> float:
    """The Hessian's largest eigenvalue: the sharpest curvature at the weights (Keskar et al., ICLR
    2017), by the implicitly restarted Lanczos method of ARPACK.

    Args:
        surface: The loss.
        tolerance: Relative error at which it counts as found.
        seed: Of the vector to start from.

    Returns:
        The eigenvalue; NaN if it was not found to the tolerance.
    """
    count, weights = len(surface), surface.weights()

    def product(vector: NDArray[np.float64]) -> NDArray[np.float64]:
        given = torch.from_numpy(np.ascontiguousarray(vector).ravel()).to(weights)
        return surface.hessian_product(given).double().cpu().numpy()

    if count <= _SMALL:
        matrix = np.stack([product(unit) for unit in np.eye(count)])
        return float(np.linalg.eigvalsh((matrix + matrix.T) / 2)[-1])
    # In float64, so that Lanczos vectors stay orthogonal; a product is as precise as the model.
    operator = LinearOperator((count, count), matvec=product, dtype=np.float64)
    start = np.random.default_rng(seed).standard_normal(count)
    try:
        found = eigsh(
            operator,
            k=1,
            which="LA",
            v0=start,
            ncv=_LANCZOS_VECTORS,
            maxiter=_MOST_RESTARTS,
            tol=tolerance,
            return_eigenvectors=False,
        )
    except ArpackNoConvergence:
        return math.nan
    return float(found[0])


@dataclass(frozen=True)
class Estimate:
    """A mean over random draws, and its standard error (NaN for one draw)."""

    mean: float
    standard_error: float


def trace(surface: LossSurface, probes: int, seed: int = 0) -> Estimate:
    """The Hessian's trace, the sum of its eigenvalues, by Hutchinson's estimator (1989).

    The mean of ``v · H v`` over random vectors v of ±1; exact for a diagonal Hessian.

    Args:
        surface: The loss.
        probes: How many vectors.
        seed: Of the vectors.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = surface.weights()
    values = []
    for _ in range(probes):
        signs = torch.randint(0, 2, (len(surface),), generator=generator) * 2 - 1
        vector = signs.to(weights)
        products = (vector * surface.hessian_product(vector)).double()
        values.append(float(products.sum()))
    error = float(np.std(values, ddof=1) / math.sqrt(probes)) if probes > 1 else math.nan
    return Estimate(float(np.mean(values)), error)
