"""Mirror Gradient whose mirrored steps follow the gradient at the worst point nearby."""

from __future__ import annotations

import torch
from torch import Tensor

from mgstudy.config.parameters import ParameterSet, parameter
from mgstudy.training.gradient.base import LossClosure, values_replaced
from mgstudy.training.gradient.mirror_gradient import MirrorGradient
from mgstudy.training.gradient.sam import steepest_ascent


class SharpnessAwareMirror(MirrorGradient):
    """Sharpness-aware Mirror Gradient, after SGBD (Srivastava & Wu, ICCV Workshops 2025).

    Only SGBD's abstract was at hand; we take it to put SAM's gradient into both halves of Mirror
    Gradient's mirrored batches. With ε(θ) = rho · ∇L(θ) / ||∇L(θ)||, written for SGD::

        θ' = θ − α₁ η ∇L(θ + ε(θ)),   θ'' = θ' + α₂ η ∇L(θ' + ε(θ'))

    Other batches take an ordinary step. For other optimizers the two variants of
    ``mirror_gradient`` apply, with the same clipping. With ``rho = 0`` it is ``mirror_gradient``,
    at its cost. SGBD's other half, denoising, is the robust method ``denoise``.

    Cost: 1 + 3/``interval`` forward-and-backward passes per batch.
    """

    name = "sharpness_aware_mirror"
    extra_computations = 3.0

    class Parameters(MirrorGradient.Parameters):
        """Mirror Gradient's settings and SAM's."""

        rho: float = parameter(
            0.05, "length of the step to the worst point nearby", ge=0, space=(0.01, 0.05, 0.1)
        )

    parameters: Parameters
    _worst_points: list[Tensor] | None = None

    def mirrored_backward(self, loss: LossClosure, scale: float = 1.0) -> Tensor:
        if self.parameters.rho == 0:
            return self.backward(loss, scale)
        value = self.backward(loss)
        if self._worst_points is None:
            self._worst_points = [torch.empty_like(weight) for weight in self.trained]
        steepest_ascent(self.trained, self.parameters.rho, out=self._worst_points)
        with values_replaced(self.trained, self._worst_points):
            self.backward(loss, scale)
        return value

    @classmethod
    def computations_per_batch(cls, parameters: ParameterSet) -> float:
        assert isinstance(parameters, SharpnessAwareMirror.Parameters)
        if parameters.rho == 0:
            return MirrorGradient.computations_per_batch(parameters)
        return super().computations_per_batch(parameters)
