"""Private parts of Optuna."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages._rdb.models import StudyModel
from optuna.storages._rdb.models import TrialIntermediateValueModel as Model
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, Trial

__all__ = [
    "FIXED_PARAMETERS",
    "FrozenStudy",
    "create_trial_once",
    "fixed_parameters",
    "storage_id",
    "write_reports",
]

FIXED_PARAMETERS = "fixed_params"
"""The system attribute in which ``Study.enqueue_trial`` keeps what a waiting trial will be given.
One that is queued with attributes of its own needs it too, for that function takes none."""


def write_reports(storage: BaseStorage, reports: Mapping[tuple[int, int], float]) -> None:
    """Write what trials reported; a report that is there already gets the new value.

    Stands in for ``BaseStorage.set_trial_intermediate_value``, which writes each report to a
    relational database in a transaction of its own. Optuna's own description of its table fits:
    ``RDBStorage`` refuses to open a database of another version.

    Args:
        storage: Any Optuna storage; all reports to a relational database go in one transaction.
        reports: The values, by the trial's id and the step.
    """
    if not isinstance(storage, RDBStorage):
        for (trial_id, step), value in reports.items():
            storage.set_trial_intermediate_value(trial_id, step, value)
        return
    rows = []
    for (trial_id, step), value in reports.items():
        stored, kind = Model.intermediate_value_to_stored_repr(value)
        place = {"trial_id": trial_id, "step": step}
        rows.append({**place, "intermediate_value": stored, "intermediate_value_type": kind})
    table: Any = Model.__table__
    replaced = table.delete().where(
        table.c.trial_id == sqlalchemy.bindparam("of_trial"),
        table.c.step == sqlalchemy.bindparam("at_step"),
    )
    with storage.engine.begin() as connection:
        connection.execute(replaced, [{"of_trial": trial, "at_step": at} for trial, at in reports])
        connection.execute(table.insert(), rows)


def create_trial_once(
    storage: BaseStorage, study_id: int, template: FrozenTrial | None = None
) -> int:
    """Begin a trial, and fail where it is not known whether that was done; its id.

    Stands in for ``BaseStorage.create_new_trial``, which a relational database makes up to five
    trials by: where the answer to a commit is lost, it tries again without looking.

    Args:
        storage: Any Optuna storage.
        study_id: Its id of the study.
        template: What the trial has from the start.

    Raises:
        StorageInternalError: If the database did not answer; the trial may be there.
    """
    if not isinstance(storage, RDBStorage):
        return storage.create_new_trial(study_id, template)
    with _create_scoped_session(storage.scoped_session) as session:
        StudyModel.find_or_raise_by_id(study_id, session, for_update=True)
        return int(storage._get_prepared_new_trial(study_id, template, session).trial_id)


def storage_id(trial: FrozenTrial | Trial) -> int:
    """What the storage that a trial was read from knows it by.

    Stands in for ``BaseStorage.get_trial_id_from_study_id_trial_number``, which asks a database for
    each trial, and for the study's own id first.
    """
    return trial._trial_id


def fixed_parameters(trial: FrozenTrial) -> dict[str, Any] | None:
    """The parameters that a trial was queued with; ``None`` of one that was not queued.

    Stands in for ``FrozenTrial.params``, which has none of them before they are suggested.
    """
    fixed: dict[str, Any] | None = trial.system_attrs.get(FIXED_PARAMETERS)
    return fixed
