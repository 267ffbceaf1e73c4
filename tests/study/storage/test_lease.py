"""One driver per study, whatever machine it is on: by a file, and by a real PostgreSQL server."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from programs import started
from waiting import wait_until

from mgstudy.errors import MgstudyError
from mgstudy.study.storage.lease import SILENT_SECONDS, Driver, Lease, holder, lease
from mgstudy.urls import sqlite_url

HOLDER = """
import sys
from pathlib import Path
from mgstudy.study.storage.lease import lease

with lease(Path(sys.argv[1]), sys.argv[2], sys.argv[3]):
    print("held", flush=True)
    sys.stdin.read()
"""


def own(folder: Path) -> str:
    """The storage of a study that names none."""
    return sqlite_url(folder / "optuna.db")


@contextmanager
def other_driver(folder: Path, database: str, study: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that drives the study until it is killed."""
    with started(sys.executable, "-c", HOLDER, folder, database, study) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        yield other


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "first"


@pytest.mark.integration
def test_a_second_driver_is_refused_and_told_who_the_first_is(folder: Path) -> None:
    assert holder(folder, own(folder), "first") == Driver()
    with other_driver(folder, own(folder), "first") as other:
        assert holder(folder, own(folder), "first").is_alive
        with (
            pytest.raises(
                MgstudyError, match=rf"'first' is already .* process {other.pid} on "
            ) as caught,
            lease(folder, own(folder), "first"),
        ):
            pass
        assert caught.value.exit_code == 1
    # The system lets go of the lock of a process that dies, however it dies; who it was is still
    # known, for those who find what it left behind.
    gone = holder(folder, own(folder), "first")
    assert gone.name.startswith(f"process {other.pid} on ")
    assert not gone.is_alive
    with lease(folder, own(folder), "first"):
        now = holder(folder, own(folder), "first")
        assert now.name.startswith(f"process {os.getpid()} on ")
        assert now.is_alive
        assert not now.hangs
    assert holder(folder, own(folder), "first") == Driver()


def test_the_study_is_let_go_of_after_a_failure(folder: Path) -> None:
    with pytest.raises(ZeroDivisionError), lease(folder, own(folder), "first"):
        raise ZeroDivisionError
    assert holder(folder, own(folder), "first") == Driver()


def test_whoever_looks_at_the_same_time_is_taken_for_no_driver(folder: Path) -> None:
    with lease(folder, own(folder), "first"):
        pass
    looking = [threading.Thread(target=lambda: seen.append(holder(folder, own(folder), "first")))
               for _ in range(20)]  # fmt: skip
    seen: list[Driver] = []
    for thread in looking:
        thread.start()
    for thread in looking:
        thread.join(timeout=60)
    assert seen == [Driver()] * 20


def set_back(folder: Path, seconds: float, boot: str | None = None) -> None:
    """Make the last sign of life that old; ``boot``: as another machine's."""
    path = folder / "driver.json"
    content = json.loads(path.read_text())
    content["moved"] -= seconds
    path.write_text(json.dumps(content if boot is None else {**content, "start": boot}))
    if boot is not None:
        then = time.time() - seconds
        os.utime(path, (then, then))


@pytest.fixture
def held(folder: Path) -> Iterator[Lease]:
    with lease(folder, own(folder), "first") as held:
        yield held


@pytest.mark.integration
def test_a_driver_that_lives_and_does_not_move_hangs(folder: Path) -> None:
    with other_driver(folder, own(folder), "first"):
        set_back(folder, SILENT_SECONDS + 60)
        assert holder(folder, own(folder), "first").hangs
    # One that is gone does not hang.
    assert not holder(folder, own(folder), "first").hangs


def test_another_machine_goes_by_the_file(folder: Path, held: Lease) -> None:
    set_back(folder, 60, boot="another")
    assert 60 <= holder(folder, own(folder), "first").silent_seconds < SILENT_SECONDS
    set_back(folder, SILENT_SECONDS + 60, boot="another")
    assert holder(folder, own(folder), "first").hangs


