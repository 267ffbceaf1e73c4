"""Adam."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import nn

from mgstudy.config.parameters import LogFloatRange, parameter
from mgstudy.private.torch import without_compiler
from mgstudy.training.optimizers.base import OptimizerParameters, OptimizerPart


class Adam(OptimizerPart):
    """Adam (Kingma & Ba, ICLR 2015); weight decay is added to the gradient."""

    name = "adam"
    implementation: ClassVar[type[torch.optim.Adam]] = torch.optim.Adam

    class Parameters(OptimizerParameters):
        """Settings of Adam and AdamW."""

        learning_rate: float = parameter(
            1e-3, "step size", gt=0, space=LogFloatRange(low=1e-4, high=1e-2)
        )
        beta1: float = parameter(0.9, "decay of the running mean of gradients", ge=0, lt=1)
        beta2: float = parameter(
            0.999, "decay of the running mean of squared gradients", ge=0, lt=1
        )
        epsilon: float = parameter(1e-8, "added to the denominator", gt=0)

    parameters: Parameters

    def build(self, weights: Iterable[nn.Parameter]) -> torch.optim.Adam:
        parameters = self.parameters
        return without_compiler(self.implementation)(
            weights,
            lr=parameters.learning_rate,
            betas=(parameters.beta1, parameters.beta2),
            eps=parameters.epsilon,
            weight_decay=parameters.weight_decay,
            fused=True,
        )
