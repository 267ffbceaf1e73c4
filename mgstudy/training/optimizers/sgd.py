"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from mgstudy.config.parameters import LogFloatRange, parameter
from mgstudy.private.torch import without_compiler
from mgstudy.training.optimizers.base import OptimizerParameters, OptimizerPart


class SGD(OptimizerPart):
    """Stochastic gradient descent, with momentum if asked for; weight decay is added to the
    gradient."""

    name = "sgd"

    class Parameters(OptimizerParameters):
        """Settings of stochastic gradient descent."""

        learning_rate: float = parameter(
            10.0,
            "step size, large because most losses are means over the batch: 10 at batch size 2048 "
            "moves a row by 0.005 times the gradient of one of its pairs",
            gt=0,
            space=LogFloatRange(low=1e-1, high=1e3),
        )
        momentum: float = parameter(0.0, "share of the previous step that is kept", ge=0, lt=1)

    parameters: Parameters

    def build(self, weights: Iterable[nn.Parameter]) -> torch.optim.SGD:
        parameters = self.parameters
        return without_compiler(torch.optim.SGD)(
            weights,
            lr=parameters.learning_rate,
            momentum=parameters.momentum,
            weight_decay=parameters.weight_decay,
            fused=True,
        )
