"""Flatness by the loss alone: what a small step away from the weights costs."""

from __future__ import annotations

import torch

from mgstudy.robustness.flatness.loss_surface import LossSurface, row_normalised_direction


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
