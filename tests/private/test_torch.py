"""The private doors of torch are still open: each fails here by name when a release closes it."""

from __future__ import annotations

import inspect
import sys
from typing import Any

import pytest
import torch
from programs import finished
from torch import Tensor, nn

from mgstudy.private.torch import entry_dot_products, is_differentiable_once
from mgstudy.training.optimizers.base import optimizers


def test_embedding_bag_per_sample_weights_backward_gives_the_dot_products_of_entries() -> None:
    left, right = torch.randn(3, 4), torch.randn(5, 4)
    entry_rows, columns = (torch.tensor(ids, dtype=torch.int32) for ids in ([0, 0, 2], [1, 4, 0]))
    offsets = torch.tensor([0, 2, 2, 3], dtype=torch.int32)
    found = entry_dot_products(offsets, columns, entry_rows, left, right)
    torch.testing.assert_close(found, (left @ right.t())[entry_rows.long(), columns.long()])


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 2.0 * ctx.saved_tensors[0] * gradient


class SquareOnce(Square):
    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return Square.backward(ctx, gradient)


def test_forward_cls_tells_an_operation_that_is_differentiable_once() -> None:
    x = torch.ones(2, requires_grad=True)
    assert is_differentiable_once(SquareOnce.apply(3.0 * x).sum().exp())
    assert not is_differentiable_once(Square.apply(3.0 * x).sum().exp())
    assert not is_differentiable_once(torch.ones(2))


@pytest.mark.parametrize("name", optimizers.names())
def test_steps_without_compiler_are_the_same_to_the_bit(name: str) -> None:
    part = optimizers.get(name)()
    (weight, other) = (nn.Parameter(torch.arange(12.0).reshape(3, 4) / 7) for _ in range(2))
    ours = part.build([weight])
    of_torch = type(ours).__mro__[1]
    settings = ours.defaults.keys() & inspect.signature(of_torch).parameters.keys()
    theirs = of_torch([other], **{setting: ours.defaults[setting] for setting in settings})
    for _ in range(3):
        for optimizer, trained in ((ours, weight), (theirs, other)):
            optimizer.zero_grad()
            trained.sin().square().sum().backward()
            optimizer.step()
            optimizer.load_state_dict(optimizer.state_dict())
    assert torch.equal(weight, other)


TRAIN = """
import sys
from contextlib import suppress
from mgstudy.config.training import TrainingSettings
from mgstudy.errors import InputError
from mgstudy.testing.datasets import small_dataset
from mgstudy.training.gradient.base import gradient_strategies
from mgstudy.training.optimizers.base import optimizers
from mgstudy.training.robust.base import robust_methods
from mgstudy.training.run import build_trainer

runs = [{"optimizer": name} for name in optimizers.names()]
runs += [{"gradient": name} for name in gradient_strategies.names()]
runs += [{"robust": [(name, {})]} for name in robust_methods.names()]
for run in runs:
    with suppress(InputError):  # A method that the model does not admit.
        trainer = build_trainer(small_dataset(), settings=TrainingSettings(epochs=1), **run)
        for _ in trainer.epochs():
            assert "torch._dynamo" not in sys.modules, run
"""


def test_no_training_imports_the_compiler() -> None:
    finished(sys.executable, "-c", TRAIN)
