"""Who drives a study: one process at a time, whatever machine it is on, and whether it still moves.

Whether it lives is for locks to say, which the system or the database lets go of when a process
dies, and which depend on no clock: one in the study's folder, and one where its trials are, in a
PostgreSQL database or beside a file, which others reach that share no folder. When it last moved
tells of one that lives and hangs: by the time since the machine started, for whoever looks on the
same machine, since a clock may be set; by the file's own for others.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy
from filelock import FileLock, Timeout
from sqlalchemy.exc import SQLAlchemyError

from mgstudy.errors import MgstudyError
from mgstudy.files import content_of, is_there, refuse_lost_link, written_whole
from mgstudy.study.storage.database_lock import (
    end_earlier_session,
    has_locks,
    is_lock_held,
    lock_file,
    said_unreachable,
    take_lock,
)
from mgstudy.study.storage.layout import LOCK
from mgstudy.urls import redacted

logger = logging.getLogger(__name__)

BEAT_SECONDS = 10.0
"""How often a driver that moves says so."""
SILENT_SECONDS = 900.0
"""A driver that lives and has said nothing for so long is taken to hang; a database that is away
is waited for somewhat shorter."""
LOOK_SECONDS = 5.0
"""How often a driver looks whether its database still holds the study for it."""

_SIGN_OF_LIFE = "driver.json"
_HELD = {errno.EAGAIN, errno.EACCES, errno.ENOSYS}
"""What a held lock is said by; where a file system has no locks, the file itself is one."""
_LONGEST_LOOK_SECONDS = 1
_RETRY_SECONDS = 0.2
_GRACE_SECONDS = 2.0


@dataclass(frozen=True)
class Driver:
    """The process that drives a study, or did last.

    Attributes:
        name: Process, machine and since when; empty if that is not known, as after a study that
            was stopped politely, or of a driver on a machine with another copy of the workspace.
        is_alive: Whether it drives the study now.
        silent_seconds: How long ago it last moved.
    """

    name: str = ""
    is_alive: bool = False
    silent_seconds: float = 0.0

    @property
    def hangs(self) -> bool:
        """Whether it lives but does not move."""
        return self.is_alive and self.silent_seconds > SILENT_SECONDS


@contextmanager
def lease(
    folder: Path, database: str, study: str, look_seconds: float = LOOK_SECONDS
) -> Iterator[Lease]:
    """Hold a study while driving it; the system and the database let go of it when this process or
    its machine dies.

    Args:
        folder: The study's, made if it is missing.
        database: URL of the Optuna storage, with nothing left to fill in.
        study: Its name.
        look_seconds: How often to look whether the database still holds it for this process.

    Raises:
        MgstudyError: If another process, on whatever machine, drives the study, naming it where it
            is known; if the folder cannot be written to, or the database not reached.
    """
    with ExitStack() as locks:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Whoever asks who drives the study holds the lock for a moment.
            locks.enter_context(FileLock(folder / LOCK, timeout=_LONGEST_LOOK_SECONDS))
        except Timeout:
            name = _last_driver(folder, is_alive=True).name or "another process"
            raise MgstudyError(
                f"study {study!r} is already being driven by {name}; "
                f"follow it with `mgstudy status {study}`, or stop that process first"
            ) from None
        except OSError as error:
            refuse_lost_link(folder, error)
            raise MgstudyError(f"{folder}: cannot be written to: {error.strerror}") from error
        if (beside := _lock_beside(folder, database, study)) is not None:
            try:
                beside.parent.mkdir(parents=True, exist_ok=True)
                locks.enter_context(FileLock(beside, timeout=_LONGEST_LOOK_SECONDS))
            except Timeout:
                raise MgstudyError(
                    f"study {study!r} is already being driven from another workspace with the "
                    f"storage {redacted(database)}; stop that process first, or give one of them "
                    "another storage"
                ) from None
            except OSError:
                logger.debug("%s cannot be locked, and so neither be written to", beside)
        held = Lease(folder, database, study, look_seconds)
        try:
            held.begin()
            yield held
        finally:
            held.end()


class Lease:
    """A process's hold on the study it drives; made by ``lease``.

    A database server that restarts forgets it; it is taken again as soon as the server answers.
    """

    def __init__(self, folder: Path, database: str, study: str, look_seconds: float) -> None:
        self._folder, self._database, self._study = folder, database, study
        self._look_seconds = look_seconds
        self._session = f"mgstudy {os.getpid()} {secrets.token_hex(8)}"
        self._since = datetime.now(UTC).isoformat(timespec="seconds")
        self._moved = 0.0
        self._lost: MgstudyError | None = None
        self._told: list[Callable[[MgstudyError], None]] = []
        self._known = threading.Lock()
        self._ended = threading.Event()
        self._connection: sqlalchemy.Connection | None = None
        self._thread = threading.Thread(target=self._watch, name="study-lease", daemon=True)

    def beat(self, seconds: float = BEAT_SECONDS) -> None:
        """Say that the driver moves, unless it did within that time."""
        if time.monotonic() - self._moved >= seconds:
            # A disk that is full is for others to tell of.
            with suppress(MgstudyError):
                self._give_sign_of_life()

    def tell(self, on_loss: Callable[[MgstudyError], None]) -> None:
        """Have it told, from another thread, when another process has taken the study."""
        with self._known:
            self._told.append(on_loss)
            lost = self._lost
        if lost is not None:
            on_loss(lost)

    def begin(self) -> None:
        """Say who drives the study, and take it in its database.

        Raises:
            MgstudyError: As ``lease``.
        """
        self._give_sign_of_life()
        if not has_locks(self._database):
            return
        deadline = time.monotonic() + _GRACE_SECONDS
        with said_unreachable(self._database):
            # Of a process that was killed a moment ago the server hears at once, but not before.
            while not self._take() and time.monotonic() < deadline:
                self._ended.wait(_RETRY_SECONDS)
        if self._connection is None:
            raise MgstudyError(
                f"study {self._study!r} is already being driven, perhaps on another machine; on a "
                "cluster, `mgstudy jobs` shows and `mgstudy stop` ends it"
            )
        self._thread.start()

    def end(self) -> None:
        """Let go of the study."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        self._disconnect()
        (self._folder / _SIGN_OF_LIFE).unlink(missing_ok=True)

    def _give_sign_of_life(self) -> None:
        """Write who drives, and that it moves now, in one step: others read it at any time."""
        self._moved = time.monotonic()
        content = {
            "process": os.getpid(),
            "host": socket.gethostname(),
            "since": self._since,
            "start": _start_of_machine(),
            "moved": self._moved,
        }
        with written_whole(self._folder / _SIGN_OF_LIFE) as file:
            file.write(json.dumps(content).encode())

    def _take(self) -> bool:
        """Take the study in its database unless another process has it; whether it is held."""
        self._connection = take_lock(self._database, self._study, self._session)
        return self._connection is not None

    def _watch(self) -> None:
        while not self._ended.wait(self._look_seconds if self._connection else _RETRY_SECONDS):
            try:
                if self._connection is not None:
                    self._connection.execute(sqlalchemy.text("SELECT 1"))
                elif self._take():
                    logger.warning("study %r: held in its database again", self._study)
                elif not end_earlier_session(self._database, self._session):
                    self._lose()
                    return
            except SQLAlchemyError:
                self._disconnect()

    def _lose(self) -> None:
        lost = MgstudyError(
            f"study {self._study!r}: another process began to drive it while its database was "
            "away; this one stops, what is recorded is whole, and the other goes on with it"
        )
        with self._known:
            self._lost = lost
            told = tuple(self._told)
        for on_loss in told:
            on_loss(lost)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        # A connection that broke has let go already.
        with suppress(SQLAlchemyError):
            if connection is not None:
                connection.close()


