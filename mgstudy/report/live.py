"""The display of a running study: a live table in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mgstudy.report.durations import duration
from mgstudy.study.events import Assignment, Stage, State, StudyListener
from mgstudy.study.record import CellRecord, StudyRecord

_SHOWN_FAILURES = 3
_REFRESHES_PER_SECOND = 2
_FEW_CELLS = 40


@dataclass
class _CellProgress:
    labels: tuple[str, ...]
    record: CellRecord
    running: set[Assignment] = field(default_factory=set)
    complete: int = 0
    pruned: int = 0
    failed: int = 0
    best: float | None = None

    @property
    def done(self) -> int:
        return self.complete + self.pruned + self.failed

    @property
    def left(self) -> int:
        return max(0, self.record.trials - self.done)

    @property
    def waiting(self) -> int:
        return self.left - sum(trial.stage is Stage.SEARCH for trial in self.running)


class LiveDisplay(StudyListener):
    """Shows cells, trials by state, the best score so far, elapsed and remaining time.

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
        self.failures: list[str] = []
        self._cells: dict[str, _CellProgress] = {}
        for key, entry in record.cells.items():
            counts = entry.finished_counts()
            best = record.best(entry.cell)
            self._cells[key] = _CellProgress(
                labels=tuple(entry.cell.levels[factor] for factor in self.factors),
                record=entry,
                complete=counts[State.COMPLETE],
                pruned=counts[State.PRUNED],
                failed=counts[State.FAILED],
                best=best.value if best else None,
            )
        self._began = time.monotonic()
        self._finished_here = 0
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
            self.failures.append(f"{self._name(trial)}: {outcome.get('reason', 'unknown')}")
        if trial.stage is Stage.SEARCH:
            cell.complete += state is State.COMPLETE
            cell.pruned += state is State.PRUNED
            cell.failed += state is State.FAILED
            if value is not None and (cell.best is None or value > cell.best):
                cell.best = value
        self._finished_here += 1
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
            f"elapsed {duration(self._elapsed())}, remaining {self._remaining()}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )

    def _name(self, trial: Assignment) -> str:
        number = "confirmation " if trial.stage is Stage.CONFIRMATION else "#"
        return f"{' '.join(self._cells[trial.cell.key].labels)} {number}{trial.number}"

    def _done(self) -> int:
        return sum(cell.done + cell.record.confirmation.finished for cell in self._cells.values())

    def _left(self) -> int:
        return sum(
            cell.left + cell.record.confirmation.seeds - cell.record.confirmation.finished
            for cell in self._cells.values()
        )

    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    def _remaining(self) -> str:
        left = self._left()
        if not left:
            return "0 s"
        if not self._finished_here:
            return "unknown"
        return f"about {duration(self._elapsed() / self._finished_here * left)}"

    def _render(self) -> RenderableType:
        table = Table(box=None, padding=(0, 1), pad_edge=False)
        for factor in self.factors:
            table.add_column(factor)
        for title in ("running", "done", "pruned", "failed", "waiting"):
            table.add_column(title, justify="right")
        table.add_column(f"best {self.objective}", justify="right")
        confirms = any(cell.record.confirmation.seeds for cell in self._cells.values())
        if confirms:
            table.add_column("confirmed", justify="right")
        shown = list(self._cells.values())
        if len(shown) > _FEW_CELLS:
            active = [cell for cell in shown if cell.running]
            shown = active or shown[:_FEW_CELLS]
        for cell in shown:
            confirmation = cell.record.confirmation
            table.add_row(
                *cell.labels,
                str(len(cell.running)),
                str(cell.complete),
                str(cell.pruned),
                Text(str(cell.failed), style="red" if cell.failed else ""),
                str(cell.waiting),
                "" if cell.best is None else f"{cell.best:.4f}",
                *((f"{confirmation.finished}/{confirmation.seeds}",) if confirms else ()),
            )
        done = self._done()
        line = Text(
            f"{done} of {done + self._left()} trials; elapsed {duration(self._elapsed())}, "
            f"remaining {self._remaining()}"
        )
        failures = [
            Text(f"failed: {text}", style="red") for text in self.failures[-_SHOWN_FAILURES:]
        ]
        return Group(table, line, *failures)
