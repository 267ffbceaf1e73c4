"""Adagrad."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from mgstudy.config.parameters import LogFloatRange, parameter
from mgstudy.private.torch import without_compiler
from mgstudy.training.optimizers.base import OptimizerParameters, OptimizerPart


class Adagrad(OptimizerPart):
    """Adagrad (Duchi, Hazan & Singer, JMLR 2011); weight decay is added to the gradient."""

    name = "adagrad"

    class Parameters(OptimizerParameters):
        """Settings of Adagrad."""

        learning_rate: float = parameter(
            1e-2, "step size", gt=0, space=LogFloatRange(low=1e-3, high=1e-1)
        )
        epsilon: float = parameter(1e-10, "added to the denominator", gt=0)

    parameters: Parameters

    def build(self, weights: Iterable[nn.Parameter]) -> torch.optim.Adagrad:
        parameters = self.parameters
        weights = list(weights)
        return without_compiler(torch.optim.Adagrad)(
            weights,
            lr=parameters.learning_rate,
            eps=parameters.epsilon,
            weight_decay=parameters.weight_decay,
            # Older releases of torch that we support have it fused on the processor only.
            fused=all(weight.device.type == "cpu" for weight in weights) or None,
        )
