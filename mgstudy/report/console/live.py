"""The display of a running study: a live table in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from mgstudy.report.comparison.baselines import DEFAULT_BASELINE, baseline_of
from mgstudy.report.console.study_progress import (
    CellProgress,
    cells_table,
    failure_lines,
    remaining_text,
    trials_per_hour,
)
from mgstudy.report.numbers import duration
from mgstudy.study.search.events import Assignment, Stage, State, StudyListener
from mgstudy.study.search.record import CellRecord, StudyRecord

_SHOWN_FAILURES = 3
_REFRESHES_PER_SECOND = 2


@dataclass
class _Cell:
    labels: tuple[str, ...]
    record: CellRecord
    baseline: str | None
    running: set[Assignment] = field(default_factory=set)
    complete: int = 0
    pruned: int = 0
    failed: int = 0
    best: float | None = None

    @property
    def done(self) -> int:
        return self.complete + self.pruned + self.failed + self.record.confirmation.finished

    @property
    def search_left(self) -> int:
        return max(0, self.record.trials - self.complete - self.pruned - self.failed)

    @property
    def left(self) -> int:
        confirmation = self.record.confirmation
        return self.search_left + confirmation.seeds - confirmation.finished


class LiveDisplay(StudyListener):
    """Shows cells, trials by state, the best score so far beside the baseline's, failures with
    their reasons, pace, elapsed and remaining time.

    Args:
        record: The study's record, already opened: what is finished counts as done.
        factors: The factors whose levels name the cells.
        objective: Name of the metric that selects.
        slots: Trials that run at once.
        console: Where to show it.
    """

    def __init__(
        self,
        record: StudyRecord,
        factors: list[str],
        objective: str,
        slots: int,
        console: Console,
    ) -> None:
        self.factors = factors or ["model"]
        self.objective = objective
        self.slots = slots
        self.console = console
        self._cells: dict[str, _Cell] = {}
        cells = [entry.cell for entry in record.cells.values()]
        for key, entry in record.cells.items():
            counts = entry.finished_counts()
            best = record.best(entry.cell)
            baseline = baseline_of(entry.cell, cells, DEFAULT_BASELINE)
            self._cells[key] = _Cell(
                labels=tuple(entry.cell.levels[factor] for factor in self.factors),
                record=entry,
                baseline=None if baseline is None else baseline.key,
                complete=counts[State.COMPLETE],
                pruned=counts[State.PRUNED],
                failed=counts[State.FAILED],
                best=best.value if best else None,
            )
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
            self.console.print(
                f"{len(self._cells)} cells, {self._left()} trials to run "
                f"({self._done()} done), {self.slots} at once",
                soft_wrap=True,
            )

    def trial_started(self, trial: Assignment) -> None:
        """Count the trial as running."""
        self._cells[trial.cell.key].running.add(trial)

    def trial_interrupted(self, trial: Assignment, reason: str) -> None:
        """Count the trial as waiting, and say why."""
        self._cells[trial.cell.key].running.discard(trial)
        self.console.print(
            f"{self._name(trial)} runs again: {reason}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )

    def trial_finished(
        self, trial: Assignment, state: State, value: float | None, outcome: Mapping[str, Any]
    ) -> None:
        """Count the trial as ended, and say so where there is no live table."""
        cell = self._cells[trial.cell.key]
        cell.running.discard(trial)
        if state is State.FAILED:
            self._failures[trial.cell.key, str(outcome.get("reason", "unknown"))] += 1
        if trial.stage is Stage.SEARCH:
            cell.complete += state is State.COMPLETE
            cell.pruned += state is State.PRUNED
            cell.failed += state is State.FAILED
            if value is not None and (cell.best is None or value > cell.best):
                cell.best = value
        self._ends.append(time.monotonic())
        if self._live is None:
            self._print_line(trial, state, value, outcome)

    def close(self) -> None:
        """Show the last state and stop."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _print_line(
        self, trial: Assignment, state: State, value: float | None, outcome: Mapping[str, Any]
    ) -> None:
        total = self._done() + self._left()
        said = f"{self.objective} {value:.4f}" if value is not None else ""
        if self.objective in outcome.get("test_metrics", {}):
            said = f"test {self.objective} {outcome['test_metrics'][self.objective]:.4f}"
        if state is State.PRUNED:
            said = f"after {outcome.get('epochs', '?')} epochs"
        if state is State.FAILED:
            said = str(outcome.get("reason", ""))
        self.console.print(
            f"[{self._done()}/{total}] {self._name(trial)} {state.value} {said}; "
            f"{self._time_text()}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )

    def _name(self, trial: Assignment) -> str:
        number = "confirmation " if trial.stage is Stage.CONFIRMATION else "#"
        return f"{' '.join(self._cells[trial.cell.key].labels)} {number}{trial.number}"

    def _done(self) -> int:
        return sum(cell.done for cell in self._cells.values())

    def _left(self) -> int:
        return sum(cell.left for cell in self._cells.values())

    def _time_text(self) -> str:
        pace = trials_per_hour([self._began, *self._ends]) if self._ends else None
        elapsed = duration(time.monotonic() - self._began)
        return f"elapsed {elapsed}, {remaining_text(pace, self._left())}"

    def _progress(self, cell: _Cell) -> CellProgress:
        return CellProgress(
            labels=cell.labels,
            complete=cell.complete,
            pruned=cell.pruned,
            failed=cell.failed,
            running=len(cell.running),
            waiting=cell.search_left - sum(t.stage is Stage.SEARCH for t in cell.running),
            confirmed=cell.record.confirmation.finished,
            seeds=cell.record.confirmation.seeds,
            best=cell.best,
            baseline=None if cell.baseline is None else self._cells[cell.baseline].best,
        )

    def _render(self) -> RenderableType:
        cells = [self._progress(cell) for cell in self._cells.values()]
        done = self._done()
        line = Text(f"{done} of {done + self._left()} trials; {self._time_text()}")
        failures = failure_lines(self._failures)[-_SHOWN_FAILURES:]
        return Group(
            cells_table(self.factors, self.objective, cells),
            line,
            *(Text(text, style="red") for text in failures),
        )
