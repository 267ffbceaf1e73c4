"""Mirror Gradient: towards flat minima by stepping down and, every few batches, part way back up.

Mirror Gradient: Towards Robust Multimodal Recommender Systems via Exploring Flat Local Minima,
WWW 2024, https://arxiv.org/abs/2402.11262.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import model_validator
from torch import Tensor

from mgstudy.config.parameters import ParameterSet, parameter
from mgstudy.training.gradient.base import GradientStrategy, LossClosure


class IntervalParameters(ParameterSet):
    """Which batches are treated differently."""

    interval: int = parameter(3, "every how many batches one is treated differently", ge=1)
    counted: Literal["per_epoch", "whole_run"] = parameter(
        "per_epoch",
        "per_epoch: batches 0, interval, 2 interval, ... of every epoch (the published code); "
        "whole_run: batches interval, 2 interval, ... counted from 1 over the run (Algorithm 1)",
    )


class IntervalStrategy(GradientStrategy):
    """Takes an ``interval_step`` on every interval-th batch and an ordinary step on the others."""

    extra_computations: ClassVar[float] = 0.0
    """Forward-and-backward passes of an ``interval_step`` beyond those of an ordinary step."""

    parameters: IntervalParameters
    _batches: int = 0

    @abstractmethod
    def interval_step(self, loss: LossClosure) -> Tensor:
        """Train on one of the interval-th batches; returns as ``step`` does."""

    def start_epoch(self, epoch: int) -> None:
        if self.parameters.counted == "per_epoch":
            self._batches = 0

    def step(self, loss: LossClosure) -> Tensor:
        first = 0 if self.parameters.counted == "per_epoch" else 1
        due = (self._batches + first) % self.parameters.interval == 0
        self._batches += 1
        return self.interval_step(loss) if due else self.descend(loss)

    @classmethod
    def computations_per_batch(cls, parameters: ParameterSet) -> float:
        assert isinstance(parameters, IntervalParameters)
        return 1.0 + cls.extra_computations / parameters.interval

    def state_dict(self) -> Mapping[str, Any]:
        return {**super().state_dict(), "batches": self._batches}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._batches = state["batches"]


class MirrorGradient(IntervalStrategy):
    """Mirror Gradient (Algorithm 1 of the paper), in two variants.

    Every ``interval``-th batch is mirrored: a step of strength ``alpha1`` down from the weights θ
    to θ', and then, on the same batch and negatives, one of strength ``alpha2`` back up from θ'.
    All other batches take an ordinary step. A mirrored batch costs a second forward and backward
    pass, so training costs 1 + 1/``interval`` times as much.

    **Which variant.** They are the same for SGD without momentum, and only there:

    * ``loss_scaled`` (default) is what the authors' code does: the optimizer steps on α₁·L(θ),
      then on −α₂·L(θ'). One optimizer state sees both gradients. Under Adam the second step
      usually *does not ascend*: the buffer of past gradients, which points down, outweighs −α₂
      times the new one (the current batch's own weight in it stays a descending one unless
      α₂ > 0.9·α₁), and Adam's division by the gradient's magnitude cancels the strength. The
      mirrored batch is then close to two ordinary steps. Momentum in SGD acts alike. Weight
      decay is added in both steps and never mirrored.
    * ``update_scaled`` is Algorithm 1 for any optimizer: with u the displacement the optimizer
      would make from ∇L(θ), θ' = θ + α₁·u; with u' the one it would make from ∇L(θ'), its state
      advanced, θ'' = θ' − α₂·u'. The second half really goes back, against the optimizer's own
      step, and α₁ and α₂ keep their meaning. Weight decay, being part of the optimizer's step, is
      mirrored too.

    **Clipping.** The authors' code clips only the last gradient of a batch, so ``loss_scaled``
    leaves that of α₁·L(θ) as it is. ``update_scaled`` clips both, because each half is made of an
    ordinary step.

    It drives any torch optimizer in any training loop:

    >>> import torch
    >>> from mgstudy.training.gradient.mirror_gradient import MirrorGradient
    >>> weight = torch.nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = torch.optim.SGD([weight], lr=0.1)
    >>> mirror = MirrorGradient(optimizer, interval=2, alpha2=0.5)
    >>> for epoch in range(1):
    ...     mirror.start_epoch(epoch)
    ...     for target in (3.0, 3.0):
    ...         loss = mirror.step(lambda: 0.5 * (weight - target).square().sum())
    ...         print(f"loss {loss:.4f}, weight {weight.item():.4f}")
    loss 2.0000, weight 1.1100
    loss 1.7860, weight 1.2990

    The first batch goes from 1 to 1.2 and half a step back, to 1.11; the second is an ordinary one.

    Args:
        optimizer: Any torch optimizer whose ``step`` needs no closure.
        parameters: An instance of ``MirrorGradient.Parameters``; its defaults when left out.
        clip_norm: Clip gradients to this global norm, as told above; ``None`` for never.
        **settings: ``interval``, ``counted``, ``alpha1``, ``alpha2`` and ``variant`` by name,
            instead of ``parameters``.
    """

    name = "mirror_gradient"
    extra_computations = 1.0

    class Parameters(IntervalParameters):
        """Mirror Gradient's settings, with the published defaults."""

        alpha1: float = parameter(1.0, "strength of the step down, α₁", gt=0)
        alpha2: float = parameter(
            0.2,
            "strength of the step back up, α₂, which must be below α₁",
            ge=0,
            space=(0.1, 0.2, 0.3),
        )
        variant: Literal["loss_scaled", "update_scaled"] = parameter(
            "loss_scaled",
            "loss_scaled: the optimizer steps on α₁ times the loss, then on −α₂ times it (the "
            "published code; under Adam the second step usually does not ascend); update_scaled: "
            "the optimizer's own update times α₁, then its next update times −α₂ (Algorithm 1)",
        )

        @model_validator(mode="after")
        def _descends_in_all(self) -> MirrorGradient.Parameters:
            if self.alpha2 >= self.alpha1:
                raise ValueError(
                    f"alpha2 ({self.alpha2:g}) must be below alpha1 ({self.alpha1:g}): "
                    "Mirror Gradient goes back only part of the way"
                )
            return self

    parameters: Parameters

    second_direction: ClassVar[float] = -1.0
    """Sign of the second step of a mirrored batch: back up, or on down in a control."""

    def interval_step(self, loss: LossClosure) -> Tensor:
        if self.parameters.variant == "loss_scaled":
            return self._step_on_scaled_losses(loss)
        return self._step_by_scaled_updates(loss)

    def _step_on_scaled_losses(self, loss: LossClosure) -> Tensor:
        value = self.mirrored_backward(loss, scale=self.parameters.alpha1)
        self.optimizer.step()
        mirrored = self.mirrored_backward(loss, self.second_direction * self.parameters.alpha2)
        self.update()
        return _finite_with(value, mirrored)

    def _step_by_scaled_updates(self, loss: LossClosure) -> Tensor:
        value = self.mirrored_backward(loss)
        self.update_scaled(self.parameters.alpha1)
        mirrored = self.mirrored_backward(loss)
        self.update_scaled(self.second_direction * self.parameters.alpha2)
        return _finite_with(value, mirrored)

    def mirrored_backward(self, loss: LossClosure, scale: float = 1.0) -> Tensor:
        """Set the gradients of one half of a mirrored batch; returns as ``backward`` does."""
        return self.backward(loss, scale)

    @torch.no_grad()
    def update_scaled(self, strength: float) -> None:
        """Move by ``strength`` times the optimizer's update."""
        weights = self.trained
        starts = [weight.clone() for weight in weights]
        self.update()
        for weight, start in zip(weights, starts, strict=True):
            # start + strength · (weight − start), which lerp gives exactly at strengths 0 and 1.
            weight.lerp_(start, 1 - strength)


def _finite_with(value: Tensor, mirrored: Tensor) -> Tensor:
    """``value``, or NaN if the mirrored loss is not finite, so that divergence shows at once."""
    return torch.where(mirrored.isfinite(), value, torch.nan)
