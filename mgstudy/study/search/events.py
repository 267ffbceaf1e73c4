"""What happens in a study, told to whoever listens: the terminal display, MLflow, tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mgstudy.config.parameters import Value
from mgstudy.study.definition.cell import Cell
from mgstudy.study.search.trials import Stage, State, trial_key


@dataclass(frozen=True)
class Replicate:
    """What a confirmation trial repeats.

    Attributes:
        winner: The number of the search trial whose parameters it has.
        seed: The training seed that it has instead of the cell's.
    """

    winner: int
    seed: int


@dataclass(frozen=True, eq=False)
class TrialRequest:
    """A trial to run: which cell, which number, which parameters, under which seed.

    Attributes:
        cell: The cell the trial belongs to.
        number: Its number in the cell's search; for a confirmation, the replicate.
        storage_id: The trial's id in the Optuna storage.
        parameters: Every parameter of the cell, sampled and fixed.
        replicate: What it repeats; ``None`` for a trial of the search.
    """

    cell: Cell
    number: int
    storage_id: int
    parameters: Mapping[str, Value]
    replicate: Replicate | None = None

    @property
    def stage(self) -> Stage:
        """What the trial is for."""
        return Stage.SEARCH if self.replicate is None else Stage.CONFIRMATION

    @property
    def seed(self) -> int:
        """The training seed: initial weights, batches, negatives."""
        return self.cell.seed if self.replicate is None else self.replicate.seed

    @property
    def key(self) -> str:
        """The trial's name inside its study, and the folder of its files."""
        winner = None if self.replicate is None else self.replicate.winner
        return trial_key(self.cell.key, self.number, winner)


class StudyListener:
    """Hears of every event in the driver's process; a listener overrides what it cares about.

    Events come from one thread, in order, when the record has them. A listener must return quickly
    and must not raise: work that can wait or fail belongs on a thread of its own.
    """

    def trial_started(self, trial: TrialRequest) -> None:
        """The trial has a worker."""

    def trial_reported(
        self, trial: TrialRequest, step: int, value: float, metrics: Mapping[str, float]
    ) -> None:
        """The trial validated.

        Args:
            trial: The trial.
            step: The epoch, counted from 1.
            value: The objective on the validation split.
            metrics: Everything measured in that epoch, by MLflow's metric names.
        """

    def trial_interrupted(self, trial: TrialRequest, reason: str) -> None:
        """The trial was broken from outside, and will run again from its last checkpoint."""

    def trial_finished(
        self, trial: TrialRequest, state: State, value: float | None, outcome: Mapping[str, Any]
    ) -> None:
        """The trial is complete, pruned or failed.

        Args:
            trial: The trial.
            state: How it ended.
            value: Its best validation score; ``None`` unless complete.
            outcome: Why it ended, and what it cost.
        """
