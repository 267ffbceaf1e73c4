"""A control: ordinary steps, shortened where Mirror Gradient goes down and part way back."""

from __future__ import annotations

from torch import Tensor

from mgstudy.training.gradient.base import LossClosure
from mgstudy.training.gradient.mirror_gradient import MirrorGradient


class RateMatched(MirrorGradient):
    """One step of strength ``alpha1 - alpha2`` on every ``interval``-th batch.

    To first order Mirror Gradient moves by (α₁ − α₂) of an ordinary step on a mirrored batch: what
    it does beyond that is its second-order effect. This control makes the first-order move alone,
    so if Mirror Gradient does no better, its gain is that of a lower learning rate.

    * ``loss_scaled``: the optimizer steps on (α₁ − α₂) · L(θ), clipped as any gradient. Adam,
      Adagrad and RMSprop divide by the gradient's size, so for them the step hardly changes.
    * ``update_scaled``: the optimizer's own update is scaled by α₁ − α₂.

    Cost: 1 forward-and-backward pass per batch.
    """

    name = "rate_matched"
    extra_computations = 0.0

    def interval_step(self, loss: LossClosure) -> Tensor:
        strength = self.parameters.alpha1 - self.parameters.alpha2
        if self.parameters.variant == "loss_scaled":
            value = self.backward(loss, scale=strength)
            self.update()
        else:
            value = self.backward(loss)
            self.update_scaled(strength)
        return value
