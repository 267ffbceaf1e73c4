"""Where a cell stands, worked out from its trials alone.

Everything that counts, compares or shows trials reads this: the searcher that hands out the next
one, the display, ``status``, ``plan``, the report, MLflow, and what deletes checkpoints.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from mgstudy.config.study import Budget, StudyConfig
from mgstudy.study.definition.manifest import CellEntry
from mgstudy.study.search.trials import (
    OUTCOME_ATTRIBUTE,
    SEED_ATTRIBUTE,
    STATES,
    RecordedTrial,
    Spent,
    Stage,
    State,
    best_of,
    replaced,
    trial_key,
)

_ENDINGS_FIRST = (State.COMPLETE, State.PRUNED, State.FAILED, State.RUNNING, State.WAITING)


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
    def longest(self) -> RecordedTrial | None:
        """The one that took most time of all that have run to their end, replicates too."""
        whole = (trial for trial in self.every_trial() if trial.state is State.COMPLETE)
        return max(whole, key=lambda trial: trial.seconds, default=None)

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
        state, entry = STATES[trial.state], self.entry
        stale = state is State.RUNNING and not self.runs(trial)
        key = trial_key(entry.key, trial.number, winner)
        outcome = trial.user_attrs.get(OUTCOME_ATTRIBUTE, {})
        if not isinstance(outcome, Mapping):
            raise ValueError(f"the outcome of trial {key} cannot be read")
        measured: list[Any] = [*trial.intermediate_values.values()]
        score = trial.values[0] if state is State.COMPLETE and trial.values else None
        measured += [score] if state is State.COMPLETE else []
        if not all(isinstance(value, float | int) for value in measured):
            raise ValueError(f"a value of trial {key} is no number")
        return RecordedTrial(
            key=key,
            stage=Stage.SEARCH if winner is None else Stage.CONFIRMATION,
            number=trial.number,
            seed=int(trial.user_attrs.get(SEED_ATTRIBUTE, entry.levels["seed"])),
            state=State.WAITING if stale else state,
            value=score,
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
