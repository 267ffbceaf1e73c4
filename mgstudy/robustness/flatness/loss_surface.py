"""A loss as a function of all weights at once: its value, gradient and curvature, and of the last
the Hessian's largest eigenvalue and its trace."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor

from mgstudy.private.torch import is_differentiable_once

Loss: TypeAlias = Callable[[], Tensor]
CurvatureMethod: TypeAlias = Literal["double_backward", "finite_differences"]

_STEP = 4e-3
"""Finite-difference step over the norm of the weights: the cube root of float32's precision, which
balances the error of rounding against that of the third derivative."""


_SMALL = 24
"""Weights up to which the whole Hessian is made."""
_LANCZOS_VECTORS = 10
_MOST_RESTARTS = 30


class LossSurface:
    """The mean of some losses as a function of parameters, seen as one long vector.

    Args:
        parameters: Leaf tensors; moved in place, and put back to the bit.
        losses: Each is called often, and must give the same value at the same parameters.
    """

    def __init__(self, parameters: Sequence[Tensor], losses: Sequence[Loss]) -> None:
        self.parameters = list(parameters)
        self.losses = list(losses)
        self._curvature: CurvatureMethod | None = None

    @property
    def curvature(self) -> CurvatureMethod:
        """How Hessian-vector products are made: by differentiating the gradient, or, where an
        operation of the losses cannot be differentiated twice, by its finite differences."""
        if self._curvature is None:
            with torch.enable_grad():
                once = any(is_differentiable_once(loss()) for loss in self.losses)
            self._curvature = "finite_differences" if once else "double_backward"
        return self._curvature

    def __len__(self) -> int:
        """Number of weights."""
        return sum(parameter.numel() for parameter in self.parameters)

    @torch.no_grad()
    def weights(self) -> Tensor:
        """A copy of all weights, shape ``[weights]``."""
        return _flat(self.parameters)

    @torch.no_grad()
    def value(self) -> float:
        """The loss at the current weights."""
        return float(torch.stack([loss().detach().double() for loss in self.losses]).mean())

    def gradient(self) -> Tensor:
        """The gradient at the current weights, shape ``[weights]``."""
        total = torch.zeros_like(self.weights())
        for loss in self.losses:
            with torch.enable_grad():
                gradients = torch.autograd.grad(
                    loss(), self.parameters, allow_unused=True, materialize_grads=True
                )
            total += _flat(gradients) / len(self.losses)
        return total

    def hessian_product(self, vector: Tensor) -> Tensor:
        """The Hessian at the current weights times a vector, both of shape ``[weights]``."""
        if self.curvature == "double_backward":
            try:
                return self._twice_differentiated(vector)
            except RuntimeError as error:
                if not _cannot_be_differentiated_twice(error):
                    raise
                self._curvature = "finite_differences"
        return self._finite_difference(vector)

    @contextmanager
    def moved(self, displacement: Tensor) -> Iterator[None]:
        """Add a vector of shape ``[weights]`` to the weights inside the ``with`` block."""
        kept = [parameter.detach().clone() for parameter in self.parameters]
        try:
            with torch.no_grad():
                for parameter, move in zip(self.parameters, self.split(displacement), strict=True):
                    parameter.add_(move)
            yield
        finally:
            with torch.no_grad():
                for parameter, value in zip(self.parameters, kept, strict=True):
                    parameter.copy_(value)

    def value_at(self, displacement: Tensor) -> float:
        """The loss at the weights plus a vector."""
        with self.moved(displacement):
            return self.value()

    def split(self, vector: Tensor) -> list[Tensor]:
        """A vector of shape ``[weights]`` cut into the parameters' shapes."""
        pieces = torch.split(vector, [parameter.numel() for parameter in self.parameters])
        return [
            piece.view_as(parameter)
            for piece, parameter in zip(pieces, self.parameters, strict=True)
        ]

    def _twice_differentiated(self, vector: Tensor) -> Tensor:
        total = torch.zeros_like(vector)
        pieces = self.split(vector)
        for loss in self.losses:
            with torch.enable_grad():
                gradients = torch.autograd.grad(
                    loss(),
                    self.parameters,
                    create_graph=True,
                    allow_unused=True,
                    materialize_grads=True,
                )
                along = torch.stack(
                    [(g * v).sum() for g, v in zip(gradients, pieces, strict=True)]
                ).sum()
            if along.requires_grad:
                products = torch.autograd.grad(
                    along, self.parameters, allow_unused=True, materialize_grads=True
                )
                total += _flat(products) / len(self.losses)
        return total

    def _finite_difference(self, vector: Tensor) -> Tensor:
        length = float(torch.linalg.vector_norm(vector))
        if length == 0:
            return torch.zeros_like(vector)
        step = _STEP * max(float(torch.linalg.vector_norm(self.weights())), _STEP)
        direction = vector * (step / length)
        with self.moved(direction):
            ahead = self.gradient()
        with self.moved(-direction):
            behind = self.gradient()
        return (ahead - behind) * (length / (2 * step))


def row_normalised_direction(parameters: Sequence[Tensor], generator: torch.Generator) -> Tensor:
    """A random direction whose every row is as long as the parameter's (filter normalisation).

    Gaussian, then scaled (Li et al., NeurIPS 2018, with a row of a table or of a map in place of a
    filter), so that a direction means the same for models whose weights differ in scale. A
    parameter without rows (a bias, a number) counts as one row.

    Returns:
        Shape ``[weights]``, on the parameters' device.
    """
    pieces = []
    for parameter in parameters:
        shape = (len(parameter), -1) if parameter.dim() > 1 else (1, -1)
        rows = parameter.detach().reshape(shape)
        # Drawn on the CPU: the same on every device.
        noise = torch.randn(rows.shape, generator=generator).to(rows)
        lengths = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
        noise_lengths = torch.linalg.vector_norm(noise, dim=1, keepdim=True)
        pieces.append((noise * (lengths / noise_lengths.clamp_min(1e-20))).reshape(-1))
    return torch.cat(pieces)


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


def _cannot_be_differentiated_twice(error: RuntimeError) -> bool:
    """Whether torch says that an operation of its own has no second derivative."""
    said = str(error)
    return "derivative for" in said and "not implemented" in said


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
