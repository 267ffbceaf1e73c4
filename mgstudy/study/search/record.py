"""The record of a study: one Optuna study per cell. It is the truth about the study's trials."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from mgstudy.config.study import Budget, StudyConfig
from mgstudy.data.dataset import Dataset
from mgstudy.errors import InputError
from mgstudy.study.definition.cell import Cell
from mgstudy.study.running.failures import Cause
from mgstudy.study.search.confirmation import SEED_ATTRIBUTE, CellConfirmation
from mgstudy.study.search.events import Assignment, Stage, State, StudyListener
from mgstudy.study.search.retried import queue_failed, replaced
from mgstudy.study.search.samplers import (
    GRID_SAMPLERS,
    budget,
    build_pruner,
    cell_sampler,
    queue_grid,
    queue_published_defaults,
    suggest,
)
from mgstudy.study.search.spending import Spent, total_spent

CELL_ATTRIBUTE = "mgstudy:cell"
PROTOCOL_ATTRIBUTE = "mgstudy:protocol"
OUTCOME_ATTRIBUTE = "mgstudy:outcome"
RETRIES_ATTRIBUTE = "mgstudy:retries"
_OPTUNA_STATES = {
    State.WAITING: TrialState.WAITING,
    State.RUNNING: TrialState.RUNNING,
    State.COMPLETE: TrialState.COMPLETE,
    State.PRUNED: TrialState.PRUNED,
    State.FAILED: TrialState.FAIL,
}


@dataclass
class CellRecord:
    """One cell's Optuna studies and what is left of its budget.

    Attributes:
        cell: The cell.
        study: The Optuna study of its search.
        budget: Trials the search gets in all.
        confirmation: Its winner's replicates, which wait for the search.
        interrupted: Storage ids of trials begun by an earlier driver and not finished; they run
            again under the same number, with the same parameters.
        begun: Trials begun so far, finished or not, without failed ones that others stand for.
        running: Numbers of the trials of the search that this driver has handed out and not heard
            the end of.
        allowance: What its trials may cost.
        spent: What those that have finished did cost.
    """

    cell: Cell
    study: optuna.Study
    budget: int
    confirmation: CellConfirmation
    interrupted: list[int] = field(default_factory=list)
    begun: int = 0
    running: set[int] = field(default_factory=set)
    allowance: Budget = field(default_factory=Budget)
    spent: Spent = field(default_factory=Spent)

    @property
    def trials(self) -> int:
        """Trials of the search in all: its budget, or those begun once that has cost enough."""
        return self.begun if self.spent.reaches(self.allowance) else max(self.budget, self.begun)

    @property
    def left(self) -> int:
        """Trials of the search still to hand out."""
        return self.trials - self.begun + len(self.interrupted)

    def finished_counts(self) -> dict[State, int]:
        """Finished trials of the search by how they ended, without those that run again."""
        trials = self.study.get_trials(deepcopy=False)
        gone = replaced(trials)
        trials = [trial for trial in trials if trial.number not in gone]
        return {
            state: sum(trial.state is _OPTUNA_STATES[state] for trial in trials)
            for state in (State.COMPLETE, State.PRUNED, State.FAILED)
        }

    @property
    def share_begun(self) -> float:
        """Trials begun over the budget."""
        return self.begun / self.budget

    def confirm_if_over(self) -> None:
        """Choose the winner and begin its confirmation, once no trial of the search is left."""
        if self.left == 0 and not self.running:
            self.confirmation.open(best_trial(self.study.get_trials(deepcopy=False)))


class StudyRecord:
    """Hands out trials fairly over the cells and writes down what becomes of them.

    Args:
        config: The study.
        cells: Its cells.
        datasets: The datasets of the cells, by their level's label.
        storage: The Optuna storage of all cells.
        listeners: Told of every event, in order.

    Raises:
        InputError: If the storage holds the study with another space or training protocol.
    """

    def __init__(
        self,
        config: StudyConfig,
        cells: Iterable[Cell],
        datasets: Mapping[str, Dataset],
        storage: BaseStorage,
        listeners: Sequence[StudyListener] = (),
    ) -> None:
        self.config = config
        self.datasets = datasets
        self.listeners = listeners
        self.storage = storage
        self.cells: dict[str, CellRecord] = {}
        for cell in cells:
            self.cells[cell.key] = self._open(cell)

    def remaining(self) -> int:
        """Trials still to hand out, over all cells, with their confirmation."""
        return sum(record.left + record.confirmation.left for record in self.cells.values())

    def retry_failed(self) -> int:
        """Let the trials that failed run again, before any is handed out; how many those are."""
        count = 0
        for key, record in self.cells.items():
            replicates = record.confirmation.study
            queued = queue_failed(record.study)
            if replicates is not None:
                queued += queue_failed(replicates, kept_attributes=(SEED_ATTRIBUTE,))
            if queued:
                self.cells[key] = self._open(record.cell)
            count += queued
        return count

    def next_assignment(self) -> Assignment | None:
        """Begin the next trial; ``None`` if there is none now, which is the end unless
        ``remaining()`` counts confirmations of searches that still run.

        Confirmations come first, as soon as their cell's search is over; then interrupted trials;
        then the cell that has begun the smallest share of its budget, so that all cells advance
        together and none waits for another to finish.
        """
        for record in self.cells.values():
            if record.confirmation.ready:
                return record.confirmation.next_assignment()
        open_cells = [record for record in self.cells.values() if record.left > 0]
        if not open_cells:
            return None
        record = min(open_cells, key=lambda cell: (not cell.interrupted, cell.share_begun))
        if record.interrupted:
            # Optuna gives back what was sampled before, and samples only what was not.
            trial = optuna.Trial(record.study, record.interrupted.pop(0))
        else:
            trial = record.study.ask()
            record.begun += 1
        record.running.add(trial.number)
        sampled = {
            name: suggest(trial, name, space) for name, space in record.cell.searched.items()
        }
        return Assignment(
            record.cell, trial.number, trial._trial_id, {**record.cell.fixed, **sampled}
        )

    def recorded_step(self, trial: Assignment) -> int:
        """The last step that is recorded of a trial, 0 of one that has not begun."""
        return int(self.storage.get_trial(trial.storage_id).last_step or 0)

    def start(self, trial: Assignment) -> None:
        """The trial has a worker."""
        for listener in self.listeners:
            listener.trial_started(trial)

    def report(
        self, trial: Assignment, step: int, value: float, metrics: Mapping[str, float]
    ) -> bool:
        """Write down a validation, and ask the pruner whether the trial should stop; a confirmation
        never does.

        Args:
            trial: The trial.
            step: The epoch, counted from 1.
            value: The objective on the validation split.
            metrics: Everything measured in that epoch, for the listeners.
        """
        self.storage.set_trial_intermediate_value(trial.storage_id, step, value)
        for listener in self.listeners:
            listener.trial_reported(trial, step, value, metrics)
        if trial.stage is Stage.CONFIRMATION:
            return False
        study = self.cells[trial.cell.key].study
        so_far = copy.copy(self.storage.get_trial(trial.storage_id))
        # A trial that runs again still has what it reported before it was interrupted.
        so_far.intermediate_values = {
            earlier: value
            for earlier, value in so_far.intermediate_values.items()
            if earlier <= step
        }
        return bool(study.pruner.prune(study, so_far))

    def complete(self, trial: Assignment, outcome: Mapping[str, Any]) -> None:
        """The trial ran to its end; ``outcome["best_value"]`` is its best validation score."""
        self._finish(trial, State.COMPLETE, outcome)

    def prune(self, trial: Assignment, outcome: Mapping[str, Any]) -> None:
        """The pruner stopped the trial."""
        self._finish(trial, State.PRUNED, outcome)

    def fail(self, trial: Assignment, outcome: Mapping[str, Any]) -> None:
        """The trial broke; ``outcome["reason"]`` says why."""
        self._finish(trial, State.FAILED, outcome)

    def retry(self, trial: Assignment, cause: Cause, reason: str) -> bool:
        """Let a trial that was broken from outside run again, with number, parameters and
        checkpoint, unless it has used up its tries; whether it will."""
        earlier = self.retries(trial)
        if len(earlier) >= self.config.retries.max_retries:
            return False
        self.storage.set_trial_user_attr(
            trial.storage_id, RETRIES_ATTRIBUTE, [*earlier, cause.value]
        )
        record = self.cells[trial.cell.key]
        if trial.stage is Stage.SEARCH:
            record.running.discard(trial.number)
            record.interrupted.append(trial.storage_id)
        else:
            record.confirmation.interrupted.append(trial.storage_id)
        for listener in self.listeners:
            listener.trial_interrupted(trial, reason)
        return True

    def retries(self, trial: Assignment) -> list[str]:
        """What broke the trial so far, a ``Cause`` for each time it runs again."""
        attributes = self.storage.get_trial(trial.storage_id).user_attrs
        return list(attributes.get(RETRIES_ATTRIBUTE, []))

    def best(self, cell: Cell) -> FrozenTrial | None:
        """The completed trial with the best value of a cell, or ``None``."""
        return best_trial(self.cells[cell.key].study.get_trials(deepcopy=False))

    def best_checkpoints(self) -> dict[str, str | None]:
        """The checkpoint file of each cell's best trial, by the trial's key; ``None`` of a trial
        whose weights could not be written."""
        found: dict[str, str | None] = {}
        for key, record in self.cells.items():
            best = self.best(record.cell)
            if best is not None:
                outcome = best.user_attrs[OUTCOME_ATTRIBUTE]
                found[f"{key}/{best.number}"] = outcome.get("checkpoint")
        return found

    def _finish(self, trial: Assignment, state: State, outcome: Mapping[str, Any]) -> None:
        value = outcome["best_value"] if state is State.COMPLETE else None
        # First why, then that: a reader who sees a finished trial always finds its outcome.
        self.storage.set_trial_user_attr(trial.storage_id, OUTCOME_ATTRIBUTE, _json_like(outcome))
        record = self.cells[trial.cell.key]
        study = record.study if trial.stage is Stage.SEARCH else record.confirmation.study
        assert study is not None
        study.tell(trial.number, value, state=_OPTUNA_STATES[state])
        if trial.stage is Stage.SEARCH:
            record.running.discard(trial.number)
            record.spent = record.spent.plus(outcome)
            record.confirm_if_over()
        else:
            record.confirmation.finished += 1
        for listener in self.listeners:
            listener.trial_finished(trial, state, value, outcome)

    def _open(self, cell: Cell) -> CellRecord:
        name = cell_study_name(self.config.name, cell)
        study = optuna.create_study(
            study_name=name,
            storage=self.storage,
            pruner=build_pruner(self.config.pruner),
            direction="maximize",
            load_if_exists=True,
        )
        for attribute, current in (
            (CELL_ATTRIBUTE, cell.describe()),
            (PROTOCOL_ATTRIBUTE, protocol(self.config, self.datasets[cell.dataset])),
        ):
            recorded = study.user_attrs.get(attribute)
            if recorded is None:
                study.set_user_attr(attribute, current)
            elif recorded != current:
                raise InputError(
                    f"study {self.config.name!r}, cell {cell.key}: the study was begun with other "
                    f"settings ({'; '.join(_differences(recorded, current))}); "
                    "give the study another `name`, or restore the settings"
                )
        if self.config.sampler.name in GRID_SAMPLERS:
            queue_grid(
                study,
                cell,
                budget=budget(self.config, cell),
                shuffle_seed=cell.derived_seed(self.config.seed, "grid"),
            )
        elif self.config.start_with_defaults:
            queue_published_defaults(study, cell)
        known = study.get_trials(deepcopy=False)
        begun = [trial for trial in known if trial.state is not TrialState.WAITING]
        # A sampler that began anew with the same seed would propose its first parameters again.
        seed = cell.derived_seed(self.config.seed, f"sampler after {len(begun)} trials")
        gone = replaced(known)
        trials = [trial for trial in begun if trial.number not in gone]
        study.sampler = cell_sampler(self.config.sampler, cell, seed)
        record = CellRecord(
            cell=cell,
            study=study,
            budget=budget(self.config, cell),
            confirmation=CellConfirmation(self.config, cell, name, self.storage),
            interrupted=[t._trial_id for t in trials if t.state is TrialState.RUNNING],
            begun=len(trials),
            allowance=self.config.budget,
            spent=total_spent(t.user_attrs.get(OUTCOME_ATTRIBUTE, {}) for t in trials),
        )
        record.confirm_if_over()
        return record


def cell_study_name(study_name: str, cell: Cell) -> str:
    """The name of the Optuna study of a cell's search."""
    return f"{study_name}/{cell.key}"


