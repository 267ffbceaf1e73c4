"""Write many reports of trials in one transaction, where a storage is a database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy
from optuna.storages import BaseStorage, RDBStorage

# Optuna's own description of its table, at whose version RDBStorage refuses to open another.
from optuna.storages._rdb.models import TrialIntermediateValueModel as Model


class Report(NamedTuple):
    """The value a trial reported for a step."""

    trial_id: int
    step: int
    value: float


def write_reports(storage: BaseStorage, reports: Sequence[Report]) -> None:
    """Write reports; one that is there already gets the new value.

    Args:
        storage: Any Optuna storage. Optuna writes a report in a transaction of its own; for a
            relational database this writes all of them in one.
        reports: No two for the same trial and step.
    """
    if not isinstance(storage, RDBStorage):
        for report in reports:
            storage.set_trial_intermediate_value(*report)
        return
    table: Any = Model.__table__
    rows = []
    for report in reports:
        stored, kind = Model.intermediate_value_to_stored_repr(report.value)
        rows.append(
            {
                "trial_id": report.trial_id,
                "step": report.step,
                "intermediate_value": stored,
                "intermediate_value_type": kind,
            }
        )
    replaced = table.delete().where(
        table.c.trial_id == sqlalchemy.bindparam("of_trial"),
        table.c.step == sqlalchemy.bindparam("at_step"),
    )
    with storage.engine.begin() as connection:
        connection.execute(
            replaced, [{"of_trial": report.trial_id, "at_step": report.step} for report in reports]
        )
        connection.execute(table.insert(), rows)
