"""The record of one cell: its Optuna studies, and which of their trials are at work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState

from mgstudy.config.study import StudyConfig
from mgstudy.data.dataset import Dataset
from mgstudy.errors import InputError
from mgstudy.private.optuna import fixed_parameters, storage_id
from mgstudy.study.definition.cell import Cell
from mgstudy.study.definition.manifest import FORMAT, CellEntry
from mgstudy.study.definition.optuna_parts import GRID_SAMPLERS, build_pruner
from mgstudy.study.search.confirmation import (
    begin_replicate,
    confirmed_trials,
    open_confirmation,
    replicate_seed,
)
from mgstudy.study.search.events import Replicate, TrialRequest
from mgstudy.study.search.hidden import CELL_ATTRIBUTE
from mgstudy.study.search.samplers import (
    cell_sampler,
    queue_failed,
    queue_grid,
    queue_published_defaults,
    shared_configuration,
    suggest,
)
from mgstudy.study.search.state import CellState
from mgstudy.study.search.trials import SEED_ATTRIBUTE

FORMAT_ATTRIBUTE = "mgstudy:format"
PROTOCOL_ATTRIBUTE = "mgstudy:protocol"


class CellRecord:
    """One cell's Optuna studies, and which of their trials this driver has at work.

    Args:
        config: The study.
        cell: The cell.
        dataset: The dataset of its level.
        storage: Where its Optuna studies are.
        known: Names of all Optuna studies there.
        checkpoints: The folder of the study's trials' files.

    Attributes:
        study: The Optuna study of its search, once it is opened.
        is_new: Whether that was made here.
        at_work: Storage ids of the trials that this driver has handed out and not heard the end of.
        seeds: Replicates that the winner gets by now.
    """

    study: optuna.Study

    def __init__(
        self,
        config: StudyConfig,
        cell: Cell,
        dataset: Dataset,
        storage: BaseStorage,
        known: Sequence[str],
        checkpoints: Path,
    ) -> None:
        self.config, self.cell = config, cell
        self.entry = CellEntry.of(config.name, cell, cell.budget(config.trials))
        self.is_new = False
        self.at_work: set[int] = set()
        self.seeds = config.confirmation.seeds
        self._settings = search_settings(config, cell, dataset)
        self._storage = storage
        self._is_known = self.entry.study in known
        # The Optuna studies of replicates, by the number of the trial they repeat.
        self._confirmed = {
            winner: storage.get_study_id_from_name(name)
            for winner, name in confirmed_trials(self.entry.study, known).items()
        }
        self._checkpoints = checkpoints
        self._state: CellState | None = None

    def open(self) -> None:
        """Open the search's Optuna study, made when it is missing.

        Raises:
            InputError: If it is of another format, or was begun with another space or protocol.
        """
        config, cell, name = self.config, self.cell, self.entry.study
        if outdated := self.is_outdated():
            self._storage.delete_study(self._storage.get_study_id_from_name(name))
        self.is_new = outdated or not self._is_known
        if self.is_new:
            directions = [StudyDirection.MAXIMIZE for _ in config.training.objectives]
            self._storage.create_new_study(directions, name)
        # ``optuna.create_study`` would open the storage twice more for every cell.
        self.study = optuna.Study(
            name,
            self._storage,
            cell_sampler(config.sampler, cell, cell.derived_seed(config.seed, "sampler")),
            build_pruner(config.pruner),
        )
        for attribute in self._settings.keys() - self.study.user_attrs:
            self.study.set_user_attr(attribute, self._settings[attribute])
        if config.sampler.name in GRID_SAMPLERS:
            shuffle_seed = cell.derived_seed(config.seed, "grid")
            queue_grid(self.study, cell, self.entry.budget, shuffle_seed)
        elif config.start_with_defaults and not config.search.paired:
            queue_published_defaults(self.study, cell)

    def is_outdated(self) -> bool:
        """Whether the Optuna study was made with other settings, and no trial was begun with them.

        Raises:
            InputError: If one was begun.
        """
        if not self._is_known:
            return False
        study_id = self._storage.get_study_id_from_name(self.entry.study)
        recorded = self._storage.get_study_user_attrs(study_id)
        written = recorded.get(FORMAT_ATTRIBUTE)
        differences = [
            difference
            for attribute, current in self._settings.items()
            if attribute in recorded
            for difference in _differences(recorded[attribute], current)
        ]
        if not differences and (not recorded or written):
            return False
        trials = self._storage.get_all_trials(study_id, deepcopy=False)
        if all(trial.state is TrialState.WAITING for trial in trials):
            return True
        where = f"study {self.config.name!r}, cell {self.cell.key}"
        if written != FORMAT:
            raise InputError(
                f"{where}: its storage has format {written or 'none'}, and this version of "
                f"mgstudy goes on with {FORMAT}; use the version that began it, or give the "
                "study another `name`"
            )
        raise InputError(
            f"{where}: the study was begun with other settings ({'; '.join(differences)}); "
            "give the study another `name`, or restore the settings"
        )

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
        count = queue_failed(self._storage, self._storage.get_study_id_from_name(self.entry.study))
        best = self.state.best
        if best is not None and best.number in self._confirmed:
            count += queue_failed(self._storage, self._confirmed[best.number])
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


def search_settings(config: StudyConfig, cell: Cell, dataset: Dataset) -> dict[str, Any]:
    """The user attributes of a cell's search: what may not change once a trial is begun.

    Args:
        config: The study.
        cell: The cell.
        dataset: The dataset of its level.
    """
    return {
        FORMAT_ATTRIBUTE: FORMAT,
        CELL_ATTRIBUTE: cell.describe(),
        PROTOCOL_ATTRIBUTE: protocol(config, dataset),
    }


def protocol(config: StudyConfig, dataset: Dataset) -> dict[str, Any]:
    """What makes trials of a cell comparable besides its space; it may not change in a study."""
    return {
        "training": config.training.model_dump(
            mode="json",
            exclude={
                "evaluation_block_size",
                *(() if config.training.further_objectives else ("further_objectives",)),
            },
        ),
        "seed": config.seed,
        "interactions": dataset.fingerprint,
        "features": dict(dataset.feature_fingerprints),
        **(
            {}
            if dataset.observed_fingerprint is None
            else {"lacking": dataset.observed_fingerprint}
        ),
    }


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
