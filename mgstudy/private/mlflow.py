"""Private parts of MLflow."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mgstudy.errors import MgstudyError

logger = logging.getLogger(__name__)

_PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Every column of MLflow's tables that says where artifacts are, from which it never departs."""


def move_artifacts(home: Path) -> None:
    """Have the database of a workspace that was moved or copied name the artifacts beside it.

    Stands in for artifact locations relative to MLflow's database: MLflow would go on to write to
    the folder in which they were when it was made, and to read from there.

    Args:
        home: The folder in which ``mlflow.db`` and ``mlruns`` are.

    Raises:
        MgstudyError: If it names others and cannot be written to.
    """
    database = home / "mlflow.db"
    if not database.is_file():
        return
    moved: dict[str, str] = {}
    try:
        with closing(sqlite3.connect(database)) as connection, connection:
            known = connection.execute("SELECT name, artifact_location FROM experiments").fetchall()
            for name, location in known:
                here, there = home / "mlruns" / name, Path(unquote(urlsplit(location).path))
                if _is_elsewhere(here, there):
                    moved[location] = here.as_uri()
            for location, now in moved.items():
                _replace(connection, location, now)
    except (AttributeError, sqlite3.Error, TypeError, ValueError) as error:
        if moved:
            raise MgstudyError(
                f"{database}: was copied or moved, still names {next(iter(moved))}, and cannot be "
                f"written to: {error}"
            ) from error
        # Not made yet or damaged, which MLflow says itself.
        logger.debug("%s: %s", database, error)


def _is_elsewhere(here: Path, there: Path) -> bool:
    """Whether what was made there is here now; not where someone wanted artifacts to be there."""
    alike = here.parts[-2:] == there.parts[-2:]
    if not alike or (there.exists() and not here.exists()):
        return False
    return here != there and not (there.exists() and here.samefile(there))


def _replace(connection: sqlite3.Connection, former: str, now: str) -> None:
    for table, column in _PLACES:
        connection.execute(
            f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
            f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
            (now, len(former) + 1, former, len(former) + 1, f"{former}/"),
        )
