"""SWA: the average of the weights at the ends of epochs; and what averages of weights share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from mgstudy.config.parameters import IntegerRange, ParameterSet, parameter
from mgstudy.training.gradient.base import GradientStrategy, LossClosure, values_replaced


class AveragingStrategy(GradientStrategy):
    """Takes ordinary steps, and is evaluated on an average of the weights it passes through.

    The first weights taken in become the average; each later intake moves it towards the weights.
    Only trained parameters are averaged, not a model's buffers.
    """

    _average: list[Tensor] | None = None
    _averaged: int = 0

    def step(self, loss: LossClosure) -> Tensor:
        return self.descend(loss)

    @torch.no_grad()
    def take_in(self, share: float) -> None:
        """Move the average towards the current weights by ``share`` of the way."""
        if self._average is None:
            self._average = [weight.detach().clone() for weight in self.trained]
        else:
            for average, weight in zip(self._average, self.trained, strict=True):
                average.lerp_(weight, share)
        self._averaged += 1

    @contextmanager
    def evaluated_weights(self) -> Iterator[None]:
        if self._average is None:
            yield
            return
        with values_replaced(self.trained, self._average):
            yield

    def state_dict(self) -> Mapping[str, Any]:
        return {**super().state_dict(), "average": self._average, "averaged": self._averaged}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        average = state["average"]
        # A checkpoint is read into memory, the weights may lie on a GPU.
        self._average = average and [
            tensor.to(weight.device, copy=True)
            for tensor, weight in zip(average, self.trained, strict=True)
        ]
        self._averaged = state["averaged"]


class StochasticWeightAveraging(AveragingStrategy):
    """Stochastic weight averaging (Izmailov et al., UAI 2018, Algorithm 1).

    From epoch ``start`` on, the weights at the end of every epoch enter an equal-weight running
    average, as in ``torch.optim.swa_utils.AveragedModel``::

        average ← average + (θ − average) / (epochs averaged + 1)

    Training itself is ``plain``; only what is evaluated, and kept as the best, is the average.
    The paper's cyclical or raised learning rate is the optimizer's affair and is not changed here.

    Cost: 1 forward-and-backward pass per batch; a second copy of the weights.
    """

    name = "swa"

    class Parameters(ParameterSet):
        """SWA's settings."""

        start: int = parameter(
            10,
            "epochs trained before averaging begins",
            ge=0,
            space=IntegerRange(low=0, high=30),
        )

    parameters: Parameters

    def end_epoch(self, epoch: int) -> None:
        if epoch >= self.parameters.start:
            self.take_in(1.0 / (self._averaged + 1))
