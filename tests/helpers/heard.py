"""A listener that notes what a study tells it."""

from __future__ import annotations

from mgstudy.study.search.events import StudyListener
from mgstudy.study.search.trials import State


class Heard(StudyListener):
    """Notes every event, in order."""

    def __init__(self) -> None:
        self.events: list[tuple] = []

    def trial_started(self, trial) -> None:
        self.events.append(("started", trial.key))

    def trial_reported(self, trial, step, value, metrics) -> None:
        self.events.append(("reported", trial.key, step, value, dict(metrics)))

    def trial_finished(self, trial, state, value, outcome) -> None:
        assert trial.key not in self.finished
        self.events.append(("finished", trial.key, state, value, outcome.get("reason")))

    @property
    def started(self) -> list[str]:
        """Keys of trials, as often as they started."""
        return [event[1] for event in self.events if event[0] == "started"]

    @property
    def reported(self) -> list[tuple[str, int]]:
        """Keys of trials with the steps that they reported."""
        return [event[1:3] for event in self.events if event[0] == "reported"]

    @property
    def finished(self) -> dict[str, State]:
        """How each trial ended, by its key."""
        return {event[1]: event[2] for event in self.events if event[0] == "finished"}

    @property
    def confirmed(self) -> list[str]:
        """Keys of the confirmations that ended, in order of the keys."""
        return sorted(key for key in self.finished if "/confirmation/" in key)
