"""Information bottleneck: noise in the hidden layers, and representations that withstand it."""

from __future__ import annotations

import torch
from torch import Tensor

from mgstudy.config.parameters import ParameterSet, parameter
from mgstudy.models.signals import Signal, signals_noted, signals_transformed, signals_unnoted
from mgstudy.training.gradient.base import LossClosure
from mgstudy.training.robust.base import BatchContext, RobustMethod
from mgstudy.training.robust.reach import Reach


class InformationBottleneck(RobustMethod):
    """Hidden-layer perturbation with self-distillation: a reading of DVIB's abstract (Zhao et al.,
    WWW 2025), not DVIB, which is ``dvib``.

    The abstract says: perturbations move from the input to the hidden layers and are
    combined with feature self-distillation, which implicitly makes a variational information
    bottleneck and leaves the architecture alone. What follows is not the published algorithm:

    * *Perturbation*: while the loss is computed, each hidden layer's output h (of a linear map or a
      propagation) becomes h + noise · std(h) · n with n ~ N(0, I), std over all entries of h.
    * *Self-distillation*: the model without noise, from which no gradient flows, teaches the one
      with noise; both draw the same dropout. With z every representation that the loss compares,
      and z̃ the same under noise::

          L̃ + weight · mean ||z̃ − z||² / mean ||z||²

      which is, up to a factor, the KL divergence of two Gaussians around z̃ and z.

    As the noise grows with its layer's spread, and gradients flow through that spread, distillation
    shrinks what a hidden layer carries unless the loss needs it: the bottleneck. With ``noise = 0``
    the loss is left as it is.

    Cost: 2 forward passes and 1 backward pass per loss, counted as 2 of both.
    """

    name = "information_bottleneck"
    needs = (Reach.HIDDEN, Reach.REPRESENTATIONS)

    class Parameters(ParameterSet):
        """Its settings; the published ones are not known."""

        noise: float = parameter(
            0.1,
            "standard deviation of the noise over that of the hidden layer's output",
            ge=0,
            space=(0.05, 0.1, 0.2),
        )
        weight: float = parameter(0.1, "weight of the distillation", ge=0, space=(0.01, 0.1, 1.0))

    parameters: Parameters

    def wrap(self, loss: LossClosure, context: BatchContext) -> LossClosure:
        if self.parameters.noise == 0:
            return loss

        def distilled() -> Tensor:
            device = context.batch.users.device
            # A generator of its own for the noise lets both passes draw the same dropout.
            noise = torch.Generator(device).manual_seed(int(torch.randint(2**62, ())))
            with (
                torch.random.fork_rng([device] if device.type == "cuda" else []),
                torch.no_grad(),
                signals_unnoted(),
                signals_noted(Signal.REPRESENTATION) as teacher,
            ):
                loss()
            with (
                signals_transformed(Signal.HIDDEN, lambda hidden: self._perturbed(hidden, noise)),
                signals_noted(Signal.REPRESENTATION) as student,
            ):
                value = loss()
            distances = [
                (taught - given).square().mean() / given.square().mean().clamp_min(1e-20)
                for taught, given in zip(student, teacher, strict=True)
            ]
            return value + self.parameters.weight * torch.stack(distances).mean()

        return distilled

    def _perturbed(self, hidden: Tensor, generator: torch.Generator) -> Tensor:
        # Under the root, so that the gradient of a constant layer's spread is 0 and not NaN.
        spread = (hidden.var(correction=0) + 1e-20).sqrt()
        normal = torch.randn(
            hidden.shape, generator=generator, dtype=hidden.dtype, device=hidden.device
        )
        return hidden + self.parameters.noise * spread * normal

    @classmethod
    def computations_per_loss(cls, parameters: ParameterSet) -> float:
        assert isinstance(parameters, InformationBottleneck.Parameters)
        return 1.0 if parameters.noise == 0 else 2.0
