"""Open the Optuna storage that holds a study's trials."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from filelock import FileLock
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from mgstudy.errors import InputError, MgstudyError
from mgstudy.files import (
    cut_half_line,
    refuse_lost_link,
    refuse_what_is_no_file,
    refuse_where_no_file_can_be,
)
from mgstudy.study.storage.storage_writer import said
from mgstudy.urls import redacted

JOURNAL = "journal:///"
NOT_WRITTEN_BY_OPTUNA = (
    AssertionError, AttributeError, LookupError, OSError, RuntimeError, SQLAlchemyError, TypeError,
    ValueError,
)  # fmt: skip
"""What Optuna raises of a storage that cannot be read, or holds something else than it writes."""
_SQLITE_BUSY_SECONDS = 60
CONNECTING = {
    # A server's machine that vanishes says no goodbye: this ends waiting for its answer.
    "connect_timeout": 10,
    "keepalives_idle": 20,
    "keepalives_interval": 10,
    "keepalives_count": 4,
    "tcp_user_timeout": 60_000,
}
"""How every connection to PostgreSQL is made."""
_ROOM = 1 << 20
"""Bytes that have to be free on a disk for SQLite to read a database there."""


def open_storage(url: str, create: bool = True) -> BaseStorage:
    """Open an Optuna storage by its URL.

    SQLite is set to write-ahead logging: a commit then costs a third, and readers (``mgstudy
    status``) never wait for the driver.

    Args:
        url: For example ``sqlite:////home/me/study.db``, ``postgresql://host/database``
            or ``journal:////home/me/study.log``.
        create: Whether it is written to, and a file that does not exist is created.

    Raises:
        InputError: If ``url`` is not a storage's URL or its driver is not installed.
        MgstudyError: If the storage cannot be opened.
    """
    parsed = parse_storage_url(url)
    is_sqlite = parsed.get_backend_name() == "sqlite"
    is_file = is_sqlite or url.startswith(JOURNAL)
    file = Path(parsed.database) if is_file and parsed.database else None
    shown = redacted(url)
    if file is not None:
        refuse_lost_link(file)  # SQLite would begin another database where it leads.
        if not create and not file.exists():
            raise MgstudyError(f"storage {shown} does not exist")
    copied: Path | None = None
    try:
        if file is not None and file.exists():
            refuse_what_is_no_file(file)
        if file is not None:
            if is_sqlite and not create and _takes_nothing(file.parent):
                copied = _copied_database(file)
                parsed = parsed.set(database=str(copied))
            else:
                file.parent.mkdir(parents=True, exist_ok=True)
            if not is_sqlite:
                return _open_journal(file, for_writing=create)
        storage = RDBStorage(
            parsed.render_as_string(hide_password=False), engine_kwargs=_engine_settings(parsed)
        )
    except (InputError, *NOT_WRITTEN_BY_OPTUNA) as error:
        if copied is not None:
            shutil.rmtree(copied.parent, ignore_errors=True)
        raise MgstudyError(f"storage {shown} cannot be opened: {said(error)}") from error
    if copied is not None:
        weakref.finalize(storage, shutil.rmtree, copied.parent, ignore_errors=True)
    elif is_sqlite:
        _use_write_ahead_log(storage)
    return storage


def try_storage(url: str) -> None:
    """Open a storage as far as that makes no file, folder or table.

    Raises:
        InputError: As ``open_storage``, and if a file cannot be made or is something else.
        MgstudyError: If a server cannot be reached.
    """
    parsed = parse_storage_url(url)
    is_journal = url.startswith(JOURNAL)
    is_file = is_journal or parsed.get_backend_name() == "sqlite"
    file = Path(str(parsed.database))
    try:
        if is_file:
            refuse_where_no_file_can_be(file)
        if is_file and not file.exists():
            return
        if is_journal:
            _open_journal(file, for_writing=False)
        elif _has_studies(parsed):
            close_storage(open_storage(url, create=False))
    except InputError as error:
        raise InputError(f"storage {redacted(url)} cannot be opened: {error}") from error
    except NOT_WRITTEN_BY_OPTUNA as error:
        kind = InputError if is_file else MgstudyError
        raise kind(f"storage {redacted(url)} cannot be opened: {said(error)}") from error


def _has_studies(url: URL) -> bool:
    """Whether Optuna has been at work in a database."""
    engine = sqlalchemy.create_engine(url, **_engine_settings(url))
    try:
        return sqlalchemy.inspect(engine).has_table("studies")
    finally:
        engine.dispose()


def close_storage(storage: BaseStorage) -> None:
    """Close the connections of a storage that nobody reads any more."""
    storage.remove_session()
    if isinstance(storage, RDBStorage):
        storage.engine.dispose()


@contextmanager
def opened_storage(url: str, create: bool = True) -> Iterator[BaseStorage]:
    """A storage as ``open_storage`` opens it, closed in the end."""
    storage = open_storage(url, create)
    try:
        yield storage
    finally:
        close_storage(storage)


@contextmanager
def quiet_optuna(level: int = logging.WARNING) -> Iterator[None]:
    """Have Optuna tell of no studies and trials that were begun, until the end.

    Args:
        level: The least that it tells.
    """
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(max(before, level))
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def _takes_nothing(folder: Path) -> bool:
    """Whether nothing can be written to a folder, or its disk is full."""
    return not os.access(folder, os.W_OK) or shutil.disk_usage(folder).free < _ROOM


def _copied_database(file: Path) -> Path:
    """A copy of a database that lies where nothing can be written: SQLite does not even read one
    with a write-ahead log without writing beside it."""
    folder = Path(tempfile.mkdtemp(prefix="mgstudy-read-"))
    try:
        for path in (file, file.with_name(f"{file.name}-wal")):
            if path.exists():
                shutil.copyfile(path, folder / path.name)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder / file.name


def parse_storage_url(url: str) -> URL:
    """Check a storage's URL without opening it.

    Raises:
        InputError: If it is none, or one of a database that serves no study.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise InputError(
            "`storage` is not a database URL such as sqlite:////home/me/study.db, "
            "postgresql://host/database or journal:////home/me/study.log"
        ) from error
    if url.startswith(JOURNAL):
        return parsed
    if (kind := parsed.get_backend_name()) not in ("sqlite", "postgresql"):
        raise InputError(
            f"storage {redacted(url)}: studies are kept in SQLite, PostgreSQL or a journal; in "
            f"{kind}, two drivers could hold one study, which damages it; write "
            "`storage: postgresql://USER:${DATABASE_PASSWORD}@HOST/DATABASE`"
        )
    # What SQLAlchemy looks for behind a plain URL, and what mgstudy's extra installs.
    if parsed.drivername == "postgresql" and importlib.util.find_spec("psycopg2") is None:
        parsed = parsed.set(drivername="postgresql+psycopg")
    try:
        parsed.get_dialect().import_dbapi()
    except (ImportError, sqlalchemy.exc.NoSuchModuleError) as error:
        is_ours = parsed.drivername == "postgresql+psycopg"
        advice = "; pip install 'mgstudy[postgresql]'" if is_ours else ""
        raise InputError(
            f"storage {redacted(url)} needs a driver that is not installed: {error}{advice}"
        ) from error
    return parsed


