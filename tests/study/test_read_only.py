"""A workspace that may only be read: someone else's, or a file system mounted so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import optuna
import pytest
from disks import read_only, small_disk

from mgstudy.errors import MgstudyError
from mgstudy.study.storage.layout import StudyFolder
from mgstudy.study.storage.lease import Driver, holder, lease
from mgstudy.study.storage.optuna_storage import close_storage, open_storage
from mgstudy.urls import sqlite_url


@pytest.fixture
def views(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """One folder under two paths, the second of which may only be read."""
    folder, view = tmp_path / "folder", tmp_path / "view"
    with read_only(folder, view):
        yield folder, view


def test_a_study_that_may_only_be_read_is_read(views: tuple[Path, Path]) -> None:
    ours, theirs = (StudyFolder(view / "s") for view in views)
    ours.path.mkdir()
    storage = open_storage(sqlite_url(ours.path / "optuna.db"))
    study = optuna.create_study(storage=storage, study_name="s/cell")
    url = sqlite_url(ours.path / "optuna.db")
    with lease(ours.path, url, "s"):
        # What is read is in the write-ahead log, which SQLite empties when the last one closes.
        study.add_trial(optuna.create_trial(value=0.25))
        assert (ours.path / "optuna.db-wal").stat().st_size > 0
        assert holder(theirs.path, url, "s").is_alive
        reader = open_storage(sqlite_url(theirs.path / "optuna.db"), create=False)
        assert [t.value for t in optuna.load_study(study_name="s/cell", storage=reader).trials] == [
            0.25
        ]
    assert holder(theirs.path, url, "s") == Driver()
    with (
        pytest.raises(MgstudyError, match=r"s: cannot be written to: Read-only file system"),
        lease(theirs.path, url, "s"),
    ):
        pass


def test_a_study_on_a_full_disk_is_read(tmp_path: Path) -> None:
    with small_disk(tmp_path / "full", "2m") as full:
        url = sqlite_url(full / "optuna.db")
        storage = open_storage(url)
        optuna.create_study(storage=storage, study_name="s").add_trial(
            optuna.create_trial(value=0.25)
        )
        close_storage(storage)
        with suppress(OSError), (full / "rest").open("wb", buffering=0) as rest:
            while rest.write(bytes(4096)):
                pass
        reader = open_storage(url, create=False)
        (trial,) = optuna.load_study(study_name="s", storage=reader).trials
        assert trial.value == 0.25
        close_storage(reader)
