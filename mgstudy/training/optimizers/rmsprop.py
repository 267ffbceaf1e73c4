"""RMSprop."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from mgstudy.config.parameters import LogFloatRange, parameter
from mgstudy.private.torch import without_compiler
from mgstudy.training.optimizers.base import OptimizerParameters, OptimizerPart


class RMSprop(OptimizerPart):
    """RMSprop (Tieleman & Hinton 2012), not centred; weight decay is added to the gradient."""

    name = "rmsprop"

    class Parameters(OptimizerParameters):
        """Settings of RMSprop."""

        learning_rate: float = parameter(
            1e-3, "step size", gt=0, space=LogFloatRange(low=1e-4, high=1e-2)
        )
        smoothing: float = parameter(
            0.99, "decay of the running mean of squared gradients", ge=0, lt=1
        )
        momentum: float = parameter(0.0, "share of the previous step that is kept", ge=0, lt=1)
        epsilon: float = parameter(1e-8, "added to the denominator", gt=0)

    parameters: Parameters

    def build(self, weights: Iterable[nn.Parameter]) -> torch.optim.RMSprop:
        parameters = self.parameters
        return without_compiler(torch.optim.RMSprop)(
            weights,
            lr=parameters.learning_rate,
            alpha=parameters.smoothing,
            momentum=parameters.momentum,
            eps=parameters.epsilon,
            weight_decay=parameters.weight_decay,
        )
