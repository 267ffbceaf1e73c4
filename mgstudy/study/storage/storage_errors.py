"""What a storage's failures mean: whether waiting may help, and how to say them in a line."""

from __future__ import annotations

import re

import sqlalchemy.exc
from optuna.exceptions import StorageInternalError

_LASTING = re.compile(
    r"disk is full|no space left|readonly|read-only|permission denied|not a database|malformed"
    r"|password authentication failed|access denied|disk quota|i/o error",
    re.IGNORECASE,
)


def is_of_storage(error: BaseException) -> bool:
    """Whether the storage failed, rather than what was asked of it being wrong."""
    if isinstance(error, sqlalchemy.exc.IntegrityError | sqlalchemy.exc.ProgrammingError):
        return False
    return isinstance(error, StorageInternalError | sqlalchemy.exc.SQLAlchemyError | OSError)


def is_lasting(error: BaseException) -> bool:
    """Whether somebody must do something before it can work again."""
    return _LASTING.search(_whole(error)) is not None


def said(error: BaseException) -> str:
    """The failure in one line, as the database says it."""
    whole = _whole(error)
    for known in ("database or disk is full", "attempt to write a readonly database"):
        if known in whole:
            return known
    original = getattr(error, "orig", None) or getattr(error.__cause__, "orig", None) or error
    return " ".join(str(original).split()) or type(original).__name__


def _whole(error: BaseException) -> str:
    causes = [error, error.__cause__, getattr(error, "orig", None)]
    return " ".join(str(cause) for cause in causes if cause is not None)
