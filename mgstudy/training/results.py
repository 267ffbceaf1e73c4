"""What a training gives epoch by epoch, which epoch is the best, and when no more should follow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mgstudy.config.training import EarlyStopping
from mgstudy.errors import MgstudyError

StopReason = Literal["epochs", "early_stopping"]
"""Why a training is over: its epochs are used up, or its validation no longer improves."""


class DivergedError(MgstudyError):
    """The loss or the scores are no longer finite.

    Attributes:
        epoch: 0-based epoch.
        batch: 0-based batch in the epoch.
    """

    def __init__(self, what: str, epoch: int, batch: int) -> None:
        self.epoch = epoch
        self.batch = batch
        super().__init__(f"training diverged: {what} in epoch {epoch}, batch {batch}")


@dataclass(frozen=True)
class EpochResult:
    """What one epoch of training gave.

    Attributes:
        epoch: 0-based.
        loss: Mean of the batches' losses, each at the weights its batch began with; NaN for a model
            without training. (The published code logs the sum.)
        metrics: Validation metrics by name, or ``None`` if this epoch was not validated.
        is_best: Whether the objective is the best so far, so that these weights were kept.
        best_epoch: The best epoch so far, ``None`` before the first validation.
        best_value: Its objective, ``-inf`` before the first validation.
        seconds_training: Wall time of this epoch's training.
        seconds_evaluation: Wall time of this epoch's validation.
        gradient_computations: Forward-and-backward passes since the training began.
        learning_rate: The epoch's learning rate; 0 for a model without training.
        stop_reason: Why this was the last epoch, or ``None`` if more follow.
    """

    epoch: int
    loss: float
    metrics: Mapping[str, float] | None
    is_best: bool
    best_epoch: int | None
    best_value: float
    seconds_training: float
    seconds_evaluation: float
    gradient_computations: int
    learning_rate: float
    stop_reason: StopReason | None


class EarlyStopper:
    """Follows a validation metric of which larger is better.

    As in the published code, the first validation always counts as an improvement, a later one
    must be strictly better than the best, and training stops when the validations in a row without
    improvement *exceed* the patience: with a patience of 20, at the 21st. Unlike there, values are
    compared as they are rather than rounded to 4 decimals (``minimum_improvement`` sets a
    threshold), and ``minimum_epochs`` forbids stopping too early.

    Args:
        settings: The rule; ``None`` never stops and only remembers the best.

    Attributes:
        best_value: The best value so far; ``-inf`` before the first.
        best_epoch: Its 0-based epoch; ``None`` before the first.
        without_improvement: Validations since the best.
    """

    def __init__(self, settings: EarlyStopping | None) -> None:
        self.settings = settings
        self.best_value = -math.inf
        self.best_epoch: int | None = None
        self.without_improvement = 0

    def update(self, epoch: int, value: float) -> bool:
        """Take note of a validation and return whether it is the best so far."""
        threshold = 0.0 if self.settings is None else self.settings.minimum_improvement
        if value > self.best_value + threshold:
            self.best_value, self.best_epoch, self.without_improvement = value, epoch, 0
            return True
        self.without_improvement += 1
        return False

    def should_stop(self, epochs_done: int) -> bool:
        """Whether to stop, ``epochs_done`` epochs into the training."""
        return (
            self.settings is not None
            and self.without_improvement > self.settings.patience
            and epochs_done >= self.settings.minimum_epochs
        )

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs to continue exactly."""
        return {
            "best_value": self.best_value,
            "best_epoch": self.best_epoch,
            "without_improvement": self.without_improvement,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state_dict()``."""
        self.best_value = state["best_value"]
        self.best_epoch = state["best_epoch"]
        self.without_improvement = state["without_improvement"]
