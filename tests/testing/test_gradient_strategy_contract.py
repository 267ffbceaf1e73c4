"""The suite for gradient strategies finds one that breaks any one promise, for the right reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from mgstudy.config.parameters import ParameterSet
from mgstudy.testing import GradientStrategyContract
from mgstudy.training.gradient.base import GradientStrategy, LossClosure
from mgstudy.training.gradient.plain import Plain


class ReportsTheLossItEndedWith(Plain):
    def step(self, loss: LossClosure) -> Tensor:
        self.descend(loss)
        return loss().detach()


class HidesAPass(Plain):
    def step(self, loss: LossClosure) -> Tensor:
        loss()
        return self.descend(loss)


class TrainsAnEpochLess(Plain):
    @classmethod
    def epochs(cls, parameters: ParameterSet, epochs: int) -> int:
        return epochs - 1


class Ascends(Plain):
    def step(self, loss: LossClosure) -> Tensor:
        value = self.backward(loss, scale=-1.0)
        self.update()
        return value


class ShakesTheWeights(Plain):
    @torch.no_grad()
    def step(self, loss: LossClosure) -> Tensor:
        with torch.enable_grad():
            value = self.descend(loss)
        for weight in self.trained:
            weight.add_(0.01)
        return value


class MakesUpGradients(Plain):
    def update(self) -> None:
        for weight in self.trained:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
        super().update()


class LosesTheTrainedWeights(Plain):
    @contextmanager
    def evaluated_weights(self) -> Iterator[None]:
        for weight in self.trained:
            weight.data.mul_(0.9)
        yield


class ForgetsWhereItWas(Plain):
    steps = 0

    def step(self, loss: LossClosure) -> Tensor:
        self.steps += 1
        value = self.backward(loss, scale=1.0 / self.steps)
        self.optimizer.param_groups[0]["lr"] = 0.1 / self.steps
        self.update()
        return value


NEUTRAL: list[Mapping[str, Any]] = [{}]
BROKEN: list[tuple[str, type[GradientStrategy], dict[str, Any], str]] = [
    ("test_reports_the_loss_it_began_with", ReportsTheLossItEndedWith, {}, "approx|±"),
    ("test_costs_what_it_says", HidesAPass, {}, "24 == 12"),
    ("test_an_epoch_more_is_never_an_epoch_less", TrainsAnEpochLess, {}, "0 >= 1"),
    ("test_lowers_the_loss", Ascends, {}, r"\d < \d"),
    (
        "test_neutral_settings_are_plain_training_to_the_bit",
        HidesAPass,
        {"optimizer": "sgd"},
        "torch.equal",
    ),
    (
        "test_at_a_learning_rate_of_zero_weights_return_to_the_bit",
        ShakesTheWeights,
        {},
        "torch.equal",
    ),
    ("test_a_parameter_that_the_loss_does_not_use_stays", MakesUpGradients, {}, "torch.equal"),
    ("test_training_goes_on_from_the_trained_weights", LosesTheTrainedWeights, {}, "torch.equal"),
    ("test_continues_to_the_bit_from_its_state", ForgetsWhereItWas, {}, "torch.equal"),
]


def held(kind: type[GradientStrategy]) -> GradientStrategyContract:
    class Held(GradientStrategyContract):
        strategy = kind
        neutral = NEUTRAL

    return Held()


@pytest.mark.parametrize(
    ("check", "kind", "arguments", "reason"),
    BROKEN,
    ids=[f"{kind.__name__}, {check}" for check, kind, *_ in BROKEN],
)
def test_a_broken_promise_is_found(
    check: str, kind: type[GradientStrategy], arguments: dict[str, Any], reason: str
) -> None:
    getattr(held(Plain), check)(**arguments)
    with pytest.raises(AssertionError, match=reason):
        getattr(held(kind), check)(**arguments)


def test_every_check_can_fail() -> None:
    checks = {name for name in dir(GradientStrategyContract) if name.startswith("test_")}
    assert checks == {check for check, *_ in BROKEN}
