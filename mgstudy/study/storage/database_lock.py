"""The lock on a study in its PostgreSQL database, which many machines reach that share no folder.

The server lets go of it when the process or the machine that holds it dies.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

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
_HOLDS = sqlalchemy.text(
    "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted"
    " AND objsubid = 1 AND classid::bigint = :high AND objid::bigint = :low"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"
)


def has_locks(database: str) -> bool:
    """Whether a storage's database has such locks. A SQLite file is on the machine whose folder is
    locked anyway.

    Args:
        database: URL of the Optuna storage, with nothing left to fill in.
    """
    return parse_storage_url(database).get_backend_name() == "postgresql"


def take_lock(database: str, study: str) -> sqlalchemy.Connection | None:
    """Take the lock on a study, for as long as the connection lives that is given back; ``None``
    where another process has it.

    Raises:
        SQLAlchemyError: If the database cannot be reached.
    """
    # No transaction stays open: it would keep the server from tidying up for as long.
    connection = _engine(database).connect()
    is_held = False
    try:
        connection = connection.execution_options(isolation_level="AUTOCOMMIT")
        is_held = bool(connection.execute(_TAKE, {"key": _key(study)}).one()[-1])
    finally:
        if not is_held:
            connection.close()
    return connection if is_held else None


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


def _engine(database: str) -> sqlalchemy.Engine:
    return sqlalchemy.create_engine(
        parse_storage_url(database), poolclass=sqlalchemy.NullPool, connect_args=CONNECTING
    )


def _key(study: str) -> int:
    """A signed 64-bit number for the study's name."""
    digest = hashlib.sha256(f"mgstudy {study}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
