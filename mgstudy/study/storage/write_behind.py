"""An Optuna storage that answers from memory and writes what it is told behind the caller's back.

Optuna's storages read and write their database at every report: 4 to 20 ms in which a driver of
many trials does nothing else. Here samplers and pruners read memory, and one thread writes reports
in batches. What that puts at risk is declared: at most ``SECONDS_AT_RISK`` of reports, and never a
trial that has ended, for ending one waits until everything about it is in the database.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from optuna.distributions import BaseDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from mgstudy.errors import MgstudyError
from mgstudy.study.storage.bulk_reports import Report, write_reports
from mgstudy.study.storage.storage_errors import is_lasting, is_of_storage, said

logger = logging.getLogger(__name__)

SECONDS_AT_RISK = 1.0
"""Reports older than this are in the database; a caller that is faster than it waits."""

STORAGE_PATIENCE = 600.0
"""Seconds a database that does not answer is waited for."""

_GATHERING_SECONDS = 0.2
_LONGEST_PAUSE = 5.0
Result = TypeVar("Result")


def close_storage(storage: BaseStorage) -> None:
    """Close the connections of a storage that nobody reads any more."""
    storage.remove_session()
    # What Optuna puts in front of a database to keep finished trials in memory is not told.
    database = getattr(storage, "_backend", storage)
    if isinstance(database, RDBStorage):
        database.engine.dispose()


@dataclass
class _Pending:
    """What waits to be written: the calls in order, and the reports, whose order is their step."""

    reports: dict[tuple[int, int], float]
    calls: list[Callable[[], None]]
    since: float


class WriteBehindStorage(InMemoryStorage):
    """Serves one driver, the only process that writes to the studies it opens.

    Args:
        behind: The storage that keeps everything.
        name: How messages call it.
        patience: Seconds a database that does not answer is waited for, in which the study stands
            still. Then the driver gives up, and the study can go on later.

    Attributes:
        failure: Why it gave up; from then on it takes nothing more.
    """

    def __init__(self, behind: BaseStorage, name: str, patience: float = STORAGE_PATIENCE) -> None:
        super().__init__()
        self._behind, self._name, self._patience = behind, name, patience
        self._study_behind: dict[int, int] = {}
        self._trial_behind: dict[int, int] = {}
        self._pending = _Pending({}, [], 0.0)
        self._changed = threading.Condition()
        self._writing = False
        self._urgent = False
        self._closed = False
        self.failure: MgstudyError | None = None
        self._thread = threading.Thread(target=self._write, name="storage-writer", daemon=True)
        self._thread.start()

    # Studies: few writes, each at once.

    def create_new_study(
        self, directions: Sequence[StudyDirection], study_name: str | None = None
    ) -> int:
        """Create a study here and behind."""
        behind = self._insist(lambda: self._behind.create_new_study(directions, study_name))
        study_id = super().create_new_study(directions, study_name)
        self._study_behind[study_id] = behind
        return study_id

    def get_study_id_from_name(self, study_name: str) -> int:
        """The id of a study here, which is read in whole when it is first asked for."""
        with self._lock:
            if study_name not in self._study_name_to_id:
                self._read_study(study_name)
            return super().get_study_id_from_name(study_name)

    def delete_study(self, study_id: int) -> None:
        """Delete a study here and behind."""
        self.flush()
        self._insist(lambda: self._behind.delete_study(self._study_behind[study_id]))
        super().delete_study(study_id)

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        """Set an attribute here and behind."""
        super().set_study_user_attr(study_id, key, value)
        behind = self._study_behind[study_id]
        self._insist(lambda: self._behind.set_study_user_attr(behind, key, value))

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """Set an attribute here and behind."""
        super().set_study_system_attr(study_id, key, value)
        behind = self._study_behind[study_id]
        self._insist(lambda: self._behind.set_study_system_attr(behind, key, value))

    # Trials: begun and ended at once, everything between behind.

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Begin a trial here and behind, under the same number.

        Raises:
            MgstudyError: If another process has begun one.
        """
        with self._lock:
            count = len(self._studies[study_id].trials)
            study_behind = self._study_behind[study_id]

            def create() -> FrozenTrial:
                # A try whose answer was lost may have created it all the same.
                begun = self._behind.get_all_trials(study_behind, deepcopy=False) if tries else []
                tries.append(None)
                if len(begun) > count:
                    return begun[count]
                behind = self._behind.create_new_trial(study_behind, template_trial)
                return self._behind.get_trial(behind)

            tries: list[None] = []
            created = self._insist(create)
            if created.number != count:
                raise MgstudyError(
                    f"storage {self._name}: another process writes to the study "
                    f"{self.get_study_name_from_id(study_id)!r}; stop it and launch again"
                )
            trial_id = super().create_new_trial(study_id, created)
            self._trial_behind[trial_id] = created._trial_id
            return trial_id

    def set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:
        """Set a parameter here, and soon behind."""
        super().set_trial_param(trial_id, param_name, param_value_internal, distribution)
        behind = self._trial_behind[trial_id]
        self._later(
            lambda: self._behind.set_trial_param(
                behind, param_name, param_value_internal, distribution
            )
        )

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Set an attribute here, and soon behind."""
        super().set_trial_user_attr(trial_id, key, value)
        behind = self._trial_behind[trial_id]
        self._later(lambda: self._behind.set_trial_user_attr(behind, key, value))

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Set an attribute here, and soon behind."""
        super().set_trial_system_attr(trial_id, key, value)
        behind = self._trial_behind[trial_id]
        self._later(lambda: self._behind.set_trial_system_attr(behind, key, value))

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        """Take a report down here, and soon behind."""
        super().set_trial_intermediate_value(trial_id, step, intermediate_value)
        key = (self._trial_behind[trial_id], step)
        with self._changed:
            self._wait_for_writer()
            self._begin_batch()
            self._pending.reports[key] = intermediate_value

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """Change a trial's state; one that ends is behind, with all it has, when this returns."""
        behind = self._trial_behind[trial_id]
        if not state.is_finished():
            changed = super().set_trial_state_values(trial_id, state, values)
            if changed:
                self._later(lambda: self._behind.set_trial_state_values(behind, state, values))
            return changed
        self.check_trial_is_updatable(trial_id, self.get_trial(trial_id).state)
        self.flush()

        def end() -> None:
            try:
                self._behind.set_trial_state_values(behind, state, values)
            except UpdateFinishedTrialError:
                # A try whose answer was lost.
                if self._behind.get_trial(behind).state is not state:
                    raise

        self._insist(end)
        return super().set_trial_state_values(trial_id, state, values)

    def flush(self) -> None:
        """Wait until everything is behind.

        Raises:
            MgstudyError: If the storage did not take it in the time it is waited for.
        """
        with self._changed:
            self._urgent = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._is_idle() or self.failure is not None)
            self._urgent = False
            self._raise_failure()

    def give_up(self, failure: MgstudyError) -> None:
        """Take nothing more, for this reason; may be called from any thread."""
        with self._changed:
            self.failure = failure
            self._changed.notify_all()

    def close(self) -> None:
        """Write the rest and stop; called twice, it does nothing.

        Raises:
            MgstudyError: If the storage did not take it.
        """
        if self._closed:
            return
        try:
            self.flush()
        finally:
            with self._changed:
                self._closed = True
                self._changed.notify_all()
            self._thread.join()
            close_storage(self._behind)

    def _read_study(self, study_name: str) -> None:
        behind = self._insist(lambda: self._behind.get_study_id_from_name(study_name))
        directions = self._insist(lambda: self._behind.get_study_directions(behind))
        study_id = super().create_new_study(directions, study_name)
        self._study_behind[study_id] = behind
        for key, value in self._behind.get_study_user_attrs(behind).items():
            super().set_study_user_attr(study_id, key, value)
        for key, value in self._behind.get_study_system_attrs(behind).items():
            super().set_study_system_attr(study_id, key, value)
        for trial in self._behind.get_all_trials(behind, deepcopy=False):
            trial_id = super().create_new_trial(study_id, trial)
            self._trial_behind[trial_id] = trial._trial_id

    # The writer.

    def _later(self, call: Callable[[], Any]) -> None:
        with self._changed:
            self._wait_for_writer()
            self._begin_batch()
            self._pending.calls.append(call)

    def _begin_batch(self) -> None:
        if not self._pending.reports and not self._pending.calls:
            self._pending.since = time.monotonic()
            self._changed.notify_all()

    def _wait_for_writer(self) -> None:
        """Hold a caller that is faster than the database, so that no more than declared waits."""

        def is_behind() -> bool:
            waiting = self._pending.reports or self._pending.calls
            return bool(waiting) and time.monotonic() - self._pending.since > SECONDS_AT_RISK

        while is_behind() and self.failure is None:
            self._urgent = True
            self._changed.notify_all()
            self._changed.wait(timeout=_GATHERING_SECONDS)
            self._urgent = False
        self._raise_failure()

    def _is_idle(self) -> bool:
        return not (self._writing or self._pending.reports or self._pending.calls)

    def _raise_failure(self) -> None:
        if self.failure is not None:
            raise self.failure

    def _write(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._closed or self._pending.reports or self._pending.calls
                )
                if self._closed:
                    return
                # Gathering costs nothing that was not declared, and makes batches of reports.
                self._changed.wait_for(
                    lambda: self._urgent or self._closed, timeout=_GATHERING_SECONDS
                )
                batch, self._pending = self._pending, _Pending({}, [], time.monotonic())
                self._writing = True
            try:
                self._insist(lambda batch=batch: self._write_batch(batch))  # type: ignore[misc]
            except Exception as error:  # Kept for the driver, whose thread is another.
                is_ours = isinstance(error, MgstudyError)
                failure = error if is_ours else self._cannot_be_written(error)
                with self._changed:
                    self.failure = failure  # type: ignore[assignment]
            finally:
                with self._changed:
                    self._writing = False
                    self._changed.notify_all()

    def _write_batch(self, batch: _Pending) -> None:
        while batch.calls:
            try:
                batch.calls[0]()
            except UpdateFinishedTrialError:
                logger.debug("a trial that is finished behind was written to")
            batch.calls.pop(0)
        if batch.reports:
            write_reports(self._behind, [Report(*key, v) for key, v in batch.reports.items()])
            batch.reports.clear()

    def _insist(self, operation: Callable[[], Result]) -> Result:
        """Do it, again and again while the database does not answer."""
        deadline = time.monotonic() + self._patience
        pause, warned = 0.1, False
        while True:
            self._raise_failure()
            try:
                result = operation()
            except Exception as error:
                if not is_of_storage(error):
                    raise
                if is_lasting(error) or time.monotonic() > deadline:
                    self.failure = self._cannot_be_written(error)
                    raise self.failure from error
                if not warned:
                    logger.warning("storage %s: %s; trying again", self._name, said(error))
                    warned = True
                time.sleep(pause)
                pause = min(_LONGEST_PAUSE, 2 * pause)
            else:
                if warned:
                    logger.warning("storage %s: answers again", self._name)
                return result

    def _cannot_be_written(self, error: Exception) -> MgstudyError:
        return MgstudyError(
            f"storage {self._name}: {said(error)}; what is in it is whole, and the study goes on "
            "from there when it is launched again"
        )
