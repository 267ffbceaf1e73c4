"""The thread that a trial trains in."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any

import torch


class TrainingThread:
    """Trains a trial in a thread of its own, so that no validation that is complete waits for an
    epoch that hangs.

    Args:
        next_report: Trains to the next validation; the last one is ``done``.
        threads: With which torch computes.
    """

    def __init__(self, next_report: Callable[[], dict[str, Any]], threads: int) -> None:
        self._next_report, self._threads = next_report, threads
        self._changed = threading.Condition()
        self._ready: list[dict[str, Any]] = []
        self._until = -math.inf
        self._goes_on, self._has_ended = False, False
        self._broke: BaseException | None = None
        self._thread = threading.Thread(target=self._train, name="training", daemon=True)
        self._thread.start()

    def reports(self, seconds: float) -> list[dict[str, Any]]:
        """The validations of the next seconds, or the next one if that takes longer. What began
        before the seconds were over is left for the next call.

        Raises:
            BaseException: What ends this process.
        """
        with self._changed:
            self._until = time.monotonic() + seconds
            self._goes_on = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._has_ended, timeout=seconds)
            self._changed.wait_for(lambda: self._has_ended or self._ready)
            ready, self._ready = self._ready, []
        if self._broke is not None:
            raise self._broke
        return ready

    def end(self) -> None:
        """Begin no further epoch, and wait for the one that was begun."""
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()
        self._thread.join()

    def _train(self) -> None:
        # Threads of OpenMP belong to the thread that they work for.
        torch.set_num_threads(self._threads)
        try:
            while self._may_go_on():
                report = self._next_report()
                with self._changed:
                    self._ready.append(report)
                    self._has_ended = self._has_ended or bool(report.get("done"))
                    self._goes_on = time.monotonic() < self._until
                    self._changed.notify_all()
        except BaseException as error:
            with self._changed:
                self._broke, self._has_ended = error, True
                self._changed.notify_all()

    def _may_go_on(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._goes_on or self._has_ended)
            return not self._has_ended
