"""Everything that is measured of the flatness of a trained model's minimum."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mgstudy.config.robustness import FlatnessSettings
from mgstudy.data.dataset import as_tensor
from mgstudy.data.sampling import NegativeSampler, epoch_batches
from mgstudy.models.base import Batch, Recommender
from mgstudy.robustness.flatness.loss_surface import (
    Loss,
    LossSurface,
    row_normalised_direction,
    top_eigenvalue,
    trace,
)
from mgstudy.training.checkpoint import seeded


def measure_flatness(
    model: Recommender, settings: FlatnessSettings, batch_size: int
) -> dict[str, Any]:
    """Measure how flat the training loss is around a model's weights.

    The loss is the model's own, regulariser included and robust methods not, averaged over a few
    batches with fixed negatives. They are drawn from ``settings.seed`` and the interactions alone,
    so they are the same for every model of a dataset. Dropout is off, graphs are not pruned, and
    what else a model draws is drawn from the same seed every time.

    Args:
        model: With its trained weights.
        settings: What is measured, and how precisely.
        batch_size: Pairs in a batch, as in training.

    Returns:
        The numbers of ``FLATNESS_MEASURES`` that are asked for; ``weight_noise_rises``, of every
        draw; ``hessian_trace_error``; and ``curvature``, how Hessian products were made.
    """
    surface = training_surface(model, settings, batch_size)
    rises = weight_noise_rises(surface, settings.noise, settings.noise_draws, settings.seed)
    found: dict[str, Any] = {
        "loss": surface.value(),
        "weight_norm": float(torch.linalg.vector_norm(surface.weights())),
        "gradient_norm": gradient_norm(surface),
        "sam_sharpness": sam_sharpness(surface, settings.sam_radius),
        "weight_noise_rise": float(np.mean(rises)),
        "weight_noise_rises": rises,
    }
    if settings.eigenvalue:
        found["top_eigenvalue"] = top_eigenvalue(
            surface, settings.eigenvalue_tolerance, settings.seed
        )
    if settings.trace_probes:
        estimate = trace(surface, settings.trace_probes, settings.seed)
        found["hessian_trace"] = estimate.mean
        found["hessian_trace_error"] = estimate.standard_error
    if settings.eigenvalue or settings.trace_probes:
        found["curvature"] = surface.curvature
    return found


def measure_landscape(
    model: Recommender, settings: FlatnessSettings, batch_size: int
) -> dict[str, Any]:
    """Slices of the loss that ``measure_flatness`` measures: ``line`` and ``square``, as ``Slice``
    describes them, where they are asked for."""
    surface = training_surface(model, settings, batch_size)
    radius, seed = settings.landscape_radius, settings.seed
    found = {}
    if settings.landscape_points:
        found["line"] = asdict(line(surface, radius, settings.landscape_points, seed))
    if settings.landscape_grid:
        found["square"] = asdict(square(surface, radius, settings.landscape_grid, seed))
    return found


def training_surface(
    model: Recommender, settings: FlatnessSettings, batch_size: int
) -> LossSurface:
    """The training loss of a model in evaluation mode as a function of all its trained weights."""
    model.eval()
    weights = model.trained_parameters()
    return LossSurface(weights, batch_losses(model, settings, batch_size))


def batch_losses(model: Recommender, settings: FlatnessSettings, batch_size: int) -> list[Loss]:
    """The model's loss on each of a few fixed batches, the same whenever it is asked for."""
    random = np.random.default_rng(settings.seed)
    sampler = NegativeSampler(model.dataset) if model.samples_negatives else None
    device = next(model.parameters()).device
    batches = []
    for columns in epoch_batches(model.dataset, batch_size, random, sampler):
        users, positives, *negatives = (
            as_tensor(column).to(device) for column in columns if column is not None
        )
        batches.append(
            Batch(users, positives, negatives[0] if negatives else None, nominal_size=batch_size)
        )
        if len(batches) == settings.batches:
            break
    return [_repeatable(model, batch, settings.seed) for batch in batches]


