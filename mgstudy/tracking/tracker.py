"""Bring MLflow up to a study while it runs, without making the study wait for it.

One background thread writes what the record has and MLflow lacks. A server that is slow, broken or
away costs nothing: what it has not taken is in the record, for this process, the next launch or
``mgstudy sync``.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mgstudy.errors import MgstudyError
from mgstudy.study.definition.manifest import StudyManifest
from mgstudy.study.search.events import StudyListener, TrialRequest
from mgstudy.study.search.state import CellState
from mgstudy.study.search.trials import State
from mgstudy.study.storage.epoch_metrics import EpochMetrics
from mgstudy.tracking.projection import Projection
from mgstudy.tracking.store import PastDeadlineError, TrackingStore, using_mlflow
from mgstudy.urls import first_line

logger = logging.getLogger(__name__)

CLOSING_SECONDS = 20.0
"""How long the end of a study waits for a server that takes records; one that does not take them is
not waited for."""
REQUEST_SECONDS = 10
"""How long a request may take, which the end of a study waits for in any case."""

_BETWEEN_PASSES = 1.0
_SHORTEST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0


class Tracker(StudyListener):
    """Keeps MLflow up to a study from ``start`` to ``finish``.

    Args:
        store: Where to record.
        manifest: The study.
        metrics: What every epoch measured.
        states: Gives the cells as they stand; called in the thread of the events only.
        requirements: The installed packages.
    """

    def __init__(
        self,
        store: TrackingStore,
        manifest: StudyManifest,
        metrics: EpochMetrics,
        states: Callable[[], Sequence[CellState]],
        requirements: str | None = None,
    ) -> None:
        self.store = store
        self._states, self._seen = states, states()
        self._record = manifest, metrics, requirements
        self._heard, self._told = 0, 0
        self._complete, self._is_closed = False, False
        self._event, self._closing = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="mlflow-tracker", daemon=True)

    @property
    def undelivered(self) -> int:
        """How many events MLflow has not been told, the end of the study among them."""
        return self._heard - self._told + (self._closing.is_set() and not self._is_closed)

    def start(self) -> None:
        """Begin to write, unless that was begun."""
        if self._thread.ident is None:
            self._thread.start()

    def trial_started(self, trial: TrialRequest) -> None:
        """Have the trial's run opened, with its levels and parameters as params."""
        self._seen = self._states()
        self._hear()

    def trial_reported(
        self, trial: TrialRequest, step: int, value: float, metrics: Mapping[str, float]
    ) -> None:
        """Have the epoch's metrics written under their step."""
        self._hear()

    def trial_finished(
        self, trial: TrialRequest, state: State, value: float | None, outcome: Mapping[str, Any]
    ) -> None:
        """Have the result written and the run closed."""
        self._seen = self._states()
        self._hear()

    def finish(self, complete: bool, seconds: float = CLOSING_SECONDS) -> None:
        """Write the rest, mark the best trial of each cell, keep its weights as an artifact and
        close the study's run. When this returns, the thread has ended, whatever the server does.

        Args:
            complete: Whether all of the study's trials have run.
            seconds: How long requests may still begin.

        Raises:
            KeyboardInterrupt: If Ctrl-C comes meanwhile; the request in progress is waited for
                nevertheless, unless it comes again.
        """
        if self._thread.ident is None:
            return
        self._seen, self._complete = self._states(), complete
        earlier = self.store.deadline
        self.store.deadline = min(earlier, time.monotonic() + seconds)
        self._closing.set()
        self._event.set()
        try:
            self._thread.join()
        except KeyboardInterrupt:
            self.store.deadline = 0.0
            self._thread.join()
            raise
        self.store.deadline = earlier

    def give_up(self, lost: MgstudyError) -> None:
        """Begin no request any more: another process drives the study."""
        self.store.deadline = 0.0

    def _hear(self) -> None:
        self._heard += 1
        self._event.set()

    def _work(self) -> None:
        projection: Projection | None = None
        pause = _SHORTEST_PAUSE
        with using_mlflow(REQUEST_SECONDS):
            while True:
                self._event.clear()
                closing, heard = self._closing.is_set(), self._heard
                try:
                    projection = projection or self._project()
                    projection.advance()
                    self._told, pause = heard, _SHORTEST_PAUSE
                    if closing:
                        projection.close(self._complete)
                        self._is_closed = True
                        return
                except Exception as error:  # Whatever the server does, the study goes on.
                    # Another one reads anew what MLflow has: what had arrived of the last request?
                    projection = None
                    if pause == _SHORTEST_PAUSE and not isinstance(error, PastDeadlineError):
                        self._warn(error)
                    if closing:
                        return
                    self._closing.wait(pause)
                    pause = min(_LONGEST_PAUSE, 2 * pause)
                else:
                    self._closing.wait(_BETWEEN_PASSES)
                    self._event.wait()

    def _project(self) -> Projection:
        manifest, metrics, requirements = self._record
        return Projection(self.store, manifest, metrics, lambda: self._seen, requirements)

    def _warn(self, error: Exception) -> None:
        logger.warning(
            "MLflow at %s does not take records: %s; they wait in the study's folder",
            self.store.shown_uri,
            first_line(error),
        )