@pytest.mark.parametrize("hours", [-5, 5])
def test_a_clock_that_was_set_makes_no_driver_hang_or_move(
    folder: Path, held: Lease, hours: int
) -> None:
    then = time.time() - 3600 * hours
    os.utime(folder / "driver.json", (then, then))
    assert 0 <= holder(folder, own(folder), "first").silent_seconds < SILENT_SECONDS
    set_back(folder, SILENT_SECONDS + 60)
    os.utime(folder / "driver.json", (then, then))
    assert holder(folder, own(folder), "first").hangs


def test_a_clock_that_was_set_back_makes_no_sign_of_the_future(folder: Path, held: Lease) -> None:
    set_back(folder, -3600, boot="another")
    assert holder(folder, own(folder), "first").silent_seconds == 0


def test_the_sign_of_life_is_renewed_no_more_often_than_said(folder: Path, held: Lease) -> None:
    set_back(folder, 1000)
    held.beat(seconds=3600)
    assert holder(folder, own(folder), "first").silent_seconds >= 1000
    held.beat(seconds=0)
    assert holder(folder, own(folder), "first").silent_seconds < 1000
    assert holder(folder, own(folder), "first").name.startswith(f"process {os.getpid()} on ")


def test_a_sign_of_life_that_cannot_be_written_or_read_stops_nobody(
    folder: Path, held: Lease
) -> None:
    (folder / "driver.json").write_text("{")
    assert holder(folder, own(folder), "first") == Driver(is_alive=True)
    shutil.rmtree(folder)
    held.beat(seconds=0)


def test_a_pipe_in_place_of_the_lock_is_not_waited_for(folder: Path) -> None:
    folder.mkdir()
    os.mkfifo(folder / "driver.lock")
    assert holder(folder, own(folder), "first") == Driver()


@pytest.mark.parametrize("kind", ["loop", "dangling", "closed"])
def test_a_lock_that_cannot_be_read_does_not_say_that_nobody_drives(
    folder: Path, kind: str
) -> None:
    folder.mkdir()
    lock = folder / "driver.lock"
    if kind == "closed":
        lock.touch(mode=0)
        if os.access(lock, os.R_OK):
            pytest.skip("root reads what is closed")
    else:
        lock.symlink_to(lock.name if kind == "loop" else "nothing")
    with pytest.raises(
        MgstudyError, match=r"driver\.lock: cannot be read: .*nobody knows"
    ) as raised:
        holder(folder, own(folder), "first")
    assert raised.value.exit_code == 1


def test_a_folder_that_cannot_be_written_to_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(MgstudyError, match=r"file/first: cannot be written to: Not a directory"),
        lease(tmp_path / "file" / "first", own(tmp_path), "first"),
    ):
        pass


@pytest.mark.integration
@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_two_workspaces_that_name_one_file_drive_its_study_once(tmp_path: Path, kind: str) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    (tmp_path / "link").symlink_to("studies")
    database, by_a_link = (f"{kind}:///{tmp_path}/{place}/of" for place in ("studies", "link"))
    with other_driver(first, database, "s"):
        for url in (database, by_a_link):
            assert holder(second, url, "s").is_alive
            with (
                pytest.raises(MgstudyError, match="'s' is already being driven from another work"),
                lease(second, url, "s"),
            ):
                pass
        with lease(second, database, "another"):
            pass
    assert not holder(second, database, "s").is_alive
    with lease(second, database, "s"):
        assert holder(first, database, "s").is_alive


# PostgreSQL: each has a folder of its own, as on machines that share none.


@pytest.fixture(scope="module")
def database(postgresql: Any) -> str:
    return str(postgresql.new_database("exclusive"))


