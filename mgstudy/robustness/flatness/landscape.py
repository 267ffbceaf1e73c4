"""Slices of the loss landscape, along random directions of the weights' own scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from mgstudy.robustness.flatness.loss_surface import LossSurface, row_normalised_direction


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
