"""SWA and EMA against torch's own averages, and what they leave alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mgstudy.training.gradient.ema import ExponentialMovingAverage
from mgstudy.training.gradient.extra_epochs import ExtraEpochs
from mgstudy.training.gradient.plain import Plain
from mgstudy.training.gradient.swa import AveragingStrategy, StochasticWeightAveraging

INPUTS, OUTPUTS = torch.randn(20, 3), torch.randn(20, 2)
EPOCHS, BATCHES = 5, 4


def model_of(seed: int = 0) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(3, 2)


def loss_of(model: nn.Module) -> torch.Tensor:
    return (model(INPUTS) - OUTPUTS).square().mean()


def train(model: nn.Module, strategy: AveragingStrategy, after_step: Any, after_epoch: Any) -> None:
    for epoch in range(EPOCHS):
        strategy.start_epoch(epoch)
        for _ in range(BATCHES):
            strategy.step(lambda: loss_of(model))
            after_step()
        strategy.end_epoch(epoch)
        after_epoch(epoch)


def nothing(*_: Any) -> None:
    pass


def test_swa_is_torchs_average_of_the_ends_of_epochs() -> None:
    model = model_of()
    oracle = AveragedModel(model)
    strategy = StochasticWeightAveraging(
        torch.optim.Adam(model.parameters(), lr=0.1), StochasticWeightAveraging.Parameters(start=2)
    )

    def update(epoch: int) -> None:
        if epoch >= 2:
            oracle.update_parameters(model)

    train(model, strategy, nothing, update)
    assert oracle.n_averaged == 3
    with strategy.evaluated_weights():
        for weight, expected in zip(model.parameters(), oracle.parameters(), strict=True):
            torch.testing.assert_close(weight, expected)


def test_ema_is_torchs_average_of_all_steps() -> None:
    model = model_of()
    oracle = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    strategy = ExponentialMovingAverage(
        torch.optim.Adam(model.parameters(), lr=0.1), ExponentialMovingAverage.Parameters(decay=0.9)
    )
    train(model, strategy, lambda: oracle.update_parameters(model), nothing)
    with strategy.evaluated_weights():
        for weight, expected in zip(model.parameters(), oracle.parameters(), strict=True):
            torch.testing.assert_close(weight, expected)


@pytest.mark.parametrize("kind", [StochasticWeightAveraging, ExponentialMovingAverage])
def test_training_goes_on_from_the_trained_weights(kind: type[AveragingStrategy]) -> None:
    ends = []
    for strategy_class in (Plain, kind):
        model = model_of()
        strategy = strategy_class(torch.optim.Adam(model.parameters(), lr=0.1))
        for epoch in range(15):
            strategy.step(lambda: loss_of(model))  # noqa: B023
            strategy.end_epoch(epoch)
            trained = model.weight.detach().clone()
            with strategy.evaluated_weights():
                averaged = model.weight.detach().clone()
            assert torch.equal(model.weight, trained)
        ends.append(trained)
    assert torch.equal(*ends)
    assert not torch.equal(averaged, trained)


def test_trained_weights_come_back_after_a_failed_evaluation() -> None:
    model = model_of()
    strategy = ExponentialMovingAverage(torch.optim.SGD(model.parameters(), lr=0.1))
    for _ in range(2):
        strategy.step(lambda: loss_of(model))
    trained = model.weight.detach().clone()
    with pytest.raises(RuntimeError, match="no scores"), strategy.evaluated_weights():
        assert not torch.equal(model.weight, trained)
        raise RuntimeError("no scores")
    assert torch.equal(model.weight, trained)


def test_before_averaging_begins_the_trained_weights_are_evaluated() -> None:
    model = model_of()
    strategy = StochasticWeightAveraging(
        torch.optim.SGD(model.parameters(), lr=0.1), StochasticWeightAveraging.Parameters(start=1)
    )
    strategy.step(lambda: loss_of(model))
    strategy.end_epoch(0)
    trained = model.weight.detach().clone()
    with strategy.evaluated_weights():
        assert torch.equal(model.weight, trained)


@pytest.mark.parametrize(
    ("interval", "epochs", "expected"), [(3, 90, 120), (1, 10, 20), (3, 100, 133), (3, 1, 1)]
)
def test_extra_epochs(interval: int, epochs: int, expected: int) -> None:
    parameters = ExtraEpochs.Parameters(interval=interval)
    assert ExtraEpochs.epochs(parameters, epochs) == expected
    assert Plain.epochs(Plain.Parameters(), epochs) == epochs