def protocol(config: StudyConfig, dataset: Dataset) -> dict[str, Any]:
    """What makes trials of a cell comparable besides its space; it may not change in a study."""
    return {
        "training": config.training.model_dump(mode="json", exclude={"evaluation_block_size"}),
        "seed": config.seed,
        "interactions": dataset.fingerprint,
        "features": dict(dataset.feature_fingerprints),
    }


def best_trial(trials: Iterable[FrozenTrial]) -> FrozenTrial | None:
    """The completed trial with the highest value; the earliest of equal ones."""
    completed = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    return max(completed, key=lambda trial: (trial.value, -trial.number), default=None)


def _json_like(content: Any) -> Any:
    """The content with null for NaN and the infinities, which JSON has no words for."""
    if isinstance(content, Mapping):
        return {key: _json_like(value) for key, value in content.items()}
    return None if isinstance(content, float) and not math.isfinite(content) else content


def _differences(recorded: Any, current: Any, name: str = "") -> list[str]:
    if isinstance(recorded, Mapping) and isinstance(current, Mapping):
        return [
            difference
            for key in sorted({*recorded, *current})
            for difference in _differences(
                recorded.get(key), current.get(key), f"{name}.{key}".lstrip(".")
            )
        ]
    return [] if recorded == current else [f"{name}: was {recorded!r}, is {current!r}"]
