"""The confirmation of a cell: its winner trained again under fresh seeds, one trial for each.

The replicates of a winner are the trials of an Optuna study of their own. Nothing is sampled or
pruned there, so that the storage is all it takes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import optuna
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from mgstudy.config.study import StudyConfig
from mgstudy.fingerprint import fingerprint
from mgstudy.private.optuna import storage_id
from mgstudy.study.search.trials import SEED_ATTRIBUTE

if TYPE_CHECKING:
    from mgstudy.study.definition.cell import Cell


def confirmation_study_name(search_name: str, winner: int) -> str:
    """The name of the Optuna study that holds the replicates of one winner of a cell."""
    return f"{search_name}/confirmation/{winner}"


def search_of(name: str) -> str:
    """The search that an Optuna study belongs to, itself or as replicates of one of its winners;
    the inverse of ``confirmation_study_name``."""
    search, is_confirmation, winner = name.rpartition("/confirmation/")
    return search if is_confirmation and winner.isdecimal() else name


def confirmed_trials(search_name: str, study_names: Sequence[str]) -> dict[int, str]:
    """The trials of a search that were ever confirmed, to the Optuna studies of their replicates.

    Args:
        search_name: Name of the search's Optuna study.
        study_names: Those of all studies in the storage.
    """
    prefix = confirmation_study_name(search_name, 0)[:-1]
    found = {name.removeprefix(prefix): name for name in study_names if name.startswith(prefix)}
    return {int(number): name for number, name in found.items() if number.isdecimal()}


def trials_of(storage: BaseStorage, study: str, known: Collection[str]) -> list[FrozenTrial]:
    """The trials of an Optuna study; none of one that is not there.

    Args:
        storage: Where it is.
        study: Its name.
        known: Names of all Optuna studies there.
    """
    if study not in known:
        return []
    return storage.get_all_trials(storage.get_study_id_from_name(study), deepcopy=False)


def replicates_of(
    storage: BaseStorage, search_name: str, known: Sequence[str]
) -> dict[int, list[FrozenTrial]]:
    """The replicates of every trial of a search that was ever confirmed, by its number.

    Args:
        storage: Where they are.
        search_name: Name of the search's Optuna study.
        known: Names of all Optuna studies there.
    """
    confirmed = confirmed_trials(search_name, known)
    return {winner: trials_of(storage, name, known) for winner, name in confirmed.items()}


def open_confirmation(storage: BaseStorage, search_name: str, winner: int) -> int:
    """The storage's id of the study of a winner's replicates, made when it is missing."""
    name = confirmation_study_name(search_name, winner)
    try:
        return storage.get_study_id_from_name(name)
    except KeyError:
        return storage.create_new_study([StudyDirection.MAXIMIZE], name)


def begin_replicate(
    storage: BaseStorage, study_id: int, winner: FrozenTrial, seed: int
) -> FrozenTrial:
    """Begin another replicate of a winner, or one that waits to run again, under the seed it had.

    Args:
        storage: Where the study is.
        study_id: Of the winner's replicates.
        winner: The winner.
        seed: The training seed of another replicate.
    """
    waiting = storage.get_all_trials(study_id, deepcopy=False, states=(TrialState.WAITING,))
    if waiting:
        trial_id = storage_id(waiting[0])
        storage.set_trial_state_values(trial_id, TrialState.RUNNING)
    else:
        template = optuna.trial.create_trial(
            state=TrialState.RUNNING,
            params=winner.params,
            distributions=winner.distributions,
            user_attrs={SEED_ATTRIBUTE: seed},
        )
        trial_id = storage.create_new_trial(study_id, template)
    return storage.get_trial(trial_id)


def replicate_seed(config: StudyConfig, cell: Cell, replicate: int) -> int:
    """The 32-bit training seed of a replicate.

    It depends on the study's seed, the cell and the replicate alone, so that adding a cell changes
    no other cell's seeds; with ``shared`` seeds, not on the cell either.
    """
    purpose = f"confirmation {replicate}"
    if config.confirmation.shared:
        return int(fingerprint({"study_seed": config.seed, "purpose": purpose})[:8], 16)
    return cell.derived_seed(config.seed, purpose)
