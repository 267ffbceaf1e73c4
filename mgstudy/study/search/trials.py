"""One trial, as it is recorded: where it stands, how it is called, what it cost, which is best."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, TypeVar

from optuna.trial import FrozenTrial, TrialState

from mgstudy.config.study import Budget
from mgstudy.study.storage.checkpoints import BEST_WEIGHTS, TEST_USERS

OUTCOME_ATTRIBUTE = "mgstudy:outcome"
"""User attribute of a trial that has ended: why, what it reached and what it cost."""
SEED_ATTRIBUTE = "mgstudy:seed"
"""User attribute of a replicate: its training seed."""
GPU_SECONDS = "gpu_seconds"
"""A trial's seconds times the GPUs, or the share of one, that it held; absent without GPUs."""
FIRST_FAILED_ATTRIBUTE = "failed_trial"
RETRY_HISTORY_ATTRIBUTE = "retry_history"
"""System attributes of a trial that stands for failed ones, as Optuna's own retries write them."""


class State(StrEnum):
    """Where a trial stands."""

    WAITING = "waiting"
    RUNNING = "running"
    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"

    @property
    def is_ended(self) -> bool:
        """Whether nothing more comes of the trial."""
        return self not in (State.WAITING, State.RUNNING)


class Stage(StrEnum):
    """What a trial is for."""

    SEARCH = "search"
    CONFIRMATION = "confirmation"


STATES = {
    TrialState.WAITING: State.WAITING,
    TrialState.RUNNING: State.RUNNING,
    TrialState.COMPLETE: State.COMPLETE,
    TrialState.PRUNED: State.PRUNED,
    TrialState.FAIL: State.FAILED,
}
OPTUNA_STATES = {state: optuna_state for optuna_state, state in STATES.items()}


class _Numbered(Protocol):
    @property
    def number(self) -> int: ...

    @property
    def value(self) -> float | None: ...


AnyTrial = TypeVar("AnyTrial", bound=_Numbered)


def best_of(completed: Iterable[AnyTrial]) -> AnyTrial | None:
    """The best of completed trials: the one rule, by which weights are kept and winners chosen.

    A higher value wins; of equal ones the lower number, whichever ended first.
    """
    return max(completed, key=lambda trial: (trial.value or 0.0, -trial.number), default=None)


def trial_key(cell: str, number: int, winner: int | None = None) -> str:
    """A trial's name inside its study, and the folder of its files.

    Args:
        cell: Its cell's key.
        number: Its number in the search; of a confirmation, the replicate's.
        winner: The number of the search trial that it repeats, for a confirmation. When a longer
            search finds another winner, that is confirmed beside the earlier, and nothing of the
            two is mixed.
    """
    return f"{cell}/{number}" if winner is None else f"{cell}/confirmation/{winner}/{number}"


def replaced(trials: Iterable[FrozenTrial]) -> frozenset[int]:
    """Numbers of the failed trials that others stand for, those that wait included."""
    return frozenset(
        number for trial in trials for number in trial.system_attrs.get(RETRY_HISTORY_ATTRIBUTE, ())
    )


@dataclass(frozen=True)
class Spent:
    """What trials have cost.

    Attributes:
        gradient_computations: Forward-and-backward passes.
        seconds: Of set-up, training and evaluation, summed over trials that ran side by side.
    """

    gradient_computations: int = 0
    seconds: float = 0.0

    @classmethod
    def on(cls, outcomes: Iterable[Mapping[str, Any]]) -> Spent:
        """What these trials have cost by their outcomes, pruned and failed ones included."""
        passes, seconds = 0, 0.0
        for outcome in outcomes:
            passes += int(outcome.get("gradient_computations", 0))
            seconds += sum(float(outcome[name]) for name in outcome if name.startswith("seconds_"))
        return cls(passes, seconds)

    def reaches(self, budget: Budget) -> bool:
        """Whether either limit of the budget is reached."""
        pairs = (
            (self.gradient_computations, budget.gradient_computations),
            (self.seconds, budget.seconds),
        )
        return any(limit is not None and spent >= limit for spent, limit in pairs)


@dataclass(frozen=True)
class RecordedTrial:
    """One trial that was begun.

    Attributes:
        key: Its name inside its study.
        stage: What it is for.
        number: Its number in the cell's search; of a confirmation, the replicate's.
        seed: Its training seed.
        state: Where it stands.
        value: Best validation score; ``None`` unless complete.
        parameters: Every parameter, sampled and fixed.
        outcome: Why it ended and what it cost (empty while it runs).
        values: Objective on the validation split, by epoch counted from 1.
        began: When it began, in the local time of the storage's writer; a driver's memory and its
            database note it one after the other, so that equal trials may differ in it.
        ended: When it ended, likewise; ``None`` while it runs.
        stale: Whether it waits because the driver that had begun it is gone.
        files: The folder of its files, which may be missing.
        frozen: The trial as Optuna has it.
    """

    key: str
    stage: Stage
    number: int
    seed: int
    state: State
    value: float | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    outcome: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[int, float] = field(default_factory=dict)
    began: datetime | None = field(default=None, compare=False)
    ended: datetime | None = field(default=None, compare=False)
    stale: bool = False
    files: Path = Path()
    frozen: FrozenTrial | None = field(default=None, repr=False, compare=False)

    @property
    def weights(self) -> Path:
        """Where the weights of its best epoch are, if it is complete and they are kept."""
        return self.files / BEST_WEIGHTS

    @property
    def test_users(self) -> Path:
        """Of a complete confirmation, the Parquet table of every user's test scores: ``user``, and
        a column for each metric."""
        return self.files / TEST_USERS

    @property
    def reason(self) -> str:
        """Why it has ended as it has."""
        return str(self.outcome.get("reason", "unknown"))

    @property
    def seconds(self) -> float:
        """What it has taken: set-up, training and evaluation."""
        return Spent.on([self.outcome]).seconds

    @property
    def test_metrics(self) -> Mapping[str, float]:
        """The mean of each metric over the users of the test split; empty unless it is a complete
        confirmation."""
        return self.outcome.get("test_metrics", {}) if self.state is State.COMPLETE else {}
