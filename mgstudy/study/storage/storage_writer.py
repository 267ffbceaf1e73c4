"""The thread that writes to a study's storage: in batches, and again while it does not answer."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import sqlalchemy.exc
import tenacity
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage

from mgstudy.errors import MgstudyError
from mgstudy.private.optuna import write_reports
from mgstudy.urls import redacted

logger = logging.getLogger(__name__)

SECONDS_AT_RISK = 1.0
"""Reports older than this are in the database; a caller that is faster than it waits."""

_GATHERING_SECONDS = 0.2
_LONGEST_PAUSE = 5.0
_LASTING = re.compile(
    r"disk is full|no space left|readonly|read-only|permission denied|not a database|malformed"
    r"|password authentication failed|access denied|disk quota|i/o error",
    re.IGNORECASE,
)
Result = TypeVar("Result")


@dataclass
class _Pending:
    """What waits to be written: the calls in order, and the reports, whose order is their step."""

    reports: dict[tuple[int, int], float] = field(default_factory=dict)
    calls: list[Callable[[], Any]] = field(default_factory=list)
    since: float = field(default_factory=time.monotonic)

    def __bool__(self) -> bool:
        return bool(self.reports or self.calls)


class StorageWriter:
    """Writes to a storage in a thread of its own, and waits for one that does not answer.

    Args:
        behind: The storage.
        name: How messages call it.
        patience: Seconds a database that does not answer is waited for.

    Attributes:
        failure: Why it gave up; from then on it takes nothing more.
    """

    def __init__(self, behind: BaseStorage, name: str, patience: float) -> None:
        self.failure: MgstudyError | None = None
        self._behind, self._name, self._patience = behind, name, patience
        self._pending, self._in_hand = _Pending(), _Pending()
        self._changed = threading.Condition()
        self._gave_up = threading.Event()
        self._urgent = False
        self._closed = False
        self._retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda e: _is_of_storage(e) and not _is_lasting(e)),
            stop=tenacity.stop_after_delay(patience),
            wait=tenacity.wait_exponential(multiplier=0.1, max=_LONGEST_PAUSE),
            sleep=tenacity.sleep_using_event(self._gave_up),
            before_sleep=self._warn_once,
            reraise=True,
        )
        self._thread = threading.Thread(target=self._write, name="storage-writer", daemon=True)
        self._thread.start()

    def now(self, operation: Callable[[], Result]) -> Result:
        """Do it after all that was asked for before, again and again while the database does not
        answer.

        Raises:
            MgstudyError: If it did not answer for too long, or waiting cannot help.
        """
        results: list[Result] = []
        mistakes: list[Exception] = []

        def attempt() -> None:
            try:
                results.append(operation())
            except Exception as error:
                if _is_of_storage(error):
                    raise
                mistakes.append(error)

        self.later(attempt)
        self.flush()
        if mistakes:
            raise mistakes[0]
        return results[0]

    def later(self, call: Callable[[], Any]) -> None:
        """Do it soon, after all that was asked for before."""
        with self._changed:
            self._admit().calls.append(call)

    def report(self, trial_id: int, step: int, value: float) -> None:
        """Write a report soon, with others."""
        with self._changed:
            self._admit().reports[trial_id, step] = value

    def flush(self) -> None:
        """Wait until everything is written.

        Raises:
            MgstudyError: If the storage did not take it in the time it is waited for.
        """
        with self._changed:
            self._await(lambda: not (self._in_hand or self._pending))
            self._raise_failure()

    def give_up(self, failure: MgstudyError) -> None:
        """Take nothing more, for this reason; may be called from any thread."""
        with self._changed:
            self.failure = self.failure or failure
            self._gave_up.set()
            self._changed.notify_all()

    def close(self) -> None:
        """Write the rest and stop; called twice, it does nothing.

        Raises:
            MgstudyError: If the storage did not take it.
        """
        if self._closed:
            return
        try:
            self.flush()
        finally:
            with self._changed:
                self._closed = True
                self._changed.notify_all()
            # One that hangs in a request is left to the end of the process.
            self._thread.join(None if self.failure is None else _LONGEST_PAUSE)

    def _admit(self) -> _Pending:
        """What the caller may add to, once no more than declared waits: one that is faster than the
        database is held."""
        if self._is_late():
            self._await(lambda: not self._is_late())
        self._raise_failure()
        if not self._pending:
            self._pending.since = time.monotonic()
            self._changed.notify_all()
        return self._pending

    def _is_late(self) -> bool:
        oldest = self._in_hand or self._pending
        return bool(oldest) and time.monotonic() - oldest.since > SECONDS_AT_RISK

    def _await(self, done: Callable[[], bool]) -> None:
        """Have the thread write at once, until something is so or it has given up; if it does
        neither, because it hangs in a request, give up."""
        self._urgent = True
        self._changed.notify_all()
        patience = self._patience + _LONGEST_PAUSE  # It says better why it gives up.
        if not self._changed.wait_for(lambda: self.failure is not None or done(), patience):
            self.give_up(self._cannot_be_written(TimeoutError("does not answer")))
        self._urgent = False

    def _raise_failure(self) -> None:
        if self.failure is not None:
            raise self.failure

    def _write(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._pending)
                if self._closed:
                    return
                # Gathering costs nothing that was not declared, and makes batches of reports.
                self._changed.wait_for(
                    lambda: self._urgent or self._closed, timeout=_GATHERING_SECONDS
                )
                self._in_hand, self._pending = self._pending, _Pending()
            try:
                self._retrying(self._write_batch)
                if self._retrying.statistics["attempt_number"] > 1:
                    logger.warning("storage %s: answers again", self._name)
            except Exception as error:  # Kept for the driver, whose thread is another.
                self.give_up(self._cannot_be_written(error))
            finally:
                with self._changed:
                    self._changed.notify_all()

    def _write_batch(self) -> None:
        self._raise_failure()
        batch = self._in_hand
        while batch.calls:
            try:
                batch.calls[0]()
            except UpdateFinishedTrialError:
                logger.debug("a trial that is finished behind was written to")
            batch.calls.pop(0)
        if batch.reports:
            write_reports(self._behind, batch.reports)
            batch.reports.clear()

    def _warn_once(self, state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        if error is not None and state.attempt_number == 1:
            logger.warning("storage %s: %s; trying again", self._name, said(error))

    def _cannot_be_written(self, error: Exception) -> MgstudyError:
        return MgstudyError(
            f"storage {self._name}: {said(error)}; what is in it is whole, and the study goes on "
            "from there when it is launched again"
        )


def _is_of_storage(error: BaseException) -> bool:
    """Whether the storage failed, rather than what was asked of it being wrong."""
    if isinstance(error, sqlalchemy.exc.IntegrityError | sqlalchemy.exc.ProgrammingError):
        return False
    return isinstance(error, StorageInternalError | sqlalchemy.exc.SQLAlchemyError | OSError)


def _is_lasting(error: BaseException) -> bool:
    """Whether somebody must do something before it can work again."""
    return _LASTING.search(_whole(error)) is not None


def said(error: BaseException) -> str:
    """The failure in one line, as the database says it."""
    whole = _whole(error)
    for known in ("database or disk is full", "attempt to write a readonly database"):
        if known in whole:
            return known
    original = getattr(error, "orig", None) or getattr(error.__cause__, "orig", None) or error
    return redacted(" ".join(str(original).split())) or type(original).__name__


def _whole(error: BaseException) -> str:
    causes = [error, error.__cause__, getattr(error, "orig", None)]
    return " ".join(str(cause) for cause in causes if cause is not None)
