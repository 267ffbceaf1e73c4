"""Mirror Gradient whose mirrored steps follow the gradient at the worst point nearby."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from mgstudy.config.parameters import ParameterSet, parameter
from mgstudy.training.gradient.base import LossClosure, values_replaced
from mgstudy.training.gradient.mirror_gradient import MirrorGradient
from mgstudy.training.gradient.sam import steepest_ascent


class SharpnessAwareMirror(MirrorGradient):
    """Sharpness-aware Mirror Gradient, after SGBD (Srivastava & Wu, ICCV Workshops 2025).

    One of several readings of the abstract: neither full text nor code could be had (ASSUMED, all
    of it). By default SAM's gradient goes into both halves of Mirror Gradient's mirrored batches;
    ``sharpness`` has the other readings: only into the step down, only into the step back up, or
    also into the batches that are not mirrored. With ε(θ) = rho · ∇L(θ) / ||∇L(θ)||, for SGD::

        θ' = θ − α₁ η ∇L(θ + ε(θ)),   θ'' = θ' + α₂ η ∇L(θ' + ε(θ'))

    Other batches take an ordinary step, by default. For other optimizers the two variants of
    ``mirror_gradient`` apply, with the same clipping. With ``rho = 0`` it is ``mirror_gradient``,
    at its cost. SGBD's other half, denoising, is the robust method ``denoise``.

    Cost: 1 + 3/``interval`` forward-and-backward passes per batch; 1 + 2/``interval`` for "descent"
    and "ascent", 2 + 2/``interval`` for "every_batch".
    """

    name = "sharpness_aware_mirror"
    extra_computations = 3.0

    class Parameters(MirrorGradient.Parameters):
        """Mirror Gradient's settings and SAM's."""

        rho: float = parameter(
            0.05, "length of the step to the worst point nearby", ge=0, space=(0.01, 0.05, 0.1)
        )

        sharpness: Literal["mirrored", "descent", "ascent", "every_batch"] = parameter(
            "mirrored", "which steps follow the gradient at the worst point: a reading of SGBD"
        )

    parameters: Parameters
    _going_back = False
    _worst_points: list[Tensor] | None = None

    def interval_step(self, loss: LossClosure) -> Tensor:
        self._going_back = False
        return super().interval_step(loss)

    def descend(self, loss: LossClosure) -> Tensor:
        if self.parameters.sharpness != "every_batch" or self.parameters.rho == 0:
            return super().descend(loss)
        value = self._backward_at_worst(loss, 1.0)
        self.update()
        return value

    def mirrored_backward(self, loss: LossClosure, scale: float = 1.0) -> Tensor:
        plain = "ascent" if not self._going_back else "descent"
        self._going_back = True
        if self.parameters.rho == 0 or self.parameters.sharpness == plain:
            return self.backward(loss, scale)
        return self._backward_at_worst(loss, scale)

    def _backward_at_worst(self, loss: LossClosure, scale: float) -> Tensor:
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
        if parameters.sharpness == "every_batch":
            return 2.0 + 2.0 / parameters.interval
        extra = cls.extra_computations - (parameters.sharpness in ("descent", "ascent"))
        return 1.0 + extra / parameters.interval
