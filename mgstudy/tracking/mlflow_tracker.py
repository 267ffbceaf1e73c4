"""Tell MLflow what happens in a study, without making the study wait for it.

Events are appended to the study's spool; one background thread delivers them in order. A server
that is slow, broken or away costs nothing: what it has not taken waits on disk, for this process,
the next launch or ``mgstudy sync``.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from mgstudy.files import Progress, no_progress
from mgstudy.study.search.events import StudyListener, TrialRequest
from mgstudy.study.search.state import State
from mgstudy.tracking.run_writer import RunWriter, StudyDescription
from mgstudy.tracking.spool import Spool
from mgstudy.tracking.store import TrackingStore
from mgstudy.urls import first_line

__all__ = ["MlflowTracker", "StudyDescription"]

logger = logging.getLogger(__name__)

CLOSING_SECONDS = 20.0
"""How long the end of a study waits for a server that takes records; one that does not take them is
not waited for."""

_EVENTS_PER_DELIVERY = 500
_SHORTEST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
_LONGEST_WAIT = 1.0


class MlflowTracker(StudyListener):
    """Delivers a study's events to MLflow.

    Args:
        store: Where to record.
        description: What the parent run holds.
        spool: The study's events, those of earlier launches included.

    Attributes:
        undelivered: Events that wait for MLflow, once the tracker is closed.
    """

    def __init__(self, store: TrackingStore, description: StudyDescription, spool: Spool) -> None:
        self.store = store
        self.spool = spool
        self.undelivered = 0
        self._description = description
        self._end: tuple[bool, Mapping[str, str | None]] | None = None
        self._closing = threading.Event()
        self._can_spool = True
        self._thread = threading.Thread(target=self._work, name="mlflow-tracker", daemon=True)
        self._thread.start()

    def trial_started(self, trial: TrialRequest) -> None:
        """Open the trial's run, with its levels and parameters as params."""
        self._spool(trial, lambda: None)

    def trial_reported(
        self, trial: TrialRequest, step: int, value: float, metrics: Mapping[str, float]
    ) -> None:
        """Log the epoch's metrics under their step."""
        self._spool(trial, lambda: self.spool.report(trial.key, step, metrics))

    def trial_finished(
        self, trial: TrialRequest, state: State, value: float | None, outcome: Mapping[str, Any]
    ) -> None:
        """Log the result and close the run."""
        self._spool(trial, lambda: self.spool.finish(trial.key, state.value, outcome))

    def finish(
        self,
        complete: bool,
        best: Mapping[str, str | None] | None = None,
        seconds: float = CLOSING_SECONDS,
    ) -> None:
        """Mark the best trial of each cell, keep its weights as an artifact and close the parent.

        Args:
            complete: Whether all of the study's trials have run.
            best: Keys of the best trials so far, whenever they ran, with their checkpoint files;
                ``None`` where there is none.
            seconds: The longest that is waited for the server.
        """
        self._end = (complete, best or {})
        self.close(seconds)

    def close(self, seconds: float = CLOSING_SECONDS) -> None:
        """Wait until everything is delivered, but no longer than this."""
        self._closing.set()
        self.spool.wake()
        self._thread.join(seconds)
        self.undelivered = self.spool.appended - self.spool.delivered + (self._end is not None)

    def _spool(self, trial: TrialRequest, append: Callable[[], None]) -> None:
        try:
            self.spool.start(trial.key, describe_trial(trial))
            append()
        except OSError as error:
            # The Optuna storage has it all the same, but for the metrics of single epochs.
            if self._can_spool:
                self._can_spool = False
                logger.warning("%s: %s; MLflow misses records", self.spool.path, error.strerror)

    def _work(self) -> None:
        pause = _SHORTEST_PAUSE
        while True:
            is_last = self._closing.is_set()
            try:
                self._deliver()
                return
            except Exception as error:  # Whatever the server does, the study goes on.
                if pause == _SHORTEST_PAUSE:
                    self._warn(error)
                if is_last:
                    return
                self._closing.wait(pause)
                pause = min(_LONGEST_PAUSE, 2 * pause)

    def _deliver(self) -> None:
        """Deliver events as they come, until the tracker is closed."""
        # A new one reads what MLflow has: which of what was sent before a failure had arrived?
        writer = RunWriter(self.store, self._description, self.spool.known.trials)
        writer.open_study()
        while True:
            closing = self._closing.is_set()
            deliver_pending(self.spool, writer)
            if closing:
                if self._end is not None:
                    writer.finish_study(*self._end)
                    self._end = None
                return
            self.spool.wait(_LONGEST_WAIT)

    def _warn(self, error: Exception) -> None:
        logger.warning(
            "MLflow at %s does not take records: %s; they wait in %s",
            self.store.shown_uri,
            first_line(error),
            self.spool.path,
        )


def deliver_pending(spool: Spool, writer: RunWriter, progress: Progress = no_progress) -> None:
    """Deliver what waits, in order, and note after every few hundred events how far that is.

    Args:
        spool: The events.
        writer: Where they go.
        progress: Told how many are delivered.
    """
    while True:
        count, place = 0, 0
        for event, after in spool.pending():
            writer.write(event)
            count, place = count + 1, after
            if count == _EVENTS_PER_DELIVERY:
                break
        writer.flush()
        if count == 0:
            return
        spool.mark_delivered(place, count)
        progress("events", spool.delivered, spool.appended)


def describe_trial(trial: TrialRequest) -> dict[str, Any]:
    """What a trial is, as JSON-like data."""
    return {
        "cell": trial.cell.key,
        "levels": dict(trial.cell.levels),
        "number": trial.number,
        "stage": trial.stage.value,
        "seed": trial.seed,
        "parameters": dict(trial.parameters),
    }