def check_storage_url(url: str) -> None:
    """Check a storage's URL as a study file writes it, whatever its variables stand for.

    Raises:
        InputError: As ``parse_storage_url``.
    """
    if not url.startswith("$"):
        parsed = parse_storage_url(re.sub(r"\$(\w+|{\w+})", "1", url))
        has_file = bool(parsed.database) and ":memory:" not in url and "mode=memory" not in url
        if not has_file and (url.startswith(JOURNAL) or parsed.get_backend_name() == "sqlite"):
            raise InputError(f"{redacted(url)} has no file, so nothing would be kept")


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


def _engine_settings(url: URL) -> dict[str, Any]:
    if url.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": _SQLITE_BUSY_SECONDS}}
    # Connections that a restarted server has cut are noticed and made again.
    settings: dict[str, Any] = {"pool_pre_ping": True}
    if url.get_backend_name() == "postgresql":
        settings["connect_args"] = CONNECTING
    return settings


class _JournalLock:
    """Optuna's own locks of a journal outlive a process that is killed; the system lets go of this
    one."""

    def __init__(self, path: Path) -> None:
        self._lock = FileLock(f"{path}.lock", thread_local=False)

    def acquire(self) -> bool:
        self._lock.acquire()
        return True

    def release(self) -> None:
        self._lock.release()


def _open_journal(path: Path, for_writing: bool) -> JournalStorage:
    lock = _JournalLock(path)
    if path.exists():
        with path.open("rb") as file:
            if file.read(1) not in (b"", b"{"):
                raise ValueError("it is no journal")
    if for_writing and path.exists():
        # A writer that was killed may have left half a line, which would spoil the next one.
        lock.acquire()
        try:
            cut_half_line(path)
        finally:
            lock.release()
    try:
        return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))  # type: ignore[arg-type]
    except (AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"its lines are not those of a journal: {error!r}") from error


def _use_write_ahead_log(storage: RDBStorage) -> None:
    @sqlalchemy.event.listens_for(storage.engine, "connect")
    def _set_pragmas(connection: Any, _record: Any) -> None:
        # Not even a power cut takes back what was committed; reports are committed in batches.
        connection.execute("PRAGMA synchronous=FULL")

    storage.engine.dispose()
    with storage.engine.connect() as connection:
        connection.execute(sqlalchemy.text("PRAGMA journal_mode=WAL"))
