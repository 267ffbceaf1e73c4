"""Keep a study to one driver when its workspace and its database are reached by many machines."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import sqlalchemy
from sqlalchemy.exc import SQLAlchemyError

from mgstudy.errors import InputError, MgstudyError
from mgstudy.study.storage.optuna_storage import parse_storage_url
from mgstudy.urls import first_line, redacted

logger = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
"""How often a driver looks whether it still holds its study."""

_RETRY_SECONDS = 0.2
_GRACE_SECONDS = 2.0
_KEEP_ALIVE = (
    # A machine that vanishes says no goodbye: PostgreSQL notices after a minute, not two hours.
    "SET tcp_keepalives_idle = 20",
    "SET tcp_keepalives_interval = 10",
    "SET tcp_keepalives_count = 4",
)
_CONNECTING = {
    # And so does a server's machine: waiting for its answer ends as soon.
    "connect_timeout": 10,
    "keepalives_idle": 20,
    "keepalives_interval": 10,
    "keepalives_count": 4,
    "tcp_user_timeout": 60_000,
}
_HOLDS = sqlalchemy.text(
    "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted"
    " AND objsubid = 1 AND classid::bigint = :high AND objid::bigint = :low"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"
)


class StudyHold:
    """A driver's hold on a study, for which the database has no more than one.

    A server that restarts forgets it; it is taken again as soon as the server answers.

    Args:
        url: The Optuna storage; any that is no PostgreSQL is not held at all.
        study: Name of the study.
        look_seconds: How often to look whether the hold is still there.

    Raises:
        MgstudyError: If another process holds the study, or the database cannot be reached.
    """

    def __init__(self, url: str, study: str, look_seconds: float = LOOK_SECONDS) -> None:
        self._study, self._look_seconds = study, look_seconds
        self._lost: MgstudyError | None = None
        self._told: list[Callable[[MgstudyError], None]] = []
        self._released = threading.Event()
        self._known = threading.Lock()
        self._connection: sqlalchemy.Connection | None = None
        self._thread: threading.Thread | None = None
        if not _can_be_held(url):
            return
        self._engine = _engine(url)
        try:
            is_held = self._take_soon()
        except SQLAlchemyError as error:
            raise _unreachable(url, error) from error
        if not is_held:
            raise MgstudyError(
                f"study {study!r} is already being driven, perhaps on another machine; on a "
                "cluster, `mgstudy jobs` shows and `mgstudy stop` ends it"
            )
        self._thread = threading.Thread(target=self._watch, name="study-hold", daemon=True)
        self._thread.start()

    def tell(self, on_loss: Callable[[MgstudyError], None]) -> None:
        """Have it told, from another thread, when another process has taken the study."""
        with self._known:
            self._told.append(on_loss)
            lost = self._lost
        if lost is not None:
            on_loss(lost)

    def release(self) -> None:
        """Let go of the study."""
        self._released.set()
        if self._thread is not None:
            self._thread.join()
        self._drop()

    def _take_soon(self) -> bool:
        """Take the study; of a process that was killed a moment ago the server hears at once, but
        not before."""
        deadline = time.monotonic() + _GRACE_SECONDS
        while not (is_held := self._take()) and time.monotonic() < deadline:
            self._released.wait(_RETRY_SECONDS)
        return is_held

    def _take(self) -> bool:
        """Connect, and take the study unless another process has it; whether it is held."""
        # No transaction stays open: it would keep the server from tidying up for as long.
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        try:
            for statement in _KEEP_ALIVE:
                connection.execute(sqlalchemy.text(statement))
            lock = sqlalchemy.text("SELECT pg_try_advisory_lock(:key)")
            is_held = bool(connection.execute(lock, {"key": _key(self._study)}).scalar())
        except BaseException:
            _close(connection)
            raise
        if is_held:
            self._connection = connection
        else:
            _close(connection)
        return is_held

    def _watch(self) -> None:
        while not self._released.wait(self._look_seconds if self._connection else _RETRY_SECONDS):
            try:
                if self._connection is not None:
                    self._connection.execute(sqlalchemy.text("SELECT 1"))
                elif self._take():
                    logger.warning("study %r: held in its database again", self._study)
                else:
                    self._lose()
                    return
            except SQLAlchemyError:
                self._drop()

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

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            _close(connection)


@contextmanager
def only_driver(url: str, study: str, look_seconds: float = LOOK_SECONDS) -> Iterator[StudyHold]:
    """Hold a study in its database; the server lets go of it when this process or machine dies.

    Only PostgreSQL has such a lock. A SQLite file is on the machine whose folder is locked anyway.

    Args:
        url: The Optuna storage, with nothing left to fill in.
        study: Name of the study.
        look_seconds: How often to look whether the hold is still there.

    Raises:
        MgstudyError: If another process, on whatever machine, drives the study.
    """
    hold = StudyHold(url, study, look_seconds)
    try:
        yield hold
    finally:
        hold.release()


def is_driven_anywhere(url: str, study: str) -> bool:
    """Whether a process on any machine holds the study in its database; false where the database
    has no such lock.

    Raises:
        MgstudyError: If the database cannot be reached.
    """
    if not _can_be_held(url):
        return False
    unsigned = _key(study) % 2**64
    try:
        with _engine(url).connect() as connection:
            parts = {"high": unsigned >> 32, "low": unsigned % 2**32}
            return bool(connection.execute(_HOLDS, parts).scalar())
    except SQLAlchemyError as error:
        raise _unreachable(url, error) from error


def refuse_local_file(url: str, nodes: int) -> None:
    """Refuse a database file for a study on several machines.

    Args:
        url: The Optuna storage.
        nodes: Machines of the cluster.

    Raises:
        InputError: If it is one, saying what to write instead.
    """
    if nodes > 1 and url.startswith("sqlite"):
        raise InputError(
            f"the cluster has {nodes} nodes and the study's storage is a SQLite file: it is lost "
            "with the machine it lies on, and network file systems damage it; write "
            "`storage: postgresql://USER:${DATABASE_PASSWORD}@HOST/DATABASE`"
        )


def _can_be_held(url: str) -> bool:
    return parse_storage_url(url).get_backend_name() == "postgresql"


def _engine(url: str) -> sqlalchemy.Engine:
    return sqlalchemy.create_engine(
        parse_storage_url(url), poolclass=sqlalchemy.NullPool, connect_args=_CONNECTING
    )


def _close(connection: sqlalchemy.Connection) -> None:
    # A connection that broke has let go already.
    with suppress(SQLAlchemyError):
        connection.close()


def _unreachable(url: str, error: SQLAlchemyError) -> MgstudyError:
    return MgstudyError(f"storage {redacted(url)} cannot be reached: {first_line(error)}")


def _key(study: str) -> int:
    """A signed 64-bit number for the study's name."""
    digest = hashlib.sha256(f"mgstudy {study}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