def _repeatable(model: Recommender, batch: Batch, seed: int) -> Loss:
    def loss() -> Tensor:
        with seeded(seed, batch.users.device), _attributes_kept(model):
            return model.loss(batch)

    return loss


@contextmanager
def _attributes_kept(model: Recommender) -> Iterator[None]:
    """Put back what a loss leaves behind in the model's attributes: LATTICE builds its graph on a
    first batch, and would use it at other weights."""
    kept = [(module, dict(vars(module))) for module in model.modules()]
    try:
        yield
    finally:
        for module, attributes in kept:
            vars(module).clear()
            vars(module).update(attributes)


def gradient_norm(surface: LossSurface) -> float:
    """The length of the gradient: 0 at a minimum (Zhao et al., ICML 2022, penalise it)."""
    return float(torch.linalg.vector_norm(surface.gradient()))


def sam_sharpness(surface: LossSurface, radius: float) -> float:
    """SAM's sharpness (Foret et al., ICLR 2021), to first order: the rise of the loss from θ to
    ``θ + ρ · g / ||g||``, g the gradient.

    Args:
        surface: The loss.
        radius: ρ over the norm of the weights, so that models of different scales compare.
    """
    gradient = surface.gradient()
    length = float(torch.linalg.vector_norm(gradient))
    if length == 0:
        return 0.0
    distance = radius * float(torch.linalg.vector_norm(surface.weights()))
    return surface.value_at(gradient * (distance / length)) - surface.value()


def weight_noise_rises(surface: LossSurface, scale: float, draws: int, seed: int) -> list[float]:
    """How much the loss rises under noise on the weights, for each draw.

    The noise is Gaussian, each row's scaled to ``scale`` times the row's length (see
    ``row_normalised_direction``): expected sharpness, as in PAC-Bayesian bounds (Neyshabur et al.,
    NeurIPS 2017).

    Args:
        surface: The loss.
        scale: Length of a row's noise over the length of the row.
        draws: How many.
        seed: Of the noise.
    """
    generator = torch.Generator().manual_seed(seed)
    at_rest = surface.value()
    return [
        surface.value_at(scale * row_normalised_direction(surface.parameters, generator)) - at_rest
        for _ in range(draws)
    ]


@dataclass(frozen=True)
class Slice:
    """The loss along a line, or over a square, through the weights.

    Attributes:
        coordinates: Multiples of the direction(s), ascending, symmetric around 0.
        losses: One per coordinate, or a row per coordinate of the second direction.
    """

    coordinates: list[float]
    losses: list[float] | list[list[float]]


def line(surface: LossSurface, radius: float, points: int, seed: int) -> Slice:
    """The loss at ``θ + a · d`` for a from −radius to radius, d filter-normalised (Li et al.,
    NeurIPS 2018).

    Args:
        surface: The loss.
        radius: 1 moves every row of the weights by its own length.
        points: Odd, so that the weights themselves are among them; an even number is raised by 1.
        seed: Of the direction.
    """
    direction = row_normalised_direction(surface.parameters, _generator(seed))
    coordinates = _coordinates(radius, points)
    return Slice(coordinates, [surface.value_at(a * direction) for a in coordinates])


def square(surface: LossSurface, radius: float, points: int, seed: int) -> Slice:
    """The loss at ``θ + a · d + b · e`` with two directions as in ``line``; the first is the same.

    Args:
        surface: The loss.
        radius: 1 moves every row of the weights by its own length in each direction.
        points: On each side; as in ``line``.
        seed: Of the directions.
    """
    generator = _generator(seed)
    first, second = (row_normalised_direction(surface.parameters, generator) for _ in range(2))
    coordinates = _coordinates(radius, points)
    return Slice(
        coordinates,
        [[surface.value_at(a * first + b * second) for a in coordinates] for b in coordinates],
    )


def _coordinates(radius: float, points: int) -> list[float]:
    half = np.linspace(0, radius, points // 2 + 1)[1:].tolist()
    return [*(-value for value in reversed(half)), 0.0, *half]


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
