"""The door into MLflow's private parts still opens, and still has to."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from mlflow.tracking import MlflowClient
from sqlalchemy import MetaData, create_engine

from mgstudy.errors import MgstudyError
from mgstudy.private.mlflow import move_artifacts


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace's store: two experiments of its own, each with a run and a file of it, and two
    whose files somebody wants elsewhere."""
    home = tmp_path_factory.mktemp("store")
    client = MlflowClient(f"sqlite:///{home}/mlflow.db")
    # One name begins with the other, and has a character that addresses quote.
    for place in ("mlruns/s", "mlruns/s 1", "shared/mlruns/a", "shared/b"):
        folder = home / place
        run = client.create_run(client.create_experiment(folder.name, folder.as_uri())).info.run_id
        client.log_text(run, folder.name, "file.txt")
    return home


def places(home: Path) -> list[str]:
    """Every place that the database names, in whatever table."""
    engine = create_engine(f"sqlite:///{home}/mlflow.db")
    tables = MetaData()
    tables.reflect(engine)
    with closing(sqlite3.connect(home / "mlflow.db")) as connection:
        values = [
            value
            for table in tables.tables
            for row in connection.execute(f"SELECT * FROM {table}")
            for value in row
        ]
    engine.dispose()
    return [value for value in values if isinstance(value, str) and "mlruns/s" in value]


def copied(store: Path, home: Path) -> Path:
    """A copy of the store, which names its own files, and leaves out the others'."""
    shutil.copytree(store, home, ignore=shutil.ignore_patterns("shared"))
    # MLflow itself would go on in the folder that it was copied from.
    assert places(home) == places(store)
    assert all(str(store) in place for place in places(home))
    move_artifacts(home)
    return home


def check_own(home: Path, has_files: bool = True) -> None:
    """Old files and new ones are those of this folder."""
    assert len(places(home)) == 4
    assert all(f"{home}/" in place for place in places(home))
    client = MlflowClient(f"sqlite:///{home}/mlflow.db")
    experiment = client.get_experiment_by_name("s 1")
    (run,) = client.search_runs([experiment.experiment_id])
    kept = Path(unquote(urlsplit(run.info.artifact_uri).path))
    assert (kept / "file.txt").is_file() is has_files
    new = client.create_run(experiment.experiment_id).info.run_id
    client.log_text(new, "more", "more.txt")
    assert (home / "mlruns" / "s 1" / new / "artifacts" / "more.txt").read_text() == "more"


def test_artifacts_of_a_copy_are_its_own(store: Path, tmp_path: Path) -> None:
    files = sorted(store.rglob("*"))
    check_own(copied(store, tmp_path / "copy"))
    assert sorted(store.rglob("*")) == files


def test_what_cannot_be_named_anew_is_not_used(store: Path, tmp_path: Path) -> None:
    """Where a copy may only be read, for example: artifacts would go to the folder it is of."""
    home = tmp_path / "copy"
    shutil.copytree(store, home)
    with closing(sqlite3.connect(home / "mlflow.db")) as connection, connection:
        connection.execute(
            "CREATE TRIGGER closed BEFORE UPDATE ON runs BEGIN SELECT RAISE(ABORT, 'closed'); END"
        )
    with pytest.raises(MgstudyError, match=rf"still names {store.as_uri()}/mlruns/s.*: closed$"):
        move_artifacts(home)
    assert places(home) == places(store)


@pytest.mark.parametrize("has_files", [True, False])
def test_nothing_is_written_to_where_a_workspace_was(
    has_files: bool, store: Path, tmp_path: Path
) -> None:
    before, after = copied(store, tmp_path / "before"), tmp_path / "after"
    before.rename(after)
    if not has_files:
        shutil.rmtree(after / "mlruns")
    move_artifacts(after)
    check_own(after, has_files)
    assert not before.exists()


def test_artifacts_that_someone_wants_elsewhere_stay_there(store: Path, tmp_path: Path) -> None:
    home = copied(store, tmp_path / "home")
    with closing(sqlite3.connect(home / "mlflow.db")) as connection:
        where = dict(connection.execute("SELECT name, artifact_location FROM experiments"))
    assert where["a"] == (store / "shared" / "mlruns" / "a").as_uri()
    assert where["b"] == (store / "shared" / "b").as_uri()


def test_a_workspace_that_a_link_leads_to_is_one(store: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(store)
    known = places(store)
    move_artifacts(tmp_path / "link")
    assert places(store) == known


@pytest.mark.parametrize("content", [None, b"", b"no database at all"])
def test_what_is_no_store_yet_stays_as_it_is(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "mlflow.db").write_bytes(content)
    move_artifacts(tmp_path)
    assert (tmp_path / "mlflow.db").exists() is (content is not None)


def test_a_location_that_is_none_is_left_to_mlflow(store: Path, tmp_path: Path) -> None:
    shutil.copy(store / "mlflow.db", tmp_path / "mlflow.db")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
        database.execute("UPDATE experiments SET artifact_location = 'http://[::1'")
    known = places(tmp_path)
    move_artifacts(tmp_path)
    assert places(tmp_path) == known
