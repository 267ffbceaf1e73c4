"""What is read of a study whose files are damaged."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from driven import Driven

from mgstudy.errors import MgstudyError
from mgstudy.study.results.popularity import read_popularity
from mgstudy.study.results.summary import summarize


@pytest.mark.parametrize(
    "content", ["", "{", "5", "[]", '{"a": 5}', '{"a": {"measured": {}, "scores": {"test": 5}}}']
)
def test_scores_of_popularity_of_another_shape_are_none(tmp_path: Path, content: str) -> None:
    study = Driven(tmp_path, "s")
    study.folder.popularity.write_text(content)
    assert read_popularity(study.folder) == {}


@pytest.mark.parametrize(
    "change",
    [
        "update trial_user_attributes set value_json = '[1]'",
        "update trial_user_attributes set value_json = 'no JSON'",
        "update trials set state = 'NEVER'",
        "update trial_values set value = 'x'",
        "delete from trial_values",
        "update trial_intermediate_values set intermediate_value = 'x'",
    ],
)
def test_a_damaged_storage_is_said_to_be(tmp_path: Path, change: str) -> None:
    study = Driven(tmp_path, "s")
    study.complete(study.begin())
    with closing(sqlite3.connect(study.folder.path / "optuna.db")) as database:
        database.execute(change)
        database.commit()
    with pytest.raises(MgstudyError, match=r"^storage sqlite:.*optuna\.db cannot be read: \w+: "):
        summarize(study.workspace, "s")
