"""What the trials of a cell have cost, and whether that is all the cell may spend."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mgstudy.config.study import Budget

GPU_SECONDS = "gpu_seconds"
"""A trial's seconds times the GPUs, or the share of one, that it held; absent without GPUs."""


@dataclass(frozen=True)
class Spent:
    """What finished trials cost.

    Attributes:
        gradient_computations: Forward-and-backward passes.
        seconds: Of set-up, training and evaluation, summed over trials that ran side by side.
    """

    gradient_computations: int = 0
    seconds: float = 0.0

    def plus(self, outcome: Mapping[str, Any]) -> Spent:
        """With what another trial cost, failed and pruned ones included."""
        seconds = (value for name, value in outcome.items() if name.startswith("seconds_"))
        return Spent(
            self.gradient_computations + int(outcome.get("gradient_computations", 0)),
            self.seconds + sum(float(value) for value in seconds),
        )

    def reaches(self, budget: Budget) -> bool:
        """Whether either limit of the budget is reached."""
        pairs = (
            (self.gradient_computations, budget.gradient_computations),
            (self.seconds, budget.seconds),
        )
        return any(limit is not None and spent >= limit for spent, limit in pairs)


def total_spent(outcomes: Iterable[Mapping[str, Any]]) -> Spent:
    """What all these trials cost."""
    spent = Spent()
    for outcome in outcomes:
        spent = spent.plus(outcome)
    return spent
