"""The display of a running study: a live table in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from mgstudy.report.console.study_progress import (
    cells_table,
    ended_and_total,
    failure_lines,
    remaining_text,
    shown_factors,
    trials_per_hour,
)
from mgstudy.report.numbers import duration
from mgstudy.study.search.events import StudyListener, TrialRequest
from mgstudy.study.search.record import StudyRecord
from mgstudy.study.search.state import Stage, State

_SHOWN_FAILURES = 3
_REFRESHES_PER_SECOND = 2


class LiveDisplay(StudyListener):
    """Shows cells, trials by state, the best score so far beside the baseline's, failures with
    their reasons, pace, elapsed and remaining time.

    Args:
        record: The study's record: what is finished counts as done.
        slots: Trials that run at once.
        console: Where to show it.
    """

    def __init__(self, record: StudyRecord, slots: int, console: Console) -> None:
        self.record = record
        self.slots = slots
        self.console = console
        self._objective = record.config.training.objective
        self._factors = shown_factors(record.states)
        self._failures: Counter[tuple[str, str]] = Counter()
        self._began = time.monotonic()
        self._ends: list[float] = []
        self._live: Live | None = None

    def start(self) -> None:
        """Begin to show."""
        if self.console.is_terminal:
            self._live = Live(
                get_renderable=self._render,
                console=self.console,
                refresh_per_second=_REFRESHES_PER_SECOND,
            )
            self._live.start()
        else:
            done, total = ended_and_total(self.record.states)
            self._say(
                f"{len(self.record.cells)} cells, {total - done} trials to run "
                f"({done} done), {self.slots} at once"
            )

    def trial_interrupted(self, trial: TrialRequest, reason: str) -> None:
        """Say why a trial runs again."""
        self._say(f"{self._name(trial)} runs again: {reason}")

    def trial_finished(
        self, trial: TrialRequest, state: State, value: float | None, outcome: Mapping[str, Any]
    ) -> None:
        """Take note of when and why a trial ended, and say so where there is no live table."""
        if state is State.FAILED:
            self._failures[trial.cell.key, str(outcome.get("reason", "unknown"))] += 1
        self._ends.append(time.monotonic())
        if self._live is not None:
            return
        said = f"{self._objective} {value:.4f}" if value is not None else ""
        if self._objective in outcome.get("test_metrics", {}):
            said = f"test {self._objective} {outcome['test_metrics'][self._objective]:.4f}"
        if state is State.PRUNED:
            said = f"after {outcome.get('epochs', '?')} epochs"
        if state is State.FAILED:
            said = str(outcome.get("reason", ""))
        done, total = ended_and_total(self.record.states)
        self._say(
            f"[{done}/{total}] {self._name(trial)} {state.value} {said}; "
            f"{self._time_text(total - done)}"
        )

    def stop(self) -> None:
        """Show the last state and stop."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _say(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _name(self, trial: TrialRequest) -> str:
        labels = " ".join(trial.cell.levels[factor] for factor in self._factors)
        number = "confirmation " if trial.stage is Stage.CONFIRMATION else "#"
        return f"{labels} {number}{trial.number}"

    def _time_text(self, left: int) -> str:
        pace = trials_per_hour([self._began, *self._ends]) if self._ends else None
        elapsed = duration(time.monotonic() - self._began)
        return f"elapsed {elapsed}, {remaining_text(pace, left)}"

    def _render(self) -> RenderableType:
        cells = self.record.states
        done, total = ended_and_total(cells)
        failures = failure_lines(self._failures)[-_SHOWN_FAILURES:]
        return Group(
            cells_table(self._objective, cells),
            Text(f"{done} of {total} trials; {self._time_text(total - done)}"),
            *(Text(text, style="red") for text in failures),
        )
