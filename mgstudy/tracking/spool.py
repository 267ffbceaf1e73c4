"""A study's events on disk: what MLflow is to be told, and how much of it MLflow has taken.

The events are kept for good. A tracking server that was away is told later, and one that has lost
everything is told again from the start.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mgstudy.errors import MgstudyError
from mgstudy.files import written_whole

STARTED = "started"
REPORTED = "reported"
FINISHED = "finished"


@dataclass
class Known:
    """What the events say of the study's trials, by their keys.

    Attributes:
        trials: What a trial is: cell, levels, number, stage, seed, parameters.
        steps: The last step reported.
        finished: The trials that have ended.
        latest: When the last of a trial's events was, in ms since 1970.
    """

    trials: dict[str, dict[str, Any]] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)
    finished: set[str] = field(default_factory=set)
    latest: dict[str, int] = field(default_factory=dict)

    def add(self, event: Mapping[str, Any]) -> None:
        """Take note of an event."""
        key = event["trial"]
        self.latest[key] = event["at"]
        if event["event"] == STARTED:
            self.trials[key] = event["description"]
        elif event["event"] == REPORTED:
            self.steps[key] = max(event["step"], self.steps.get(key, 0))
        else:
            self.finished.add(key)


class Spool:
    """Appends events to a file, one JSON object a line, and remembers up to where they were
    delivered. Of a study's processes, the one that holds its driver lock writes.

    Args:
        path: The file; where delivery stands is kept beside it.

    Attributes:
        known: What the events say of the trials.
        appended: Events in the file.
        delivered: Events that were delivered, from the start.

    Raises:
        MgstudyError: If the file cannot be read, or is damaged in its middle.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known = Known()
        self.appended = 0
        self.delivered = 0
        self._offset = 0
        self._changed = threading.Condition()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            _cut_half_line(path)
            for event, _ in self._events(0):
                self.known.add(event)
                self.appended += 1
            if self._mark.exists():
                mark = json.loads(self._mark.read_text(encoding="utf-8"))
                # Of another file, which was deleted or restored, it says nothing.
                if mark["offset"] <= path.stat().st_size:
                    self._offset, self.delivered = mark["offset"], mark["delivered"]
        except (OSError, ValueError, KeyError) as error:
            raise MgstudyError(f"{path}: cannot be read: {error}") from error

    def start(self, trial: str, description: Mapping[str, Any]) -> None:
        """A trial began, unless that is known.

        Args:
            trial: Its key.
            description: What it is: cell, levels, number, stage, seed, parameters.
        """
        if trial not in self.known.trials:
            self._append({"event": STARTED, "trial": trial, "description": dict(description)})

    def report(self, trial: str, step: int, metrics: Mapping[str, float]) -> None:
        """A trial validated, unless that step is known from before an interruption."""
        if step > self.known.steps.get(trial, 0):
            content = {"step": step, "metrics": dict(metrics)}
            self._append({"event": REPORTED, "trial": trial, **content})

    def finish(self, trial: str, state: str, outcome: Mapping[str, Any]) -> None:
        """A trial ended, unless that is known."""
        if trial not in self.known.finished:
            content = {"state": state, "outcome": dict(outcome)}
            self._append({"event": FINISHED, "trial": trial, **content})

    def pending(self) -> Iterator[tuple[dict[str, Any], int]]:
        """The events that were not delivered, each with the place after it, up to now."""
        return self._events(self._offset)

    def mark_delivered(self, place: int, events: int) -> None:
        """So many more events are delivered, up to this place."""
        self._offset = place
        self.delivered += events
        with written_whole(self._mark) as file:
            file.write(json.dumps({"offset": place, "delivered": self.delivered}).encode())

    def rewind(self) -> None:
        """Nothing is delivered any more."""
        self._offset = self.delivered = 0
        self._mark.unlink(missing_ok=True)

    def wait(self, seconds: float) -> None:
        """Wait until there is something to deliver, ``wake`` is called, or the time is over."""
        with self._changed:
            if self.delivered == self.appended:
                self._changed.wait(timeout=seconds)

    def wake(self) -> None:
        """End a ``wait``."""
        with self._changed:
            self._changed.notify_all()

    @property
    def _mark(self) -> Path:
        return self.path.with_suffix(".delivered")

    def _append(self, event: dict[str, Any]) -> None:
        # A clock that is set back must not let a run end before it began.
        at = max(int(time.time() * 1000), self.known.latest.get(event["trial"], 0))
        event = {**event, "at": at}
        line = json.dumps(event, separators=(",", ":"))
        # Opened every time: a descriptor kept for days is one that outlives a restored disk.
        with self.path.open("ab") as file:
            file.write(line.encode() + b"\n")
        with self._changed:
            self.known.add(event)
            self.appended += 1
            self._changed.notify_all()

    def _events(self, offset: int) -> Iterator[tuple[dict[str, Any], int]]:
        with self.path.open("rb") as file:
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return  # Still being written.
                offset += len(line)
                yield json.loads(line), offset


def _cut_half_line(path: Path) -> None:
    """Remove what a writer that was killed, or a full disk, left of its last line."""
    with path.open("r+b") as file:
        size = file.seek(0, 2)
        place = size
        while place > 0:
            start = max(0, place - 65536)
            file.seek(start)
            found = file.read(place - start).rfind(b"\n")
            if found >= 0:
                place = start + found + 1
                break
            place = start
        if place < size:
            file.truncate(place)