def holder(folder: Path, database: str, study: str) -> Driver:
    """The process that drives a study, or did last, as anyone may ask who can read its folder.

    Args:
        folder: The study's.
        database: URL of the Optuna storage, with nothing left to fill in.
        study: Its name.

    Raises:
        MgstudyError: If that cannot be told: the lock cannot be read, or the database not reached.
    """
    beside = _lock_beside(folder, database, study)
    is_alive = (
        _is_locked(folder / LOCK)
        or (beside is not None and _is_locked(beside))
        or is_lock_held(database, study)
    )
    return _last_driver(folder, is_alive)


def _lock_beside(folder: Path, database: str, study: str) -> Path | None:
    """What locks the study beside its storage, where that lies elsewhere than its folder."""
    lock = lock_file(database, study)
    return None if lock is None or lock.parent == Path(os.path.realpath(folder)) else lock


def _last_driver(folder: Path, is_alive: bool) -> Driver:
    path = folder / _SIGN_OF_LIFE
    try:
        sign = json.loads(content_of(path) or b"")
        name = f"process {sign['process']} on {sign['host']} since {sign['since']}"
        if sign.get("start") and sign["start"] == _start_of_machine():
            silent = time.monotonic() - sign["moved"]
        else:
            # A clock that was set back must not make the sign one of the future.
            silent = max(0.0, time.time() - path.stat().st_mtime)
    except (MgstudyError, OSError, ValueError, KeyError, TypeError, RecursionError):
        return Driver(is_alive=is_alive)
    return Driver(name, is_alive, silent)


def _is_locked(path: Path) -> bool:
    """Whether a process holds a lock file, which we may perhaps only read.

    Raises:
        MgstudyError: If that cannot be told.
    """
    try:
        # What is no file, such as a pipe, is not waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not is_there(path):
            return False
        raise _unknown(path, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            return True
        raise _unknown(path, error) from error
    finally:
        os.close(descriptor)
    return False


def _unknown(path: Path, error: OSError) -> MgstudyError:
    return MgstudyError(
        f"{path}: cannot be read: {error.strerror}; nobody knows whether a process drives the "
        "study: have it readable, or delete it if none does"
    )


def _start_of_machine() -> str:
    """What tells this machine's present run from another's and from those before; empty where the
    system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
