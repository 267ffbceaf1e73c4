"""The lock on a study where its trials are, which many machines and workspaces reach that share no
folder of it: in its PostgreSQL database, or beside its file.

The server, or the system, lets go of it when the process or the machine that holds it dies.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy
from sqlalchemy.exc import SQLAlchemyError

from mgstudy.errors import MgstudyError
from mgstudy.study.storage.optuna_storage import CONNECTING, parse_storage_url
from mgstudy.urls import first_line, redacted

_TAKE = sqlalchemy.text(
    # Nor does a driver's machine say goodbye: the server notices after a minute, not two hours.
    "SELECT set_config('tcp_keepalives_idle', '20', false),"
    " set_config('tcp_keepalives_interval', '10', false),"
    " set_config('tcp_keepalives_count', '4', false), pg_try_advisory_lock(:key)"
)
_END_EARLIER = sqlalchemy.text(
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE application_name = :session AND pid <> pg_backend_pid()"
)
_HOLDS = sqlalchemy.text(
    "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted"
    " AND objsubid = 1 AND classid::bigint = :high AND objid::bigint = :low"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"
)


def has_locks(database: str) -> bool:
    """Whether a storage's database has such locks; a file has one beside it.

    Args:
        database: URL of the Optuna storage, with nothing left to fill in.
    """
    return parse_storage_url(database).get_backend_name() == "postgresql"


def lock_file(database: str, study: str) -> Path | None:
    """What locks a study whose storage is a file, beside that file; ``None`` of another storage.

    Args:
        database: URL of the Optuna storage, with nothing left to fill in.
        study: Its name.
    """
    if has_locks(database):
        return None
    file = Path(os.path.realpath(str(parse_storage_url(database).database)))
    return file.with_name(f".{file.name}.{_key(study) % 2**64:016x}.lock")


def take_lock(database: str, study: str, session: str) -> sqlalchemy.Connection | None:
    """Take the lock on a study, for as long as the connection lives that is given back; ``None``
    where another session has it.

    Args:
        database: URL of the Optuna storage, with nothing left to fill in.
        study: Its name.
        session: What the server is to call the connection: nobody else's is called so.

    Raises:
        SQLAlchemyError: If the database cannot be reached.
    """
    # No transaction stays open: it would keep the server from tidying up for as long.
    connection = _engine(database, session).connect()
    is_held = False
    try:
        connection = connection.execution_options(isolation_level="AUTOCOMMIT")
        is_held = bool(connection.execute(_TAKE, {"key": _key(study)}).one()[-1])
    finally:
        if not is_held:
            connection.close()
    return connection if is_held else None


def end_earlier_session(database: str, session: str) -> bool:
    """End what the server still has of connections of that name, whose other end has broken off
    unheard; whether there was one. Its locks are free a moment later.

    Raises:
        SQLAlchemyError: If the database cannot be reached.
    """
    with _engine(database, session).connect() as connection:
        return bool(connection.execute(_END_EARLIER, {"session": session}).scalar())


def is_lock_held(database: str, study: str) -> bool:
    """Whether a process holds the lock on a study.

    Raises:
        MgstudyError: If the database cannot be reached.
    """
    if not has_locks(database):
        return False
    unsigned = _key(study) % 2**64
    with said_unreachable(database), _engine(database).connect() as connection:
        parts = {"high": unsigned >> 32, "low": unsigned % 2**32}
        return bool(connection.execute(_HOLDS, parts).scalar())


@contextmanager
def said_unreachable(database: str) -> Iterator[None]:
    """Say of what fails in a block that the storage cannot be reached."""
    try:
        yield
    except SQLAlchemyError as error:
        raise MgstudyError(
            f"storage {redacted(database)} cannot be reached: {first_line(error)}"
        ) from error


def _engine(database: str, session: str = "mgstudy") -> sqlalchemy.Engine:
    return sqlalchemy.create_engine(
        parse_storage_url(database),
        poolclass=sqlalchemy.NullPool,
        connect_args={**CONNECTING, "application_name": session},
    )


def _key(study: str) -> int:
    """A signed 64-bit number for the study's name."""
    digest = hashlib.sha256(f"mgstudy {study}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
