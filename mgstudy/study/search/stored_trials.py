"""The Optuna studies of a study as lines of JSON, to be carried to another storage or name."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.exceptions import DuplicatedStudyError
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from mgstudy.errors import InputError
from mgstudy.study.search.trials import OUTCOME_ATTRIBUTE
from mgstudy.study.storage.checkpoints import CheckpointFolder
from mgstudy.study.storage.optuna_storage import opened_storage, quiet_optuna

_FILES = ("checkpoint", "test_users")
"""Of an outcome: where files of the trial lie."""

Line = dict[str, Any]


def stored_studies(storage: BaseStorage, name: str) -> dict[str, int]:
    """The Optuna studies of a study's cells and their confirmations, by what follows the study's
    name, to the storage's ids."""
    prefix = f"{name}/"
    return {
        study.study_name.removeprefix(prefix): study._study_id
        for study in storage.get_all_studies()
        if study.study_name.startswith(prefix)
    }


def stored_lines(storage: BaseStorage, name: str) -> Iterator[Line]:
    """Every Optuna study of a study, each followed by its trials; nothing in it names a place.

    Args:
        storage: Where they are.
        name: The study's name.
    """
    for study, study_id in stored_studies(storage, name).items():
        yield {
            "study": study,
            "objectives": len(storage.get_study_directions(study_id)),
            "user": storage.get_study_user_attrs(study_id),
            "system": storage.get_study_system_attrs(study_id),
        }
        for trial in storage.get_all_trials(study_id, deepcopy=False):
            yield _line(trial)


def _line(trial: FrozenTrial) -> Line:
    user = dict(trial.user_attrs)
    if isinstance(outcome := user.get(OUTCOME_ATTRIBUTE), Mapping):
        names = {name: posixpath.basename(outcome[name]) for name in _FILES if name in outcome}
        user[OUTCOME_ATTRIBUTE] = {**outcome, **names}
    return {
        "state": trial.state.name,
        "values": trial.values,
        "began": trial.datetime_start and trial.datetime_start.isoformat(),
        "ended": trial.datetime_complete and trial.datetime_complete.isoformat(),
        "params": trial.params,
        "spaces": {
            name: json.loads(distribution_to_json(space))
            for name, space in trial.distributions.items()
        },
        "steps": trial.intermediate_values,
        "user": user,
        "system": trial.system_attrs,
    }


def delete_stored(storage: BaseStorage, name: str) -> None:
    """Delete the Optuna studies of a study."""
    for study_id in stored_studies(storage, name).values():
        storage.delete_study(study_id)


@contextmanager
def stored_whole(url: str, name: str) -> Iterator[None]:
    """Leave no Optuna study of a new study in a storage if making it fails, or is interrupted: a
    launch of that name would go on with them.

    Args:
        url: Of the storage, which is open in the block only.
        name: The new study's name.

    Raises:
        InputError: If the storage has such a study.
        MgstudyError: If it cannot be opened.
    """
    taken = InputError(f"its storage has a study {name!r} already; give it another name")
    with opened_storage(url) as storage:
        if stored_studies(storage, name):
            raise taken
    try:
        yield
    except DuplicatedStudyError as error:  # Another process makes one meanwhile: some are its.
        raise taken from error
    except BaseException:
        # A storage that is away, or full, is what is told of already.
        with suppress(Exception), opened_storage(url) as storage:
            delete_stored(storage, name)
        raise


@quiet_optuna()
def store_lines(
    storage: BaseStorage, name: str, lines: Iterable[Line], files: CheckpointFolder
) -> None:
    """Write what ``stored_lines`` gives into a storage that has no study of that name, see
    ``stored_whole``.

    Args:
        storage: Where to.
        name: The study's name there.
        lines: What to write.
        files: Where the trials' files lie there.

    Raises:
        ValueError: If a line is none, or another error of what it holds.
    """
    study, study_id, number = "", -1, 0
    for line in lines:
        if "study" in line:
            study, number = line["study"], 0
            directions = [StudyDirection.MAXIMIZE] * int(line.get("objectives", 1))
            study_id = storage.create_new_study(directions, f"{name}/{study}")
            for attribute, value in line["user"].items():
                storage.set_study_user_attr(study_id, attribute, value)
            for attribute, value in line["system"].items():
                storage.set_study_system_attr(study_id, attribute, value)
        else:
            storage.create_new_trial(study_id, _trial(line, f"{study}/{number}", files))
            number += 1


def _trial(line: Line, key: str, files: CheckpointFolder) -> FrozenTrial:
    user = dict(line["user"])
    if isinstance(outcome := user.get(OUTCOME_ATTRIBUTE), Mapping):
        places = {
            name: files.location(key, posixpath.basename(outcome[name]))
            for name in _FILES
            if name in outcome
        }
        user[OUTCOME_ATTRIBUTE] = {**outcome, **places}
    trial = create_trial(
        state=TrialState[line["state"]],
        values=line["values"],
        params=line["params"],
        distributions={
            name: json_to_distribution(json.dumps(space)) for name, space in line["spaces"].items()
        },
        user_attrs=user,
        system_attrs=line["system"],
        intermediate_values={int(step): float(value) for step, value in line["steps"].items()},
    )
    trial.datetime_start, trial.datetime_complete = (
        None if line[moment] is None else datetime.fromisoformat(line[moment])
        for moment in ("began", "ended")
    )
    return trial
