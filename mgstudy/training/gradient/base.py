"""How the optimizer is driven: the interface of every gradient strategy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, ClassVar, TypeAlias

from torch import Tensor, nn
from torch.optim import Optimizer

from mgstudy.config.parameters import ParameterSet, Value
from mgstudy.errors import InputError
from mgstudy.registry import Registry

LossClosure: TypeAlias = Callable[[], Tensor]
"""Computes the loss on the current batch, with the same negatives on every call; random parts of
the model (dropout) are drawn anew. It only computes: the strategy calls ``backward``."""


class GradientStrategy(ABC):
    """Takes one training step per batch, given a closure of the loss on that batch.

    It knows neither the model nor the loss: only the closure, the parameters and the optimizer,
    so it works in anyone's own training loop::

        strategy = MirrorGradient(optimizer, interval=3, alpha2=0.2)
        for epoch in range(epochs):
            strategy.start_epoch(epoch)
            for batch in loader:
                loss = strategy.step(lambda: criterion(model(batch)))

    Args:
        optimizer: Any torch optimizer over the parameters to train.
        parameters: An instance of the class's ``Parameters``.
        clip_norm: Clip the gradient to this global norm before a step; ``None`` for never.
        **settings: The same by name, instead of ``parameters``; what is left out has its default.

    Raises:
        InputError: If a setting is unknown or out of range, as it is said of a study file.
    """

    name: ClassVar[str]

    class Parameters(ParameterSet):
        """The strategy's own settings."""

    def __init__(
        self,
        optimizer: Optimizer,
        parameters: ParameterSet | None = None,
        clip_norm: float | None = None,
        **settings: Value,
    ) -> None:
        owner = f"gradient strategy {self.name}"
        if parameters is None:
            parameters = self.Parameters.validated(owner, settings)
        elif settings:
            raise InputError(f"{owner}: give either parameters or {', '.join(settings)}")
        self.optimizer = optimizer
        self.parameters = parameters
        self.clip_norm = clip_norm

    @property
    def trained(self) -> list[nn.Parameter]:
        """The parameters the optimizer updates, in its order."""
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def backward(self, loss: LossClosure, scale: float = 1.0) -> Tensor:
        """Set every gradient to that of ``scale * loss`` at the current parameters.

        Returns:
            The loss itself, unscaled and detached.
        """
        self.optimizer.zero_grad()
        value = loss()
        (value if scale == 1.0 else scale * value).backward()
        return value.detach()

    def update(self) -> None:
        """Clip the gradients if that was asked for, and let the optimizer take its step."""
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.trained, self.clip_norm)
        self.optimizer.step()

    def descend(self, loss: LossClosure) -> Tensor:
        """Take an ordinary step and return the loss it began with, detached."""
        value = self.backward(loss)
        self.update()
        return value

    def start_epoch(self, epoch: int) -> None:
        """Called before the first batch of every epoch (0-based)."""

    @abstractmethod
    def step(self, loss: LossClosure) -> Tensor:
        """Train on one batch and return the loss at the parameters it began with, detached."""

    def end_epoch(self, epoch: int) -> None:
        """Called after the last batch of every epoch (0-based), before it is evaluated."""

    def evaluated_weights(self) -> AbstractContextManager[None]:
        """Inside it the parameters hold the weights to evaluate and to keep as the best; after it
        they hold the weights that are being trained, untouched."""
        return nullcontext()

    @classmethod
    def epochs(cls, parameters: ParameterSet, epochs: int) -> int:
        """Epochs to train when a configuration asks for ``epochs``."""
        return epochs

    @classmethod
    def computations_per_batch(cls, parameters: ParameterSet) -> float:
        """Forward-and-backward passes per batch, on average over a long epoch."""
        return 1.0

    def state_dict(self) -> Mapping[str, Any]:
        """What a checkpoint needs to continue exactly, beyond the optimizer's own state."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state_dict()``."""


@contextmanager
def values_replaced(parameters: Sequence[Tensor], values: Sequence[Tensor]) -> Iterator[None]:
    """Let each parameter hold another tensor inside the ``with`` block, without copying either."""
    originals = [weight.data for weight in parameters]
    for weight, value in zip(parameters, values, strict=True):
        weight.data = value
    try:
        yield
    finally:
        for weight, original in zip(parameters, originals, strict=True):
            weight.data = original


gradient_strategies: Registry[GradientStrategy] = Registry(
    kind="gradient strategy",
    base=GradientStrategy,  # type: ignore[type-abstract]
    package="mgstudy.training.gradient",
    entry_point_group="mgstudy.gradient_strategies",
)
"""Every gradient strategy that is installed."""
