"""SAM: the optimizer follows the gradient at the worst point nearby; and what its kin share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mgstudy.config.parameters import ParameterSet, parameter
from mgstudy.training.gradient.base import GradientStrategy, LossClosure, values_replaced

TINY = 1e-12
"""Added to a norm before dividing by it, as the published SAM code does."""


class SharpnessAwareStrategy(GradientStrategy):
    """Steps on the gradient at a worse point nearby, mixed with the one here where asked for.

    On every batch, with gradient g = ∇L(θ) and a displacement ε that the subclass derives from it,
    the optimizer steps from θ on (1 − share) g + share ∇L(θ + ε). Both passes see the same batch
    and negatives, and each draws its own dropout. Clipping, weight decay and the learning rate
    concern only that one step; the displacement follows no schedule. In a neutral setting it takes
    ordinary steps, at their cost.
    """

    _worst_points: list[Tensor] | None = None

    def step(self, loss: LossClosure) -> Tensor:
        if self.neutral(self.parameters):
            return self.descend(loss)
        value = self.backward(loss)
        # Not kept without need, so that the second pass can use their memory again.
        here = [weight.grad for weight in self.trained] if self.share < 1.0 else None
        if self._worst_points is None:
            self._worst_points = [torch.empty_like(weight) for weight in self.trained]
        self.find_worst(self._worst_points)
        with values_replaced(self.trained, self._worst_points):
            self.backward(loss)
        if here is not None:
            _mix_gradients(self.trained, here, self.share)
        self.update()
        return value

    @abstractmethod
    def find_worst(self, out: Sequence[Tensor]) -> None:
        """Write θ + ε into ``out``, a tensor per trained parameter, from the current gradients.

        Args:
            out: Kept from batch to batch, so that none is allocated anew.
        """

    @property
    def share(self) -> float:
        """Share of the gradient at θ + ε in the one stepped on."""
        return 1.0

    @classmethod
    @abstractmethod
    def neutral(cls, parameters: ParameterSet) -> bool:
        """Whether these settings leave ordinary training."""

    @classmethod
    def computations_per_batch(cls, parameters: ParameterSet) -> float:
        return 1.0 if cls.neutral(parameters) else 2.0


class SAM(SharpnessAwareStrategy):
    """Sharpness-aware minimization (Foret et al., ICLR 2021, eq. 2 and 3).

    On every batch, with g = ∇L(θ) and its norm over all parameters together::

        ε = rho · g / ||g||,   then the optimizer's step from θ on ∇L(θ + ε)

    With ``rho = 0`` it is ``plain``, at plain's cost.

    Cost: 2 forward-and-backward passes and 1 optimizer step per batch.
    """

    name = "sam"

    class Parameters(ParameterSet):
        """SAM's settings, with the default of its most used implementation, davda54/sam."""

        rho: float = parameter(
            0.05, "length of the step to the worst point nearby", ge=0, space=(0.01, 0.05, 0.1)
        )

    parameters: Parameters

    def find_worst(self, out: Sequence[Tensor]) -> None:
        steepest_ascent(self.trained, self.parameters.rho, out)

    @classmethod
    def neutral(cls, parameters: ParameterSet) -> bool:
        assert isinstance(parameters, SAM.Parameters)
        return parameters.rho == 0


def total_norm(tensors: Sequence[Tensor | None]) -> Tensor:
    """Euclidean norm of all tensors together; ``None`` counts as zero."""
    return nn.utils.get_total_norm([tensor for tensor in tensors if tensor is not None])


@torch.no_grad()
def steepest_ascent(parameters: Sequence[Tensor], rho: float, out: Sequence[Tensor]) -> None:
    """Write θ + ``rho · g / ||g||`` into ``out``, with g the current gradient.

    SAM (Foret et al., ICLR 2021), eq. 2 with p = 2. The norm is over all parameters together.
    """
    factor = rho / (total_norm([weight.grad for weight in parameters]) + TINY)
    for weight, worst in zip(parameters, out, strict=True):
        if weight.grad is None:
            worst.copy_(weight)
        else:
            torch.addcmul(weight, weight.grad, factor, out=worst)


@torch.no_grad()
def _mix_gradients(
    parameters: Sequence[Tensor], others: Sequence[Tensor | None], share: float
) -> None:
    for weight, other in zip(parameters, others, strict=True):
        if weight.grad is not None and other is not None:
            weight.grad.mul_(share).add_(other, alpha=1.0 - share)
