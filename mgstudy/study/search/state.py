"""Where a cell stands, worked out from its trials alone.

Everything that counts, compares or shows trials reads this: the searcher that hands out the next
one, the display, ``status``, ``plan``, the report, MLflow, and what deletes checkpoints.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar

from optuna.trial import FrozenTrial, TrialState

from mgstudy.config.study import Budget, StudyConfig
from mgstudy.study.definition.manifest import CellEntry
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


_STATES = {
    TrialState.WAITING: State.WAITING,
    TrialState.RUNNING: State.RUNNING,
    TrialState.COMPLETE: State.COMPLETE,
    TrialState.PRUNED: State.PRUNED,
    TrialState.FAIL: State.FAILED,
}
OPTUNA_STATES = {state: optuna_state for optuna_state, state in _STATES.items()}
_ENDINGS_FIRST = (State.COMPLETE, State.PRUNED, State.FAILED, State.RUNNING, State.WAITING)


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
    def test_metrics(self) -> Mapping[str, float]:
        """The mean of each metric over the users of the test split; empty unless it is a complete
        confirmation."""
        return self.outcome.get("test_metrics", {}) if self.state is State.COMPLETE else {}


@dataclass(frozen=True)
class CellState:
    """One cell: what was begun, what is left, what won.

    Attributes:
        key: The cell's name.
        levels: Factor to the label of its level.
        budget: Trials its search gets in all.
        searched: The parameters that are sampled.
        trials: Those of the search that were begun, by number, without failed ones that others
            stand for.
        seeds: Replicates its winner gets.
        confirmations: The replicates begun of the best trial, by number.
        superseded: Trials that were confirmed before a longer search found a better one.
        earlier: The replicates of those.
        allowance: What the trials of the search may cost.
        retried: Failed trials that others stand for, of search and confirmation; they are counted
            nowhere else.
        is_hidden: Whether the study is launched without it by now; nothing of it is left to run.
    """

    key: str
    levels: Mapping[str, str]
    budget: int
    searched: frozenset[str] = frozenset()
    trials: Sequence[RecordedTrial] = ()
    seeds: int = 0
    confirmations: Sequence[RecordedTrial] = ()
    superseded: Sequence[int] = ()
    earlier: Sequence[RecordedTrial] = ()
    allowance: Budget = field(default_factory=Budget)
    retried: Sequence[RecordedTrial] = ()
    is_hidden: bool = False

    @classmethod
    def from_trials(
        cls,
        entry: CellEntry,
        config: StudyConfig,
        search: Sequence[FrozenTrial],
        confirmations: Mapping[int, Sequence[FrozenTrial]] | None = None,
        runs: Callable[[FrozenTrial], bool] = lambda trial: True,
        checkpoints: Path = Path(),
    ) -> CellState:
        """Where a cell stands.

        Args:
            entry: The cell, as the study's manifest has it.
            config: The study.
            search: The trials of its search, as the storage has them, waiting ones included.
            confirmations: The replicates of every trial that was ever confirmed, by its number.
            runs: Whether a process is at work on a trial that was begun and has not ended; one
                that none is at work on waits to go on.
            checkpoints: The folder of the study's trials' files.
        """
        reader = _Reader(entry, runs, checkpoints)
        trials, again = reader.read(search)
        confirmed = dict(confirmations or {})
        winner = best_of(trial for trial in trials if trial.state is State.COMPLETE)
        replicates: list[RecordedTrial] = []
        if winner is not None:
            replicates, more = reader.read(confirmed.pop(winner.number, ()), winner.number)
            again += more
        superseded = sorted(confirmed)
        return cls(
            key=entry.key,
            levels=entry.levels,
            budget=entry.budget,
            searched=entry.searched,
            trials=trials,
            seeds=config.confirmation.seeds,
            confirmations=replicates,
            superseded=tuple(superseded),
            earlier=[
                trial
                for number in superseded
                for trials in reader.read(confirmed[number], number)
                for trial in trials
            ],
            allowance=config.budget,
            retried=again,
        )

    @cached_property
    def best(self) -> RecordedTrial | None:
        """The best completed trial of the search, see ``best_of``."""
        return best_of(trial for trial in self.trials if trial.state is State.COMPLETE)

    @cached_property
    def total(self) -> Spent:
        """What the trials of the search have cost, however they ended."""
        return Spent.on(trial.outcome for trial in self.trials)

    @property
    def exhausted(self) -> bool:
        """Whether the trials have cost what they may, so that no more begin."""
        return self.total.reaches(self.allowance)

    @cached_property
    def counts(self) -> dict[str, int]:
        """Trials of the search in every state; what was interrupted and what is left of the budget
        waits."""
        return _counts(self.trials, 0 if self.exhausted else self.budget)

    @cached_property
    def confirmation_counts(self) -> dict[str, int]:
        """Replicates in every state; those not begun wait, unless there is nothing to confirm."""
        nothing = self.search_finished and self.best is None
        return _counts(self.confirmations, 0 if nothing else self.seeds)

    @property
    def ended(self) -> int:
        """Trials of the search that are complete, pruned or failed."""
        return sum(trial.state.is_ended for trial in self.trials)

    @property
    def confirmed(self) -> int:
        """Replicates that have ended."""
        return sum(trial.state.is_ended for trial in self.confirmations)

    @property
    def left(self) -> int:
        """Trials of the search still to hand out, interrupted ones among them."""
        return 0 if self.is_hidden else self.counts[State.WAITING]

    @property
    def replicates_left(self) -> int:
        """Replicates still to hand out; before the search is over, at most that many."""
        return 0 if self.is_hidden else self.confirmation_counts[State.WAITING]

    @property
    def stale(self) -> int:
        """Trials of search and confirmation whose driver is gone; they wait for the next launch."""
        return sum(trial.stale for trial in (*self.trials, *self.confirmations))

    @property
    def search_finished(self) -> bool:
        """Whether nothing of the search's budget is left to run."""
        return self.is_hidden or _none_left(self.counts)

    @property
    def finished(self) -> bool:
        """Whether search and confirmation have nothing left to run."""
        return self.is_hidden or (self.search_finished and _none_left(self.confirmation_counts))

    @property
    def winner(self) -> RecordedTrial | None:
        """The trial that is confirmed: the best one, once the search is over."""
        return self.best if self.search_finished else None

    def seconds(self) -> float:
        """Seconds that the search's trials took in training, evaluation and set-up."""
        return self.total.seconds

    def spent(self, cost: str) -> float:
        """What the search's trials cost in all: ``gradient_computations`` or
        ``seconds_training``, for example."""
        return sum(float(trial.outcome.get(cost, 0)) for trial in self.trials)

    def every_trial(self) -> Sequence[RecordedTrial]:
        """All that was ever begun: search, confirmation, and what others stand for by now."""
        return (*self.trials, *self.confirmations, *self.retried, *self.earlier)


