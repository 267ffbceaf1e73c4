"""What every gradient strategy must do, whatever it is."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from mgstudy.training.gradient.base import GradientStrategy, LossClosure
from mgstudy.training.gradient.plain import Plain
from mgstudy.training.optimizers.base import optimizers

_MATRIX = torch.tensor([[2.0, 0.5, -0.3], [0.4, 1.0, 0.2], [-0.6, 0.1, 1.5], [0.3, -1.2, 0.7]])
_LABELS = torch.tensor([1.0, -1.0, 1.0, -1.0])


class GradientStrategyContract:
    """Holds a gradient strategy to what it owes; subclass it and set ``strategy``.

    Attributes:
        strategy: The class under test.
        settings: Settings by name to try besides the defaults.
        neutral: Settings with which it is ordinary training to the bit, for any optimizer.
        batches: Batches in an epoch over which costs come out even: a multiple of every interval.
    """

    strategy: ClassVar[type[GradientStrategy]]
    settings: ClassVar[Sequence[Mapping[str, Any]]] = ()
    neutral: ClassVar[Sequence[Mapping[str, Any]]] = ()
    batches: ClassVar[int] = 12

    def build(
        self, weights: Sequence[nn.Parameter], optimizer: str = "sgd", **settings: Any
    ) -> GradientStrategy:
        """The strategy over some weights, with an optimizer by name."""
        return self.strategy(
            optimizers.get(optimizer)().build(weights), self.strategy.Parameters(**settings)
        )

    def test_reports_the_loss_it_began_with(self) -> None:
        for settings in self._all_settings():
            weight = _start()
            strategy = self.build([weight], "adam", **settings)
            strategy.start_epoch(0)
            for _ in range(self.batches):
                before = _logistic(weight).item()
                reported = strategy.step(partial(_logistic, weight))
                assert reported.shape == ()
                assert not reported.requires_grad
                assert reported.item() == pytest.approx(before, rel=1e-6), settings

    def test_costs_what_it_says(self) -> None:
        for settings in (*self._all_settings(), *self.neutral):
            weight = _start()
            strategy = self.build([weight], **settings)
            calls = 0

            def loss(weight: nn.Parameter = weight) -> Tensor:
                nonlocal calls
                calls += 1
                return _logistic(weight)

            strategy.start_epoch(0)
            for _ in range(self.batches):
                strategy.step(loss)
            expected = self.batches * strategy.computations_per_batch(strategy.parameters)
            assert calls == pytest.approx(expected), settings

    def test_an_epoch_more_is_never_an_epoch_less(self) -> None:
        for settings in (*self._all_settings(), *self.neutral):
            parameters = self.strategy.Parameters(**settings)
            trained = [self.strategy.epochs(parameters, asked) for asked in range(1, 30)]
            assert all(isinstance(epochs, int) for epochs in trained)
            assert trained == sorted(trained) and trained[0] >= 1

    def test_lowers_the_loss(self) -> None:
        for settings in self._all_settings():
            weight = _start()
            strategy = self.build([weight], "adam", **settings)
            first = _logistic(weight).item()
            for epoch in range(6):
                _train_epoch(strategy, partial(_logistic, weight), epoch, self.batches)
            with strategy.evaluated_weights():
                assert _logistic(weight).item() < first, settings

    @pytest.mark.parametrize("optimizer", ["sgd", "adam"])
    def test_neutral_settings_are_plain_training_to_the_bit(self, optimizer: str) -> None:
        def trained(strategy: type[GradientStrategy], settings: Mapping[str, Any]) -> Tensor:
            torch.manual_seed(0)
            weight = nn.Parameter(torch.randn(50, 4))
            part = optimizers.get(optimizer)
            built = strategy(
                part(part.Parameters(weight_decay=0.01)).build([weight]),
                strategy.Parameters(**settings),
            )
            for _ in range(7):
                # With dropout: a second pass would shift the random numbers of all later ones.
                built.step(lambda: nn.functional.dropout(weight, 0.5).square().sum().log1p())
            return weight.detach()

        for settings in self.neutral:
            assert torch.equal(trained(self.strategy, settings), trained(Plain, {})), settings

    def test_at_a_learning_rate_of_zero_weights_return_to_the_bit(self) -> None:
        torch.manual_seed(0)
        weight = nn.Parameter(torch.randn(100))
        start = weight.detach().clone()
        strategy = self.build([weight])
        for group in strategy.optimizer.param_groups:
            group["lr"] = 0.0
        for _ in range(4):
            strategy.step(lambda: weight.square().sum().log1p())
        assert torch.equal(weight, start)

    def test_a_parameter_that_the_loss_does_not_use_stays(self) -> None:
        used, unused = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
        part = optimizers.get("adam")
        strategy = self.strategy(
            part(part.Parameters(weight_decay=0.1)).build([used, unused]),
            self.strategy.Parameters(),
        )
        for _ in range(4):
            strategy.step(lambda: used.square().sum())
        assert torch.equal(unused, torch.ones(3)) and not torch.equal(used, torch.ones(3))

    def test_training_goes_on_from_the_trained_weights(self) -> None:
        """Whatever is evaluated, and even when that fails."""
        for settings in (*self._all_settings(), *self.neutral):
            ends = []
            for evaluates in (False, True):
                weight = _start()
                strategy = self.build([weight], "adam", **settings)
                for epoch in range(15):
                    _train_epoch(strategy, partial(_logistic, weight), epoch, 1)
                    if not evaluates:
                        continue
                    trained = weight.detach().clone()
                    with pytest.raises(RuntimeError, match="no scores"):
                        self._fail_to_evaluate(strategy)
                    assert torch.equal(weight, trained), settings
                ends.append(weight.detach().clone())
            assert torch.equal(*ends), settings

    def test_continues_to_the_bit_from_its_state(self) -> None:
        for settings in self._all_settings():
            weight = _start()
            strategy = self.build([weight], "adam", **settings)
            _train_epoch(strategy, partial(_logistic, weight), 0, 4)
            saved = copy.deepcopy(
                (weight.detach(), strategy.optimizer.state_dict(), dict(strategy.state_dict()))
            )
            _train_epoch(strategy, partial(_logistic, weight), 1, 4)

            again = _start()
            again.data.copy_(saved[0])
            other = self.build([again], "adam", **settings)
            other.optimizer.load_state_dict(saved[1])
            other.load_state_dict(saved[2])
            _train_epoch(other, partial(_logistic, again), 1, 4)
            with strategy.evaluated_weights(), other.evaluated_weights():
                assert torch.equal(weight, again), settings
            assert torch.equal(weight, again), settings

    def _all_settings(self) -> Iterator[Mapping[str, Any]]:
        yield {}
        yield from self.settings

    def _fail_to_evaluate(self, strategy: GradientStrategy) -> None:
        with strategy.evaluated_weights():
            raise RuntimeError("no scores")


def _start() -> nn.Parameter:
    return nn.Parameter(torch.tensor([0.7, -0.4, 0.9]))


def _logistic(weight: Tensor) -> Tensor:
    """A loss of three weights that is not quadratic."""
    return nn.functional.softplus(-_LABELS * (_MATRIX @ weight)).mean()


def _train_epoch(strategy: GradientStrategy, loss: LossClosure, epoch: int, batches: int) -> None:
    strategy.start_epoch(epoch)
    for _ in range(batches):
        strategy.step(loss)
    strategy.end_epoch(epoch)
