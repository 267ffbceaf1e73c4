"""Flatness on losses whose curvature is known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mgstudy.robustness.flatness.loss_surface import (
    LossSurface,
    row_normalised_direction,
    top_eigenvalue,
    trace,
)
from mgstudy.robustness.flatness.measures import (
    gradient_norm,
    line,
    sam_sharpness,
    square,
    weight_noise_rises,
)

DIAGONAL = torch.linspace(0.1, 7.0, 60)
DIAGONAL[17] = 11.0


def diagonal_quadratic() -> LossSurface:
    """½ Σ a_i w_i² over two parameters, as the mean of two losses."""
    first = torch.linspace(-1, 1, 40).view(8, 5).requires_grad_()
    second = torch.linspace(0.5, 2, 20).requires_grad_()

    def loss() -> Tensor:
        weights = torch.cat([first.reshape(-1), second])
        return 0.5 * (DIAGONAL * weights**2).sum()

    return LossSurface([first, second], [lambda: 0.5 * loss(), lambda: 1.5 * loss()])


def dense_quadratic(dtype: torch.dtype = torch.float32) -> tuple[LossSurface, np.ndarray]:
    random = np.random.default_rng(3)
    root = random.normal(size=(50, 50)) / 7
    matrix = root @ root.T - 0.2 * np.eye(50)
    weights = torch.from_numpy(random.normal(size=50)).to(dtype).requires_grad_()
    values = torch.from_numpy(matrix).to(dtype)
    return LossSurface([weights], [lambda: 0.5 * weights @ values @ weights]), matrix


class _OnceDifferentiable(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return 0.5 * (DIAGONAL * x**2).sum()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradient * DIAGONAL * x


def test_value_gradient_and_its_norm() -> None:
    surface = diagonal_quadratic()
    weights = surface.weights()
    assert surface.value() == pytest.approx(0.5 * float((DIAGONAL * weights**2).sum()), rel=1e-6)
    torch.testing.assert_close(surface.gradient(), DIAGONAL * weights)
    expected = float((DIAGONAL * weights).norm())
    assert gradient_norm(surface) == pytest.approx(expected, rel=1e-6)


def test_eigenvalue_and_trace_of_a_diagonal_quadratic() -> None:
    surface = diagonal_quadratic()
    assert top_eigenvalue(surface, tolerance=1e-6) == pytest.approx(11.0, rel=1e-4)
    found = trace(surface, probes=2)
    assert found.mean == pytest.approx(float(DIAGONAL.sum()), rel=1e-4)
    assert found.standard_error < 1e-3
    assert surface.curvature == "double_backward"


def test_eigenvalue_and_trace_of_a_dense_quadratic() -> None:
    surface, matrix = dense_quadratic(torch.float64)
    expected = np.linalg.eigvalsh(matrix)
    assert expected[0] < 0  # A saddle: the largest, not the largest in size.
    assert top_eigenvalue(surface, tolerance=1e-6) == pytest.approx(expected[-1], rel=1e-4)
    # Averaged over all vectors of ±1 in an orthogonal set, Hutchinson's estimate is exact.
    estimate = trace(surface, probes=1000)
    assert abs(estimate.mean - np.trace(matrix)) < 4 * estimate.standard_error
    off_diagonal = matrix - np.diag(np.diag(matrix))
    deviation = math.sqrt(2 * np.square(off_diagonal).sum())
    assert estimate.standard_error == pytest.approx(deviation / math.sqrt(1000), rel=0.1)


def test_few_weights_and_a_flat_loss() -> None:
    weights = torch.tensor([1.0, -2.0], requires_grad=True)
    surface = LossSurface([weights], [lambda: 3 * weights[0] ** 2 - weights[1] ** 2])
    assert top_eigenvalue(surface) == pytest.approx(6.0)
    assert trace(surface, probes=1).mean == pytest.approx(4.0)
    flat = LossSurface([weights], [lambda: 2 * weights.sum()])
    assert top_eigenvalue(flat) == 0
    constant = LossSurface([weights], [lambda: (0 * weights).sum() + 1])
    assert sam_sharpness(constant, 0.1) == 0


def test_an_operation_without_a_second_derivative_gets_finite_differences() -> None:
    weights = torch.linspace(-1, 1, 60).requires_grad_()
    surface = LossSurface([weights], [lambda: _OnceDifferentiable.apply(weights)])
    assert top_eigenvalue(surface, tolerance=1e-6) == pytest.approx(11.0, rel=1e-4)
    assert surface.curvature == "finite_differences"
    assert trace(surface, probes=2).mean == pytest.approx(float(DIAGONAL.sum()), rel=1e-4)


def test_another_failure_is_not_taken_for_a_missing_derivative() -> None:
    weights = torch.ones(3, requires_grad=True)
    surface = LossSurface([weights], [lambda: weights @ torch.ones(4)])
    with pytest.raises(RuntimeError, match="size"):
        surface.hessian_product(torch.ones(3))


def test_sam_sharpness_is_the_rise_along_the_gradient() -> None:
    surface, matrix = dense_quadratic()
    weights = surface.weights().double().numpy()
    gradient = matrix @ weights
    move = 0.05 * np.linalg.norm(weights) * gradient / np.linalg.norm(gradient)
    expected = gradient @ move + 0.5 * move @ matrix @ move
    assert sam_sharpness(surface, 0.05) == pytest.approx(expected, rel=1e-4)


def test_weight_noise_on_a_quadratic_rises_as_its_trace_says() -> None:
    """At the minimum of ½ Σ_r a_r ||w_r − c_r||², noise of length s ||w_r|| costs
    ½ Σ a_r s² ||w_r||², whatever its direction."""
    rows = torch.linspace(0.5, 3, 30).view(6, 5)
    weights = rows.clone().requires_grad_()
    curvatures = torch.arange(1.0, 7.0)[:, None]
    surface = LossSurface([weights], [lambda: 0.5 * (curvatures * (weights - rows) ** 2).sum()])
    expected = 0.5 * 0.2**2 * float((curvatures * rows.square()).sum())
    rises = weight_noise_rises(surface, scale=0.2, draws=4, seed=1)
    assert rises == pytest.approx([expected] * 4, rel=1e-4)
    torch.testing.assert_close(surface.weights(), rows.reshape(-1), rtol=0, atol=0)


def test_a_direction_has_the_length_of_every_row_and_repeats() -> None:
    parameters = [torch.arange(12.0).view(3, 4), torch.tensor([3.0, 4.0]), torch.tensor(2.0)]
    first, again, other = (
        row_normalised_direction(parameters, torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    table = first[:12].view(3, 4)
    torch.testing.assert_close(table.norm(dim=1), parameters[0].norm(dim=1))
    assert first[12:14].norm() == pytest.approx(5.0)
    assert abs(float(first[14])) == pytest.approx(2.0)


def test_landscape_slices_of_a_quadratic() -> None:
    surface = diagonal_quadratic()
    along = line(surface, radius=0.5, points=5, seed=2)
    assert along.coordinates == [-0.5, -0.25, 0.0, 0.25, 0.5]
    assert along.losses[2] == surface.value()
    direction = row_normalised_direction(surface.parameters, torch.Generator().manual_seed(2))
    weights = surface.weights()
    for a, loss in zip(along.coordinates, along.losses, strict=True):
        expected = 0.5 * float((DIAGONAL * (weights + a * direction) ** 2).sum())
        assert loss == pytest.approx(expected, rel=1e-5)
    over = square(surface, radius=0.5, points=4, seed=2)
    assert len(over.coordinates) == 5
    assert over.losses[2] == pytest.approx(along.losses, rel=1e-6)
    generator = torch.Generator().manual_seed(2)
    d, e = (row_normalised_direction(surface.parameters, generator) for _ in range(2))
    corner = 0.5 * float((DIAGONAL * (weights - 0.5 * d + 0.5 * e) ** 2).sum())
    assert over.losses[4][0] == pytest.approx(corner, rel=1e-5)
