"""The private doors of Optuna are still open: each fails here by name when a release closes it."""

from __future__ import annotations

import math

import optuna
import pytest
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage
from optuna.trial import TrialState

from mgstudy.private.optuna import (
    FIXED_PARAMETERS,
    create_trial_once,
    fixed_parameters,
    storage_id,
    write_reports,
)


@pytest.mark.parametrize("make", [InMemoryStorage, lambda: RDBStorage("sqlite:///:memory:")])
def test_trial_intermediate_value_model_writes_reports_as_optuna_reads_them(make) -> None:
    storage: BaseStorage = make()
    study_id = storage.create_new_study([optuna.study.StudyDirection.MAXIMIZE])
    one, other = (storage.create_new_trial(study_id) for _ in range(2))
    storage.set_trial_intermediate_value(one, 1, 0.25)
    reports = {
        (one, 1): 0.5,
        (one, 2): math.inf,
        (one, 7): -math.inf,
        (other, 1): 1e-300,
        (other, 2): math.nan,
    }
    for _ in range(2):
        write_reports(storage, reports)
    found = {
        (trial, step): value
        for trial in (one, other)
        for step, value in storage.get_trial(trial).intermediate_values.items()
    }
    assert repr(found) == repr(reports)


@pytest.mark.parametrize("make", [InMemoryStorage, lambda: RDBStorage("sqlite:///:memory:")])
def test_get_prepared_new_trial_and_study_model_begin_a_trial_as_optuna_does(make) -> None:
    storage: BaseStorage = make()
    study_id = storage.create_new_study([optuna.study.StudyDirection.MAXIMIZE])
    queued = optuna.create_trial(state=TrialState.WAITING, system_attrs={"a": 1})
    ids = [create_trial_once(storage, study_id, template) for template in (None, queued)]
    running, waiting = map(storage.get_trial, ids)
    assert (running.number, running.state) == (0, TrialState.RUNNING)
    assert (waiting.number, waiting.state) == (1, TrialState.WAITING)
    assert waiting.system_attrs == {"a": 1}
    assert storage.get_n_trials(study_id) == 2


@pytest.mark.parametrize("make", [InMemoryStorage, lambda: RDBStorage("sqlite:///:memory:")])
def test_trial_id_is_what_the_storage_knows_a_trial_by(make) -> None:
    storage: BaseStorage = make()
    for name in ("first", "second"):
        study = optuna.create_study(storage=storage, study_name=name)
        for _ in range(2):
            trial = study.ask()
    study_id = storage.get_study_id_from_name("second")
    known = storage.get_trial_id_from_study_id_trial_number(study_id, 1)
    assert storage_id(trial) == storage_id(study.get_trials()[1]) == known


def test_fixed_params_is_what_a_trial_was_queued_with() -> None:
    study = optuna.create_study()
    study.enqueue_trial({"x": 0.5})
    (queued,) = study.get_trials()
    assert fixed_parameters(queued) == {"x": 0.5}
    assert queued.params == {}
    study.ask()
    free = study.ask()
    assert fixed_parameters(study.get_trials()[free.number]) is None


def test_fixed_params_written_by_hand_is_what_a_trial_gets() -> None:
    study = optuna.create_study()
    attributes = {FIXED_PARAMETERS: {"x": 0.5}, "mine": 1}
    study.add_trial(optuna.create_trial(state=TrialState.WAITING, system_attrs=attributes))
    assert study.ask().suggest_float("x", 0, 1) == 0.5
