"""The record of one cell: its Optuna studies, and which of their trials are at work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from mgstudy.config.study import StudyConfig
from mgstudy.private.optuna import FIXED_PARAMETERS, fixed_parameters, storage_id
from mgstudy.study.definition.cell import Cell
from mgstudy.study.definition.manifest import CellEntry
from mgstudy.study.search.confirmation import begin_replicate, open_confirmation, replicate_seed
from mgstudy.study.search.events import Replicate, TrialRequest
from mgstudy.study.search.samplers import cell_sampler, shared_configuration, suggest
from mgstudy.study.search.state import CellState
from mgstudy.study.search.trials import (
    FIRST_FAILED_ATTRIBUTE,
    RETRY_HISTORY_ATTRIBUTE,
    SEED_ATTRIBUTE,
    replaced,
)


class CellRecord:
    """One cell's Optuna studies, and which of their trials this driver has at work.

    Args:
        config: The study.
        cell: The cell.
        study: The Optuna study of its search.
        storage: Where that is.
        confirmed: The Optuna studies of replicates, by the number of the trial they repeat.
        checkpoints: The folder of the study's trials' files.

    Attributes:
        at_work: Storage ids of the trials that this driver has handed out and not heard the end of.
        seeds: Replicates that the winner gets by now.
    """

    def __init__(
        self,
        config: StudyConfig,
        cell: Cell,
        study: optuna.Study,
        storage: BaseStorage,
        confirmed: Mapping[int, int],
        checkpoints: Path = Path(),
    ) -> None:
        self.config, self.cell, self.study = config, cell, study
        self.entry = CellEntry.of(config.name, cell, cell.budget(config.trials))
        self.at_work: set[int] = set()
        self.seeds = config.confirmation.seeds
        self._storage = storage
        self._confirmed = dict(confirmed)
        self._checkpoints = checkpoints
        self._state: CellState | None = None

    @property
    def state(self) -> CellState:
        """Where the cell stands."""
        if self._state is None:
            read = self._storage.get_all_trials
            state = CellState.from_trials(
                self.entry,
                self.config,
                self.study.get_trials(deepcopy=False),
                {
                    winner: read(study_id, deepcopy=False)
                    for winner, study_id in self._confirmed.items()
                },
                runs=lambda trial: storage_id(trial) in self.at_work,
                checkpoints=self._checkpoints,
            )
            self._state = replace(state, seeds=self.seeds)
        return self._state

    def changed(self) -> None:
        """A trial of the cell has begun, ended, or waits again."""
        self._state = None

    def next_of_search(self) -> TrialRequest:
        """Begin another trial of the search, or go on with one that was interrupted."""
        trials = self.study.get_trials(deepcopy=False)
        interrupted = next((trial for trial in self.state.trials if trial.stale), None)
        if interrupted is not None:
            number = interrupted.number
        else:
            queued = (trial.number for trial in trials if trial.state is TrialState.WAITING)
            number = next(queued, len(trials))
            if self.config.search.paired and number == len(trials):
                self.study.enqueue_trial(shared_configuration(self.config, self.cell, number))
        # A sampler made for this number proposes what it would have without interruptions.
        seed = self.cell.derived_seed(self.config.seed, f"trial {number}")
        self.study.sampler = cell_sampler(self.config.sampler, self.cell, seed)
        if interrupted is not None:
            begun = trials[number]
            if set(self.cell.searched) <= set(begun.params):
                # Asking anew, though for nothing, would let some samplers pass over a proposal.
                return self._request(number, storage_id(begun), begun.params)
            # Optuna gives back what was sampled before, and samples only what was not.
            trial = optuna.Trial(self.study, storage_id(begun))
            given = {*trial.relative_params, *(fixed_parameters(begun) or ())}
            for name in self.cell.searched:
                if name in begun.params and name not in given:
                    # Drawn again, so that what is drawn next is what it would have been.
                    kind = begun.distributions[name]
                    self.study.sampler.sample_independent(self.study, begun, name, kind)
        else:
            trial = self.study.ask()
        sampled = {name: suggest(trial, name, space) for name, space in self.cell.searched.items()}
        return self._request(trial.number, storage_id(trial), sampled)

    def next_replicate(self) -> TrialRequest:
        """Begin another replicate of the winner, or one that was interrupted, under its seed."""
        state = self.state
        assert state.winner is not None and state.winner.frozen is not None
        winner, params = state.winner.number, state.winner.frozen.params
        if winner not in self._confirmed:
            self._confirmed[winner] = open_confirmation(self._storage, self.entry.study, winner)
        begun = next((trial.frozen for trial in state.confirmations if trial.stale), None)
        if begun is None:
            seed = replicate_seed(self.config, self.cell, len(state.confirmations))
            study_id = self._confirmed[winner]
            begun = begin_replicate(self._storage, study_id, state.winner.frozen, seed)
        replicate = Replicate(winner, int(begun.user_attrs[SEED_ATTRIBUTE]))
        return self._request(begun.number, storage_id(begun), params, replicate)

    def queue_failed(self) -> int:
        """Let the failed trials run again, of the search and of the winner's replicates; how many
        those are. The failures stay in the record."""
        count = _queue_failed(
            self._storage, self._storage.get_study_id_from_name(self.study.study_name)
        )
        best = self.state.best
        if best is not None and best.number in self._confirmed:
            count += _queue_failed(self._storage, self._confirmed[best.number])
        self.changed()
        return count

    def _request(
        self,
        number: int,
        storage_id: int,
        parameters: Mapping[str, Any],
        replicate: Replicate | None = None,
    ) -> TrialRequest:
        self.at_work.add(storage_id)
        self.changed()
        return TrialRequest(
            self.cell, number, storage_id, {**self.cell.fixed, **parameters}, replicate
        )


def _queue_failed(storage: BaseStorage, study_id: int) -> int:
    """Queue every failed trial that no other stands for yet; how many those are.

    Optuna keeps a trial that has ended as it is, and so does its record of the failure. The trial
    runs again under a new number, with the same parameters and seed, and the failed one no longer
    counts: a cell gets as many trials as it would have had, no more and no fewer. Which trial
    stands for which is written as Optuna's own retries write it.
    """
    trials = storage.get_all_trials(study_id, deepcopy=False)
    gone = replaced(trials)
    failed = [t for t in trials if t.state is TrialState.FAIL and t.number not in gone]
    for trial in failed:
        storage.create_new_trial(study_id, _another_try(trial))
    return len(failed)


def _another_try(trial: FrozenTrial) -> FrozenTrial:
    attributes = trial.system_attrs
    return optuna.trial.create_trial(
        state=TrialState.WAITING,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs={
            name: value for name, value in trial.user_attrs.items() if name == SEED_ATTRIBUTE
        },
        system_attrs={
            FIXED_PARAMETERS: trial.params,
            FIRST_FAILED_ATTRIBUTE: attributes.get(FIRST_FAILED_ATTRIBUTE, trial.number),
            RETRY_HISTORY_ATTRIBUTE: [
                *attributes.get(RETRY_HISTORY_ATTRIBUTE, ()),
                trial.number,
            ],
        },
    )
