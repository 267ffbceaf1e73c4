"""Keep a study to one driver when its workspace and its database are reached by many machines."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import sqlalchemy
from sqlalchemy.exc import SQLAlchemyError

from mgstudy.errors import InputError, MgstudyError
from mgstudy.study.storage import parse_storage_url, shown_url

_KEEP_ALIVE = (
    # A machine that vanishes says no goodbye: PostgreSQL notices after a minute, not two hours.
    "SET tcp_keepalives_idle = 20",
    "SET tcp_keepalives_interval = 10",
    "SET tcp_keepalives_count = 4",
)


@contextmanager
def only_driver(url: str, study: str) -> Iterator[None]:
    """Hold a study in its database; the server lets go of it when this process or machine dies.

    Only PostgreSQL has such a lock. A SQLite file is on the machine whose folder is locked anyway.

    Args:
        url: The Optuna storage, with nothing left to fill in.
        study: Name of the study.

    Raises:
        MgstudyError: If another process, on whatever machine, drives the study.
    """
    if parse_storage_url(url).get_backend_name() != "postgresql":
        yield
        return
    connection = _hold(url, study)
    try:
        yield
    finally:
        # A connection that broke has let go already.
        with suppress(SQLAlchemyError):
            connection.close()


def _hold(url: str, study: str) -> sqlalchemy.Connection:
    engine = sqlalchemy.create_engine(parse_storage_url(url), poolclass=sqlalchemy.NullPool)
    try:
        # No transaction stays open: it would keep the server from tidying up for as long.
        connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        for statement in _KEEP_ALIVE:
            connection.execute(sqlalchemy.text(statement))
        lock = sqlalchemy.text("SELECT pg_try_advisory_lock(:key)")
        is_held = connection.execute(lock, {"key": _key(study)}).scalar()
    except SQLAlchemyError as error:
        reason = str(error).partition("\n")[0]
        raise MgstudyError(f"storage {shown_url(url)} cannot be reached: {reason}") from error
    if not is_held:
        connection.close()
        raise MgstudyError(
            f"study {study!r} is already being driven, perhaps on another machine; on a cluster, "
            "`mgstudy jobs` shows and `mgstudy stop` ends it"
        )
    return connection


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


def _key(study: str) -> int:
    """A signed 64-bit number for the study's name."""
    digest = hashlib.sha256(f"mgstudy {study}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