@pytest.mark.integration
def test_a_study_is_driven_once_until_its_driver_dies(database: str, tmp_path: Path) -> None:
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    with other_driver(first, database, "tiktok"):
        with (
            pytest.raises(MgstudyError, match="'tiktok' is already being driven, perhaps on an"),
            lease(second, database, "tiktok"),
        ):
            pass
        with lease(second, database, "another"):
            pass
        # As another machine sees it, without touching the hold.
        assert holder(second, database, "tiktok") == Driver(is_alive=True)
        assert holder(second, database, "another") == Driver()
    with (
        lease(second, database, "tiktok"),
        pytest.raises(MgstudyError, match="already being driven"),
        lease(third, database, "tiktok"),
    ):
        pass
    with lease(third, database, "tiktok"):
        pass


def test_a_database_that_does_not_answer_is_named_without_its_password(folder: Path) -> None:
    url = "postgresql://me:word@127.0.0.1:9/database"
    for ask in (lease(folder, url, "tiktok").__enter__, lambda: holder(folder, url, "tiktok")):
        with pytest.raises(MgstudyError, match=r"me:\*\*\*@127.0.0.1:9.*cannot be reached"):
            ask()
    with lease(folder, own(folder), "tiktok"):
        pass


@pytest.mark.integration
def test_a_restarted_server_is_made_to_hold_the_study_again(
    postgresql: Any, database: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lost: list[MgstudyError] = []
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    with lease(here, database, "restarted", look_seconds=0.05) as held:
        held.tell(lost.append)
        postgresql.stop()
        postgresql.start()
        wait_until(lambda: holder(elsewhere, database, "restarted").is_alive)
        with (
            pytest.raises(MgstudyError, match="already being driven"),
            lease(elsewhere, database, "restarted"),
        ):
            pass
    assert lost == []
    assert "held in its database again" in caplog.text
    assert not holder(elsewhere, database, "restarted").is_alive


@pytest.mark.integration
def test_a_driver_whose_study_another_took_meanwhile_is_told(database: str, folder: Path) -> None:
    lost: list[MgstudyError] = []
    told = threading.Event()
    engine = sqlalchemy.create_engine(database.replace("postgresql:", "postgresql+psycopg:"))
    with lease(folder, database, "taken", look_seconds=0.05) as held, engine.connect() as other:
        held.tell(lambda failure: (lost.append(failure), told.set()))  # type: ignore[func-returns-value]
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
        waiting.join(timeout=60)
    engine.dispose()
    (failure,) = lost
    assert str(failure).startswith("study 'taken': another process began to drive it while")


class Tunnel:
    """A way to a server that can break on this side, of which the server does not hear.

    Args:
        port: The server's.
    """

    def __init__(self, port: int) -> None:
        self._to, self._ends = port, list[tuple[socket.socket, socket.socket]]()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._let_in, daemon=True).start()

    def cut(self) -> None:
        """Break what goes through it now."""
        ends, self._ends = self._ends, []
        self._kept = [server for _, server in ends]
        for client, _ in ends:
            client.shutdown(socket.SHUT_RDWR)

    def _let_in(self) -> None:
        while True:
            client, _ = self._listening.accept()
            ends = client, socket.create_connection(("127.0.0.1", self._to))
            self._ends.append(ends)
            for one, other in (ends, ends[::-1]):
                threading.Thread(target=self._carry, args=(one, other, ends), daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket, ends: Any) -> None:
        with suppress(OSError):
            while content := one.recv(1 << 16):
                other.sendall(content)
            if ends in self._ends:
                other.shutdown(socket.SHUT_WR)


@pytest.mark.integration
def test_a_driver_does_not_take_its_own_lost_session_for_another_driver(
    postgresql: Any, database: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lost: list[MgstudyError] = []
    tunnel = Tunnel(postgresql.port)
    through = database.replace(f":{postgresql.port}/", f":{tunnel.port}/")
    with lease(tmp_path / "here", through, "tunnel", look_seconds=0.05) as held:
        held.tell(lost.append)
        tunnel.cut()
        wait_until(lambda: lost or "held in its database again" in caplog.text)
        assert lost == []
        with (
            pytest.raises(MgstudyError, match="already being driven"),
            lease(tmp_path / "elsewhere", database, "tunnel"),
        ):
            pass
    assert not holder(tmp_path / "elsewhere", database, "tunnel").is_alive
