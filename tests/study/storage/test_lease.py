"""One driver per study, whatever machine it is on, held by a real PostgreSQL server."""

from __future__ import annotations

import sys
import threading
from typing import Any

import pytest
import sqlalchemy
from programs import started
from waiting import wait_until

from mgstudy.errors import InputError, MgstudyError
from mgstudy.study.storage.lease import is_driven_anywhere, only_driver, refuse_local_file

pytestmark = pytest.mark.integration

HOLDER = """
import sys
from mgstudy.study.storage.lease import only_driver
with only_driver(sys.argv[1], sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def database(postgresql: Any) -> str:
    return str(postgresql.new_database("exclusive"))


def test_a_study_is_driven_once_until_its_driver_dies(database: str) -> None:
    with started(sys.executable, "-c", HOLDER, database, "tiktok") as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(MgstudyError, match="'tiktok' is already being driven, perhaps on an"),
            only_driver(database, "tiktok"),
        ):
            pass
        with only_driver(database, "another"):
            pass
        # As another machine sees it, without touching the hold.
        assert is_driven_anywhere(database, "tiktok")
        assert not is_driven_anywhere(database, "another")
    with (
        only_driver(database, "tiktok"),
        pytest.raises(MgstudyError, match="already being driven"),
        only_driver(database, "tiktok"),
    ):
        pass
    with only_driver(database, "tiktok"):
        pass


def test_what_goes_wrong_inside_is_not_taken_for_the_lock(database: str) -> None:
    with pytest.raises(KeyError, match="a bug"), only_driver(database, "tiktok"):
        raise KeyError("a bug")


def test_a_database_that_does_not_answer_is_named_without_its_password() -> None:
    url = "postgresql://me:word@127.0.0.1:9/database"
    with (
        pytest.raises(MgstudyError, match=r"me:\*\*\*@127.0.0.1:9.*cannot be reached"),
        only_driver(url, "tiktok"),
    ):
        pass


def test_a_sqlite_file_is_refused_on_several_nodes_only() -> None:
    refuse_local_file("sqlite:////tmp/x.db", 1)
    refuse_local_file("postgresql://host/database", 2)
    with pytest.raises(InputError, match=r"has 2 nodes.*SQLite.*postgresql://"):
        refuse_local_file("sqlite:////tmp/x.db", 2)


def test_a_restarted_server_is_made_to_hold_the_study_again(
    postgresql: Any, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    lost: list[MgstudyError] = []
    with only_driver(database, "restarted", look_seconds=0.05) as hold:
        hold.tell(lost.append)
        postgresql.stop()
        postgresql.start()
        wait_until(lambda: is_driven_anywhere(database, "restarted"))
        with (
            pytest.raises(MgstudyError, match="already being driven"),
            only_driver(database, "restarted"),
        ):
            pass
    assert lost == []
    assert "held in its database again" in caplog.text
    assert not is_driven_anywhere(database, "restarted")


def test_a_driver_whose_study_another_took_meanwhile_is_told(database: str) -> None:
    lost: list[MgstudyError] = []
    told = threading.Event()
    engine = sqlalchemy.create_engine(database.replace("postgresql:", "postgresql+psycopg:"))
    with only_driver(database, "taken", look_seconds=0.05) as hold, engine.connect() as other:
        hold.tell(lambda failure: (lost.append(failure), told.set()))  # type: ignore[func-returns-value]
        # Another stands in the queue for the lock, and the server cuts the holder's connection.
        ((holder, high, low),) = other.execute(
            sqlalchemy.text(
                "SELECT pid, classid::bigint, objid::bigint FROM pg_locks"
                " WHERE locktype = 'advisory' AND granted"
            )
        ).all()
        key = (high << 32 | low) - (2**64 if high >= 2**31 else 0)
        with engine.connect() as killer:
            waiting = threading.Thread(
                target=other.execute,
                args=(sqlalchemy.text("SELECT pg_advisory_lock(:key)"), {"key": key}),
            )
            waiting.start()
            stands = sqlalchemy.text(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            )
            wait_until(lambda: killer.execute(stands).scalar())
            killer.execute(sqlalchemy.text("SELECT pg_terminate_backend(:pid)"), {"pid": holder})
        assert told.wait(60)
        waiting.join()
    engine.dispose()
    (failure,) = lost
    assert str(failure).startswith("study 'taken': another process began to drive it while")
