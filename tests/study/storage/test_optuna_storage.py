from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import optuna
import pytest

from mgstudy.errors import InputError, MgstudyError
from mgstudy.study.storage.optuna_storage import (
    check_storage_url,
    open_storage,
    quiet_optuna,
    refuse_local_file,
    try_storage,
)
from mgstudy.urls import sqlite_url


def test_a_new_file_is_made_with_a_write_ahead_log(tmp_path: Path) -> None:
    path = tmp_path / "new" / "study.db"
    storage = open_storage(sqlite_url(path))
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    # A reader does not wait for a writer in the middle of a transaction.
    study = optuna.create_study(storage=storage, study_name="a")
    with sqlite3.connect(path, isolation_level=None) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE studies SET study_name = 'b'")
        reader = open_storage(sqlite_url(path), create=False)
        assert [found.study_name for found in reader.get_all_studies()] == [study.study_name]
        writer.execute("ROLLBACK")


def test_a_file_that_should_be_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(MgstudyError, match=r"study\.db does not exist"):
        open_storage(sqlite_url(tmp_path / "study.db"), create=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("create", [False, True])
def test_a_storage_that_is_away_is_not_begun_anew_where_it_was(
    tmp_path: Path, create: bool
) -> None:
    (tmp_path / "disk").mkdir()
    for name, target in (("lost", "disk/study.db"), ("loop", "loop")):
        (tmp_path / name).symlink_to(target)
        with pytest.raises(MgstudyError, match=f"{name}: cannot be read: the link leads nowhere"):
            open_storage(sqlite_url(tmp_path / name), create)
    assert list((tmp_path / "disk").iterdir()) == []


def test_a_file_that_is_no_database_is_said(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    path.write_text("not a database, but long enough to look at" * 10)
    with pytest.raises(MgstudyError, match=r"cannot be opened: .*not a database") as caught:
        open_storage(sqlite_url(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("lines", ['{"op_code": 99, "worker_id": "x"}', '{"a": 1}', "{}\n[]"])
def test_lines_that_no_journal_has_are_said(tmp_path: Path, lines: str) -> None:
    path = tmp_path / "study.log"
    path.write_text(f"{lines}\n")
    with pytest.raises(MgstudyError, match="cannot be opened: its lines are not those of a jour"):
        open_storage(f"journal:///{path}")
    with pytest.raises(InputError, match="cannot be opened: its lines are not those of a jour"):
        try_storage(f"journal:///{path}")


@pytest.mark.parametrize("scheme", ["sqlite", "journal"])
@pytest.mark.parametrize("create", [False, True])
def test_a_pipe_in_place_of_a_storage_is_not_waited_for(
    tmp_path: Path, scheme: str, create: bool
) -> None:
    os.mkfifo(tmp_path / "study.log")
    with pytest.raises(MgstudyError, match=r"cannot be opened: .*is a pipe, socket or device"):
        open_storage(f"{scheme}:///{tmp_path / 'study.log'}", create)


def test_variables_hide_no_mistake_of_a_study_file() -> None:
    for right in (
        "${STORAGE}",
        "postgresql://me:${PASSWORD}@${HOST}:$PORT/${DATABASE}",
        "sqlite:///${HOME}/study.db",
    ):
        check_storage_url(right)
    for wrong, said in (
        ("mysql://me:${PASSWORD}@host/database", "write `storage: postgresql://"),
        ("postgresql//me:${PASSWORD}@host/database", "is not a database URL"),
    ):
        with pytest.raises(InputError, match=said):
            check_storage_url(wrong)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("user:secret@host/database", "is not a database URL such as"),
        ("postgresql//user:secret@host/database", "is not a database URL such as"),
        ("nosuchdb://user:secret@host/database", "studies are kept in .*; in nosuchdb, two"),
        ("mysql://user:secret@host/database", "two drivers.* write `storage: postgresql://"),
        ("mariadb+pymysql://user:secret@host/d", "two drivers.* write `storage: postgresql://"),
        ("oracle://user:secret@host", "studies are kept in .*; in oracle, two drivers"),
        ("postgresql+nosuchdriver://user:secret@host/d", "needs a driver that is not installed"),
    ],
)
def test_a_wrong_url_is_refused_without_its_password(url: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        open_storage(url)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_sqlite_file_is_refused_on_several_nodes_only() -> None:
    refuse_local_file("sqlite:////tmp/x.db", 1)
    refuse_local_file("postgresql://host/database", 2)
    with pytest.raises(InputError, match=r"has 2 nodes.*SQLite.*postgresql://"):
        refuse_local_file("sqlite:////tmp/x.db", 2)


def test_optuna_is_quiet_for_as_long_as_it_is_said() -> None:
    before = optuna.logging.get_verbosity()
    try:
        for level, meanwhile in (("INFO", "WARNING"), ("ERROR", "ERROR")):
            optuna.logging.set_verbosity(getattr(optuna.logging, level))
            with pytest.raises(ZeroDivisionError), quiet_optuna():
                assert optuna.logging.get_verbosity() == getattr(optuna.logging, meanwhile)
                raise ZeroDivisionError
            assert optuna.logging.get_verbosity() == getattr(optuna.logging, level)
        open_storage("sqlite:///:memory:")
        assert optuna.logging.get_verbosity() == optuna.logging.ERROR
    finally:
        optuna.logging.set_verbosity(before)