class _Reader:
    """Reads one cell's trials."""

    def __init__(
        self, entry: CellEntry, runs: Callable[[FrozenTrial], bool], checkpoints: Path
    ) -> None:
        self.entry, self.runs, self.checkpoints = entry, runs, checkpoints

    def read(
        self, trials: Sequence[FrozenTrial], winner: int | None = None
    ) -> tuple[list[RecordedTrial], list[RecordedTrial]]:
        """The trials begun, and those of them that failed and others stand for."""
        gone = replaced(trials)
        begun = [trial for trial in trials if trial.state is not TrialState.WAITING]
        kept = [self._trial(trial, winner) for trial in begun if trial.number not in gone]
        again = [self._trial(trial, winner) for trial in begun if trial.number in gone]
        return kept, again

    def _trial(self, trial: FrozenTrial, winner: int | None) -> RecordedTrial:
        state, entry = _STATES[trial.state], self.entry
        stale = state is State.RUNNING and not self.runs(trial)
        key = trial_key(entry.key, trial.number, winner)
        outcome = trial.user_attrs.get(OUTCOME_ATTRIBUTE, {})
        if not isinstance(outcome, Mapping):
            raise ValueError(f"the outcome of trial {key} cannot be read")
        measured: list[Any] = [*trial.intermediate_values.values()]
        measured += [trial.value] if state is State.COMPLETE else []
        if not all(isinstance(value, float | int) for value in measured):
            raise ValueError(f"a value of trial {key} is no number")
        return RecordedTrial(
            key=key,
            stage=Stage.SEARCH if winner is None else Stage.CONFIRMATION,
            number=trial.number,
            seed=int(trial.user_attrs.get(SEED_ATTRIBUTE, entry.levels["seed"])),
            state=State.WAITING if stale else state,
            value=trial.value if state is State.COMPLETE else None,
            parameters={**entry.fixed, **trial.params},
            outcome=outcome,
            values=trial.intermediate_values,
            began=trial.datetime_start,
            ended=trial.datetime_complete,
            stale=stale,
            files=self.checkpoints / key,
            frozen=trial,
        )


def _counts(trials: Sequence[RecordedTrial], budget: int) -> dict[str, int]:
    counted = Counter(trial.state for trial in trials)
    counted[State.WAITING] += max(0, budget - len(trials))
    return {state.value: counted[state] for state in _ENDINGS_FIRST}


def _none_left(counts: Mapping[str, int]) -> bool:
    return counts[State.WAITING] == 0 and counts[State.RUNNING] == 0
