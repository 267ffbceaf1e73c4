"""Cells that an earlier launch began and the present one does not ask for.

They stay in the record and in every table, and count where p values are corrected: who could leave
out what does not work would find the rest significant.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from optuna.storages import BaseStorage

from mgstudy.config.study import StudyConfig
from mgstudy.private.optuna import FrozenStudy
from mgstudy.study.definition.manifest import CellEntry
from mgstudy.study.search.confirmation import replicates_of, trials_of
from mgstudy.study.search.state import CellState

CELL_ATTRIBUTE = "mgstudy:cell"
"""User attribute of a search: the levels and spaces of its cell."""
PARENT_ATTRIBUTE = "mgstudy:parent"
"""User attribute of a search that began with the trials of another study's: that study's name and
the keys of its cells."""
CONFIGURATIONS_ATTRIBUTE = "mgstudy:configurations"
"""User attribute of a search that tries another study's best configurations first: how many."""


@dataclass(frozen=True)
class Parent:
    """The study whose trials a study began with.

    Attributes:
        study: Its name.
        cells: Keys of the cells that it had begun then.
        tried: Keys of the cells that began with its best configurations, trained anew.
    """

    study: str
    cells: tuple[str, ...]
    tried: tuple[str, ...] = ()


def parent_of(studies: Iterable[FrozenStudy], name: str) -> Parent | None:
    """The study that one was forked from, if it was.

    Args:
        studies: All Optuna studies of the storage.
        name: The study's name.
    """
    prefix = f"{name}/"
    own = {s.study_name.removeprefix(prefix): s.user_attrs for s in studies
           if s.study_name.startswith(prefix)}  # fmt: skip
    tried = tuple(key for key, told in own.items() if CONFIGURATIONS_ATTRIBUTE in told)
    for attributes in own.values():
        told: Any = attributes.get(PARENT_ATTRIBUTE)
        if told is not None:
            return Parent(str(told["study"]), tuple(map(str, told["cells"])), tried)
    return None


def hidden_cells(
    storage: BaseStorage,
    studies: Sequence[FrozenStudy],
    shown: Iterable[CellEntry],
    config: StudyConfig,
    checkpoints: Path = Path(),
) -> list[CellState]:
    """The cells of a study that were begun and are not among those that are shown.

    Args:
        storage: The storage.
        studies: All of its Optuna studies.
        shown: The cells of the study as it is launched.
        config: The study.
        checkpoints: The folder of the study's trials' files.
    """
    prefix, known = f"{config.name}/", {entry.study for entry in shown}
    names = [study.study_name for study in studies]
    found = []
    for study in studies:
        described: Any = study.user_attrs.get(CELL_ATTRIBUTE)
        name = study.study_name
        if not name.startswith(prefix) or name in known or described is None:
            continue
        search = trials_of(storage, name, names)
        spaces = described["spaces"]
        entry = CellEntry(
            key=name.removeprefix(prefix),
            levels=described["levels"],
            study=name,
            budget=len(search),
            fixed={n: space for n, space in spaces.items() if not isinstance(space, dict)},
            spaces=spaces,
        )
        state = CellState.from_trials(
            entry,
            config,
            search,
            replicates_of(storage, name, names),
            runs=lambda trial: False,
            checkpoints=checkpoints,
        )
        if state.trials:
            found.append(replace(state, seeds=len(state.confirmations), is_hidden=True))
    return found
