"""EMA: an exponentially fading average of the weights after every step."""

from __future__ import annotations

from torch import Tensor

from mgstudy.config.parameters import ParameterSet, parameter
from mgstudy.training.gradient.base import LossClosure
from mgstudy.training.gradient.swa import AveragingStrategy


class ExponentialMovingAverage(AveragingStrategy):
    """Exponential moving average of the weights (Polyak & Juditsky 1992; Tarvainen & Valpola 2017).

    After every step, as in ``torch.optim.swa_utils.get_ema_multi_avg_fn``::

        average ← decay · average + (1 − decay) · θ

    starting at the weights after the first step. Training itself is ``plain``; only what is
    evaluated, and kept as the best, is the average. With ``decay = 0`` it is ``plain``.

    Cost: 1 forward-and-backward pass per batch; a second copy of the weights and a pass over it.
    """

    name = "ema"

    class Parameters(ParameterSet):
        """EMA's settings."""

        decay: float = parameter(
            0.99,
            "share of the average that a step keeps; it remembers about 1 / (1 - decay) steps",
            ge=0,
            lt=1,
            space=(0.9, 0.99, 0.999),
        )

    parameters: Parameters

    def step(self, loss: LossClosure) -> Tensor:
        value = self.descend(loss)
        self.take_in(1.0 - self.parameters.decay)
        return value
