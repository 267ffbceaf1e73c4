"""An Optuna storage that answers from memory and writes what it is told behind the caller's back.

Optuna's storages read and write their database at every report: 4 to 20 ms in which a driver of
many trials does nothing else. Here samplers and pruners read memory, and one thread writes reports
in batches. What that puts at risk is declared: at most ``SECONDS_AT_RISK`` of reports, and never a
trial that has ended, for ending one waits until everything about it is in the database.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from typing import Any, NoReturn

from optuna.distributions import BaseDistribution
from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from mgstudy.errors import MgstudyError
from mgstudy.private.optuna import FrozenStudy, create_trial_once
from mgstudy.study.storage.optuna_storage import close_storage, open_storage
from mgstudy.study.storage.storage_writer import StorageWriter
from mgstudy.urls import redacted

STORAGE_PATIENCE = 600.0
"""Seconds a database that does not answer is waited for."""


def open_driven_storage(url: str, patience: float = STORAGE_PATIENCE) -> WriteBehindStorage:
    """Open the storage of a study to drive it.

    Args:
        url: As in ``open_storage``.
        patience: Seconds a database that does not answer is waited for.

    Raises:
        InputError: If ``url`` is not a storage's URL or its driver is not installed.
        MgstudyError: If the storage cannot be opened.
    """
    return WriteBehindStorage(open_storage(url), redacted(url), patience)


def frozen_studies(storage: BaseStorage) -> list[FrozenStudy]:
    """All Optuna studies that a storage holds."""
    if isinstance(storage, WriteBehindStorage):
        return storage.studies_behind()
    return storage.get_all_studies()


def study_names(storage: BaseStorage) -> list[str]:
    """Names of all Optuna studies that a storage holds."""
    return [study.study_name for study in frozen_studies(storage)]


class WriteBehindStorage(InMemoryStorage):
    """Serves one driver, the only process that writes to the studies it opens.

    Args:
        behind: The storage that keeps everything.
        name: How messages call it.
        patience: Seconds a database that does not answer is waited for, in which the study stands
            still. Then the driver gives up, and the study can go on later.

    Attributes:
        writer: The thread that writes to what keeps everything.
    """

    def __init__(self, behind: BaseStorage, name: str, patience: float = STORAGE_PATIENCE) -> None:
        super().__init__()
        self._behind, self._name = behind, name
        self.writer = StorageWriter(behind, name, patience)
        self._study_behind: dict[int, int] = {}
        self._trial_behind: dict[int, int] = {}
        self._alone = threading.RLock()

    def __getstate__(self) -> NoReturn:
        raise TypeError("a driver's storage has no copies: each would write to the same database")

    def studies_behind(self) -> list[FrozenStudy]:
        """All studies behind, also those that were not read yet."""
        return self.writer.now(self._behind.get_all_studies)

    # Studies: few writes, each at once.

    def create_new_study(
        self, directions: Sequence[StudyDirection], study_name: str | None = None
    ) -> int:
        """Create a study here and behind."""
        tries: list[None] = []

        def create() -> int:
            tries.append(None)
            try:
                return self._behind.create_new_study(directions, study_name)
            except DuplicatedStudyError:
                # A try whose answer was lost.
                if study_name is None or len(tries) == 1:
                    raise
                return self._behind.get_study_id_from_name(study_name)

        behind = self.writer.now(create)
        if study_name is None:
            study_name = self.writer.now(lambda: self._behind.get_study_name_from_id(behind))
        study_id = super().create_new_study(directions, study_name)
        self._study_behind[study_id] = behind
        return study_id

    def get_study_id_from_name(self, study_name: str) -> int:
        """The id of a study here, which is read in whole when it is first asked for."""
        with self._alone:
            try:
                return super().get_study_id_from_name(study_name)
            except KeyError:
                return self._read_study(study_name)

    def delete_study(self, study_id: int) -> None:
        """Delete a study here and behind."""
        self.writer.flush()
        self.writer.now(lambda: self._behind.delete_study(self._study_behind[study_id]))
        super().delete_study(study_id)

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        """Set an attribute here and behind."""
        super().set_study_user_attr(study_id, key, value)
        behind = self._study_behind[study_id]
        self.writer.now(lambda: self._behind.set_study_user_attr(behind, key, value))

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """Set an attribute here and behind."""
        super().set_study_system_attr(study_id, key, value)
        behind = self._study_behind[study_id]
        self.writer.now(lambda: self._behind.set_study_system_attr(behind, key, value))

    # Trials: begun and ended at once, everything between behind.

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Begin a trial here and behind, under the same number.

        Raises:
            MgstudyError: If another process has begun one.
        """
        with self._alone:
            number = self.get_n_trials(study_id)
            study_behind = self._study_behind[study_id]
            tries: list[None] = []

            def create() -> tuple[int, FrozenTrial]:
                # A try whose answer was lost may have created it all the same.
                there = self._behind.get_n_trials(study_behind) if tries else 0
                tries.append(None)
                trial_behind = (
                    self._behind.get_trial_id_from_study_id_trial_number(study_behind, number)
                    if there > number
                    else create_trial_once(self._behind, study_behind, template_trial)
                )
                return trial_behind, self._behind.get_trial(trial_behind)

            trial_behind, created = self.writer.now(create)
            if created.number != number:
                raise MgstudyError(
                    f"storage {self._name}: another process writes to the study "
                    f"{self.get_study_name_from_id(study_id)!r}; stop it and launch again"
                )
            trial_id = super().create_new_trial(study_id, created)
            self._trial_behind[trial_id] = trial_behind
            return trial_id

    def set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:
        """Set a parameter here, and soon behind."""
        parameter = (param_name, param_value_internal, distribution)
        super().set_trial_param(trial_id, *parameter)
        behind = self._trial_behind[trial_id]
        self.writer.later(lambda: self._behind.set_trial_param(behind, *parameter))

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Set an attribute here, and soon behind."""
        super().set_trial_user_attr(trial_id, key, value)
        behind = self._trial_behind[trial_id]
        self.writer.later(lambda: self._behind.set_trial_user_attr(behind, key, value))

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Set an attribute here, and soon behind."""
        super().set_trial_system_attr(trial_id, key, value)
        behind = self._trial_behind[trial_id]
        self.writer.later(lambda: self._behind.set_trial_system_attr(behind, key, value))

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        """Take a report down here, and soon behind."""
        super().set_trial_intermediate_value(trial_id, step, intermediate_value)
        self.writer.report(self._trial_behind[trial_id], step, intermediate_value)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """Change a trial's state; one that ends is behind, with all it has, when this returns."""
        self.check_trial_is_updatable(trial_id, self.get_trial(trial_id).state)
        behind = self._trial_behind[trial_id]
        if not state.is_finished():
            changed = super().set_trial_state_values(trial_id, state, values)
            if changed:
                self.writer.later(
                    lambda: self._behind.set_trial_state_values(behind, state, values)
                )
            return changed
        self.writer.flush()

        def end() -> None:
            try:
                self._behind.set_trial_state_values(behind, state, values)
            except UpdateFinishedTrialError:
                # A try whose answer was lost.
                if self._behind.get_trial(behind).state is not state:
                    raise

        self.writer.now(end)
        return super().set_trial_state_values(trial_id, state, values)

    def close(self) -> None:
        """Write the rest and stop; called twice, it does nothing.

        Raises:
            MgstudyError: If the storage did not take it.
        """
        try:
            self.writer.close()
        finally:
            close_storage(self._behind)

    def _read_study(self, study_name: str) -> int:
        """Read a study that is behind; its id here.

        Raises:
            KeyError: If there is none of that name.
        """
        now, storage = self.writer.now, self._behind
        number_behind = storage.get_trial_id_from_study_id_trial_number
        behind = now(lambda: storage.get_study_id_from_name(study_name))
        directions = now(lambda: storage.get_study_directions(behind))
        user_attributes = now(lambda: storage.get_study_user_attrs(behind))
        system_attributes = now(lambda: storage.get_study_system_attrs(behind))
        trials = now(lambda: storage.get_all_trials(behind, deepcopy=False))
        study_id = super().create_new_study(directions, study_name)
        for key, value in user_attributes.items():
            super().set_study_user_attr(study_id, key, value)
        for key, value in system_attributes.items():
            super().set_study_system_attr(study_id, key, value)
        self._study_behind[study_id] = behind
        for trial in trials:
            trial_id = super().create_new_trial(study_id, trial)
            if not trial.state.is_finished():
                self._trial_behind[trial_id] = now(partial(number_behind, behind, trial.number))
        return study_id
