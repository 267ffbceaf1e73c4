"""The door to what happens inside a model: hidden layers, representations and predictions.

Models pass these values through here by using what they share (``linear``, ``propagate``,
``dot_products``, ``bpr_loss``, ...), so a robust method can watch or change them without knowing
the model, and a new model gets that for free. Item features have a door of their own,
``ItemFeatures``, and so have graphs, ``propagation.entries_scaled``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import Enum
from typing import TypeAlias

from torch import Tensor


class Signal(Enum):
    """A kind of value inside a model; any of them may occur several times in one loss."""

    PROJECTION = "item features after the map to the model's own width, shape [rows, width]"
    HIDDEN = "output of a layer: a linear map or a propagation, shape [rows, width]"
    REPRESENTATION = "what a loss compares, a user or an item per row, shape [rows, width]"
    LOGITS = (
        "a distribution that a loss predicts: shape [rows], the log-odds that the positive item is "
        "preferred, or [rows, classes], softmax over the last dimension"
    )


SignalTransform: TypeAlias = Callable[[Tensor], Tensor]
"""Changes a signal's value, or notes it and returns it as it is. It must keep the shape."""

_active: ContextVar[tuple[tuple[Signal, SignalTransform], ...]] = ContextVar("_active", default=())


def passed(signal: Signal, value: Tensor) -> Tensor:
    """Pass a value through the transforms that act on its kind, and return what is left of it."""
    for acts_on, transform in _active.get():
        if acts_on is signal:
            value = transform(value)
    return value


def is_watched(signal: Signal) -> bool:
    """Whether ``passed`` would hand values of this kind to anyone. Where not, a loss may do without
    computing them."""
    return any(acts_on is signal for acts_on, _ in _active.get())


@contextmanager
def signals_transformed(signal: Signal, transform: SignalTransform) -> Iterator[None]:
    """Let ``transform`` act on a kind of signal inside the ``with`` block, after those that already
    act. Signals occur in the order in which a model computes them."""
    token = _active.set((*_active.get(), (signal, transform)))
    try:
        yield
    finally:
        _active.reset(token)


class _Notes:
    """A transform that changes nothing and remembers what it saw."""

    def __init__(self) -> None:
        self.values: list[Tensor] = []

    def __call__(self, value: Tensor) -> Tensor:
        self.values.append(value)
        return value


@contextmanager
def signals_noted(signal: Signal) -> Iterator[list[Tensor]]:
    """Note every value of a kind of signal inside the ``with`` block, in order."""
    notes = _Notes()
    with signals_transformed(signal, notes):
        yield notes.values


@contextmanager
def signals_unnoted() -> Iterator[None]:
    """Hide what happens inside the ``with`` block from ``signals_noted`` around it.

    For a loss that is computed on the way and thrown away, such as an adversary's.
    """
    token = _active.set(tuple(entry for entry in _active.get() if not isinstance(entry[1], _Notes)))
    try:
        yield
    finally:
        _active.reset(token)
