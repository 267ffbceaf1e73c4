"""What a study's trained models recommend."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mgstudy.errors import InputError, MgstudyError
from mgstudy.files import content_of
from mgstudy.study.definition.study import Study, as_launched
from mgstudy.study.results.summary import summarize
from mgstudy.study.search.state import CellState
from mgstudy.tracking.models import chosen_model, ranked_lists, user_and_item_ids
from mgstudy.workspace import Workspace

_SHOWN = 3


def recommend(
    study: str,
    cell: str,
    users: Sequence[str | int] | None = None,
    k: int = 20,
    home: Path | str | None = None,
) -> pd.DataFrame:
    """The first items for users, as a cell's trained model ranks them: that of its best confirmed
    replicate, else of its best trial. Items that a user was trained on are left out.

    Args:
        study: The study's name.
        cell: The cell's key, or a part of it that no other cell has, such as ``VBPR/plain``.
        users: Users, as the raw data calls them; all when not given.
        k: Items for each user.
        home: The workspace; ``MGSTUDY_HOME`` or the current directory when not given.

    Returns:
        Columns ``user``, ``rank`` (from 1), ``item`` and ``score``: users in the order they were
        asked for, users and items as the raw data calls them.

    Raises:
        InputError: If there is no such study, cell or user, no user is asked for, or its datasets
            are no longer there.
        MgstudyError: If the cell has no trained model.
    """
    if k < 1:
        raise InputError(f"k: expected at least 1, got {k}")
    workspace = Workspace.resolve(home)
    summary = summarize(workspace, study)
    launched = as_launched(summary.manifest, summary.folder, workspace)
    state = summary.cell_of(cell)
    trained = chosen_model(launched, state)
    if trained is None:
        raise MgstudyError(
            f"cell {state.key} of study {study} has no trained model: {_lack(state, launched)}"
        )
    positions = None
    if users is not None:
        known, _ = user_and_item_ids(trained, launched)
        positions = _positions(users, known)
    return ranked_lists(trained, launched, positions, k)


def _lack(state: CellState, study: Study) -> str:
    """Why a cell has no trained model."""
    if state.is_hidden:
        return "the last launch did not ask for it; launch the study with it again"
    if state.best is None:
        return f"none of its trials is complete; `mgstudy status {study.config.name}` says why"
    return f"its weights are no longer in {study.folder.checkpoints}"


def read_users(path: Path | str) -> list[str]:
    """The users that a file names, one on each line.

    Raises:
        InputError: If there is no such file, it is no text, or it names nobody.
        MgstudyError: If it cannot be read.
    """
    try:
        content = content_of(Path(path))
        if content is None:
            raise ValueError("no such file")
        text = content.decode("utf-8-sig")
    except ValueError as error:
        raise InputError(f"{path}: cannot be read as a list of users: {error}") from error
    users = [line.strip() for line in text.split("\n") if line.strip()]
    if not users:
        raise InputError(f"{path}: names no user; expected one on each line")
    return users


def _positions(users: Sequence[str | int], known: NDArray[Any]) -> NDArray[np.int64]:
    """Ids of users that are named as the raw data does."""
    if not len(users):
        raise InputError("users: none are given; leave them out for all")
    by_name = {str(name): position for position, name in enumerate(known)}
    unknown = [str(user) for user in users if str(user) not in by_name]
    if unknown:
        named = ", ".join(unknown[:_SHOWN])
        raise InputError(
            f"the dataset knows no user {named} ({len(unknown):,} of {len(users):,} are unknown); "
            f"it has {len(known):,}, such as {known[0]}"
        )
    return np.array([by_name[str(user)] for user in users], dtype=np.int64)
