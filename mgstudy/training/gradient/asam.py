"""ASAM: sharpness-aware minimization with a neighbourhood that scales with each weight."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mgstudy.config.parameters import ParameterSet, parameter
from mgstudy.training.gradient.sam import TINY, SharpnessAwareStrategy, total_norm


class ASAM(SharpnessAwareStrategy):
    """Adaptive sharpness-aware minimization (Kwon et al., ICML 2021, element-wise, p = 2).

    As SAM, but a weight may move in proportion to its own size, so that the neighbourhood does not
    change when layers are rescaled::

        T = |θ| + eta,   ε = rho · T² g / ||T g||,   then the step from θ on ∇L(θ + ε)

    The authors' code leaves biases unscaled (T = 1); a strategy does not know which parameters are
    biases and treats all alike. With ``rho = 0`` it is ``plain``, at plain's cost.

    Cost: 2 forward-and-backward passes and 1 optimizer step per batch.
    """

    name = "asam"

    class Parameters(ParameterSet):
        """ASAM's settings; ``rho`` as davda54/sam reports the authors' advice, ``eta`` theirs."""

        rho: float = parameter(
            2.0,
            "length of the step to the worst point nearby, in units of the weights",
            ge=0,
            space=(0.5, 1.0, 2.0),
        )
        eta: float = parameter(0.01, "added to a weight's size, so that a zero can move", ge=0)

    parameters: Parameters

    @torch.no_grad()
    def find_worst(self, out: Sequence[Tensor]) -> None:
        weights = self.trained
        scales = [torch.abs(weight, out=worst) for weight, worst in zip(weights, out, strict=True)]
        scaled = [
            None if weight.grad is None else scale.add_(self.parameters.eta) * weight.grad
            for weight, scale in zip(weights, scales, strict=True)
        ]
        factor = self.parameters.rho / (total_norm(scaled) + TINY)
        for weight, gradient, worst in zip(weights, scaled, out, strict=True):
            if gradient is None:
                worst.copy_(weight)
            else:
                torch.addcmul(weight, gradient.mul_(factor), worst, out=worst)

    @classmethod
    def neutral(cls, parameters: ParameterSet) -> bool:
        assert isinstance(parameters, ASAM.Parameters)
        return parameters.rho == 0
