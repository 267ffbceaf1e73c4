"""The record of a study: one Optuna study per cell. It is the truth about the study's trials."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.storages import BaseStorage

from mgstudy.config.study import StudyConfig
from mgstudy.data.dataset import Dataset
from mgstudy.study.definition.cell import Cell
from mgstudy.study.search.cell_record import CellRecord
from mgstudy.study.search.events import StudyListener, TrialRequest
from mgstudy.study.search.hidden import hidden_cells, parent_of
from mgstudy.study.search.rounds import with_rounds
from mgstudy.study.search.state import CellState
from mgstudy.study.search.trials import OPTUNA_STATES, OUTCOME_ATTRIBUTE, Stage, State
from mgstudy.study.storage.epoch_metrics import EpochMetrics
from mgstudy.study.storage.write_behind import frozen_studies

RETRIES_ATTRIBUTE = "mgstudy:retries"


class StudyRecord:
    """Hands out trials fairly over the cells and writes down what becomes of them.

    Args:
        config: The study.
        cells: Its cells.
        datasets: The datasets of the cells, by their level's label.
        storage: The Optuna storage of all cells.
        listeners: Told of every event, in order.
        metrics: Where what Optuna does not keep of an epoch is written; nowhere when not given.
        checkpoints: The folder of the trials' files.

    Attributes:
        parent: The study that this one was forked from.

    Raises:
        InputError: If the storage holds the study in another format, or with another space or
            training protocol.
    """

    def __init__(
        self,
        config: StudyConfig,
        cells: Iterable[Cell],
        datasets: Mapping[str, Dataset],
        storage: BaseStorage,
        listeners: Sequence[StudyListener] = (),
        metrics: EpochMetrics | None = None,
        checkpoints: Path = Path(),
    ) -> None:
        self.config = config
        self.datasets = datasets
        self.listeners = listeners
        self.storage = storage
        self.metrics = metrics
        studies = frozen_studies(storage)
        known = [study.study_name for study in studies]
        records = [
            CellRecord(config, cell, datasets[cell.dataset], storage, known, checkpoints)
            for cell in cells
        ]
        # What is there may be refused, and then nothing is made beside it.
        for record in sorted(records, key=lambda record: record.entry.study not in known):
            record.open()
        self.cells = {record.cell.key: record for record in records}
        self.parent = parent_of(studies, config.name)
        shown = [record.entry for record in self.cells.values()]
        self._hidden = hidden_cells(storage, studies, shown, config, checkpoints)
        self._settle_rounds()

    @property
    def states(self) -> list[CellState]:
        """Where every cell stands, in the order of the study file."""
        return [record.state for record in self.cells.values()]

    @property
    def every_state(self) -> list[CellState]:
        """Those, and the cells of earlier launches that this one does not ask for."""
        return [*self.states, *self._hidden]

    def remaining(self) -> int:
        """Trials still to hand out, over all cells, with their confirmation."""
        return sum(state.left + state.replicates_left for state in self.states)

    def withdraw(self) -> None:
        """Delete the Optuna studies that were made here: the launch is refused, and began none."""
        for record in self.cells.values():
            if record.is_new:
                name = record.entry.study
                self.storage.delete_study(self.storage.get_study_id_from_name(name))

    def retry_failed(self) -> int:
        """Let the trials that failed run again, before any is handed out; how many those are."""
        return sum(record.queue_failed() for record in self.cells.values())

    def next_request(
        self, fits: Callable[[CellState], bool] = lambda cell: True
    ) -> TrialRequest | None:
        """Begin the next trial; ``None`` if there is none now, which is the end unless
        ``remaining()`` counts confirmations of searches that still run, or what does not fit.

        Confirmations come first, as soon as their cell's search is over; then interrupted trials;
        then the cell that has begun the smallest share of its budget, so that all cells advance
        together and none waits for another to finish.

        Args:
            fits: Whether the cell's next trial may begin now.
        """
        for record in self.cells.values():
            state = record.state
            if state.winner is not None and state.replicates_left and fits(state):
                return record.next_replicate()
        open_cells = [r for r in self.cells.values() if r.state.left > 0 and fits(r.state)]
        if not open_cells:
            return None
        return min(open_cells, key=_turn).next_of_search()

    def recorded_step(self, trial: TrialRequest) -> int:
        """The last step that is recorded of a trial, 0 of one that has not begun."""
        return int(self.storage.get_trial(trial.storage_id).last_step or 0)

    def start(self, trial: TrialRequest) -> None:
        """The trial has a worker."""
        for listener in self.listeners:
            listener.trial_started(trial)

    def report(
        self, trial: TrialRequest, step: int, value: float, metrics: Mapping[str, float]
    ) -> bool:
        """Write down a validation, and ask the pruner whether the trial should stop; a confirmation
        never does.

        Args:
            trial: The trial.
            step: The epoch, counted from 1.
            value: The objective on the validation split.
            metrics: Everything measured in that epoch.
        """
        self.storage.set_trial_intermediate_value(trial.storage_id, step, value)
        if self.metrics is not None:
            self.metrics.add(trial.key, step, metrics)
        for listener in self.listeners:
            listener.trial_reported(trial, step, value, metrics)
        if trial.stage is Stage.CONFIRMATION or self.config.training.further_objectives:
            return False  # Optuna prunes nothing that has several objectives.
        study = self.cells[trial.cell.key].study
        so_far = copy.copy(self.storage.get_trial(trial.storage_id))
        # A trial that runs again still has what it reported before it was interrupted.
        so_far.intermediate_values = {
            earlier: value
            for earlier, value in so_far.intermediate_values.items()
            if earlier <= step
        }
        return bool(study.pruner.prune(study, so_far))

    def complete(self, trial: TrialRequest, outcome: Mapping[str, Any]) -> None:
        """The trial ran to its end; ``outcome["best_value"]`` is its best validation score."""
        self._finish(trial, State.COMPLETE, outcome)

    def prune(self, trial: TrialRequest, outcome: Mapping[str, Any]) -> None:
        """The pruner stopped the trial."""
        self._finish(trial, State.PRUNED, outcome)

    def fail(self, trial: TrialRequest, outcome: Mapping[str, Any]) -> None:
        """The trial broke; ``outcome["reason"]`` says why."""
        self._finish(trial, State.FAILED, outcome)

    def retry(self, trial: TrialRequest, cause: str, reason: str) -> bool:
        """Let a trial that was broken from outside run again, with number, parameters and
        checkpoint, unless it has used up its tries; whether it will.

        Args:
            trial: The trial.
            cause: What kind of thing broke it.
            reason: What exactly, for people.
        """
        earlier = self.retries(trial)
        if len(earlier) >= self.config.retries.max_retries:
            return False
        self.storage.set_trial_user_attr(trial.storage_id, RETRIES_ATTRIBUTE, [*earlier, cause])
        self._no_longer_at_work(trial)
        for listener in self.listeners:
            listener.trial_interrupted(trial, reason)
        return True

    def release(self) -> None:
        """Nothing that was handed out runs any more: what has not ended is interrupted."""
        for record in self.cells.values():
            record.at_work.clear()
            record.changed()

    def retries(self, trial: TrialRequest) -> list[str]:
        """What broke the trial so far, a cause for each time it runs again."""
        attributes = self.storage.get_trial(trial.storage_id).user_attrs
        return list(attributes.get(RETRIES_ATTRIBUTE, []))

    def _no_longer_at_work(self, trial: TrialRequest) -> None:
        record = self.cells[trial.cell.key]
        record.at_work.discard(trial.storage_id)
        record.changed()

    def _finish(self, trial: TrialRequest, state: State, outcome: Mapping[str, Any]) -> None:
        value = outcome["best_value"] if state is State.COMPLETE else None
        # First why, then that: a reader who sees a finished trial always finds its outcome.
        self.storage.set_trial_user_attr(trial.storage_id, OUTCOME_ATTRIBUTE, _json_like(outcome))
        if trial.stage is Stage.SEARCH:
            study = self.cells[trial.cell.key].study
            further = self.config.training.further_objectives if value is not None else ()
            measured = [_finite(outcome["best_metrics"].get(name)) for name in further]
            values = None if value is None else [value, *measured]
            study.tell(trial.number, values, state=OPTUNA_STATES[state])
        else:
            scores = None if value is None else (value,)
            self.storage.set_trial_state_values(trial.storage_id, OPTUNA_STATES[state], scores)
        self._no_longer_at_work(trial)
        self._settle_rounds()
        for listener in self.listeners:
            listener.trial_finished(trial, state, value, outcome)

    def _settle_rounds(self) -> None:
        """Give the winners the seeds that they get by now, where a confirmation goes on until it is
        decided."""
        if self.config.confirmation.up_to is None:
            return
        for state in with_rounds(self.every_state, self.config):
            record = self.cells.get(state.key)
            if record is not None and record.seeds != state.seeds:
                record.seeds = state.seeds
                record.changed()


def _turn(record: CellRecord) -> tuple[bool, float]:
    state = record.state
    return not any(trial.stale for trial in state.trials), len(state.trials) / state.budget


def _json_like(content: Any) -> Any:
    """The content with null for NaN and the infinities, which JSON has no words for."""
    if isinstance(content, Mapping):
        return {key: _json_like(value) for key, value in content.items()}
    return None if isinstance(content, float) and not math.isfinite(content) else content


def _finite(value: float | None) -> float:
    """A score as Optuna takes it: what could not be measured is worth nothing."""
    return value if value is not None and math.isfinite(value) else 0.0
