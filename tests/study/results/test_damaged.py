"""What is read of a study whose files are damaged."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
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
    "make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), lambda path: path.mkdir()]
)
def test_what_is_no_file_is_not_waited_for_or_read_without_end(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    study = Driven(tmp_path, "s")
    for path in (study.folder.popularity, study.folder.path / "driver.json"):
        path.unlink(missing_ok=True)
        make(path)  # What can be known without it is.
    assert summarize(study.workspace, "s").popularity == {}
    for path in (study.folder.epoch_metrics, study.folder.manifest):
        path.unlink(missing_ok=True)
        make(path)
    with pytest.raises(MgstudyError, match=r"metrics\.jsonl: is a .*, expected a file"):
        list(study.metrics.read())
    with pytest.raises(MgstudyError, match=r"study\.json: is a .*, expected a file"):
        summarize(study.workspace, "s")


@pytest.mark.parametrize(
    "change",
    [
        "update trial_user_attributes set value_json = '[1]'",
        "update trial_user_attributes set value_json = 'no JSON'",
        "update trials set state = 'NEVER'",
        "update trial_values set value = 'x'",
        "update trial_values set value = null",
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


@pytest.mark.parametrize(
    "damage",
    [{"trial": 5}, {"step": "1"}, {"at": None}, {"metrics": [1]}, {"metrics": {"x": {}}}, {"y": 1}],
)
def test_a_line_that_is_no_epoch_is_said(tmp_path: Path, damage: dict[str, object]) -> None:
    study = Driven(tmp_path, "s")
    study.report(study.begin(), range(1, 3))
    head, first, second = study.folder.epoch_metrics.read_text().splitlines()
    assert len(list(study.metrics.read())) == 2
    lines = (head, json.dumps({**json.loads(first), **damage}), second)
    study.folder.epoch_metrics.write_text("".join(f"{line}\n" for line in lines))
    with pytest.raises(MgstudyError, match=r"metrics\.jsonl: cannot be read: ") as said:
        list(study.metrics.read())
    assert "\n" not in str(said.value)
