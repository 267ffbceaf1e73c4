"""Gradient norm penalty: the loss plus a multiple of the length of its gradient."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mgstudy.config.parameters import ParameterSet, parameter
from mgstudy.training.gradient.sam import SharpnessAwareStrategy, steepest_ascent


class GradientNormPenalty(SharpnessAwareStrategy):
    """Penalizing the gradient norm (Zhao, Zhang & Hu, ICML 2022).

    Minimises L(θ) + λ ||∇L(θ)||. The Hessian-vector product in its gradient is approximated by a
    finite difference over a distance ``radius`` along g = ∇L(θ), and the optimizer steps on::

        (1 − α) ∇L(θ) + α ∇L(θ + radius · g / ||g||),   α = λ / radius

    Mirror Gradient penalises the gradient's norm implicitly; this does so explicitly. ``balance``,
    the α above, of 1 is SAM with ``rho = radius``; ``balance = 0`` or ``radius = 0`` is ``plain``,
    at plain's cost.

    Cost: 2 forward-and-backward passes and 1 optimizer step per batch.
    """

    name = "gradient_norm_penalty"

    class Parameters(ParameterSet):
        """Its settings; the penalty's weight λ is ``balance * radius``."""

        radius: float = parameter(
            0.05,
            "distance over which the gradient's change is measured",
            ge=0,
            space=(0.01, 0.05, 0.1),
        )
        balance: float = parameter(
            0.8,
            "share α of the gradient at that distance: the penalty's weight over the radius",
            ge=0,
            le=1,
            space=(0.2, 0.5, 0.8),
        )

    parameters: Parameters

    def find_worst(self, out: Sequence[Tensor]) -> None:
        steepest_ascent(self.trained, self.parameters.radius, out)

    @property
    def share(self) -> float:
        return self.parameters.balance

    @classmethod
    def neutral(cls, parameters: ParameterSet) -> bool:
        assert isinstance(parameters, GradientNormPenalty.Parameters)
        return parameters.radius == 0 or parameters.balance == 0
