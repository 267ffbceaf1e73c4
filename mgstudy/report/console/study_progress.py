"""A study while it runs: in the process that drives it, and in another that watches."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from datetime import datetime
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from mgstudy.config.factors import varying_factors
from mgstudy.config.study import StudyConfig
from mgstudy.report.console.status import (
    ended_and_total,
    failed_trials,
    failure_lines,
    state_of,
)
from mgstudy.report.table import Table
from mgstudy.report.texts import duration
from mgstudy.study.results.summary import StudySummary
from mgstudy.study.search.events import StudyListener, TrialRequest
from mgstudy.study.search.record import StudyRecord
from mgstudy.study.search.rounds import baseline_of
from mgstudy.study.search.state import CellState
from mgstudy.study.search.trials import Stage, State

_PACE_TRIALS = 20
_MANY_CELLS = 40
_SECONDS_PER_HOUR = 3600
_SHOWN_FAILURES = 3
_REFRESHES_PER_SECOND = 2


class LiveDisplay(StudyListener):
    """Shows cells, trials by state, the best score so far beside the baseline's, failures with
    their reasons, pace, elapsed and remaining time: a live table in a terminal, plain lines
    elsewhere.

    Args:
        record: The study's record: what is finished counts as done.
        slots: Trials that run at once.
        console: Where to show it.
    """

    def __init__(self, record: StudyRecord, slots: int, console: Console) -> None:
        self.record = record
        self.slots = slots
        self.console = console
        self._factors = varying_factors(cell.levels for cell in record.states) or ["model"]
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
        objective = self.record.config.training.objective
        said = f"{objective} {value:.4f}" if value is not None else ""
        if objective in outcome.get("test_metrics", {}):
            said = f"test {objective} {outcome['test_metrics'][objective]:.4f}"
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
        said = f"{done} of {total} trials; {self._time_text(total - done)}"
        return _frame(
            said, self.record.config, cells, failure_lines(self._failures)[-_SHOWN_FAILURES:]
        )


def watch(read: Callable[[], StudySummary], console: Console, every: float) -> None:
    """Show a study until it is finished or no process drives it: a live table in a terminal, a
    line whenever something changed elsewhere.

    Args:
        read: Gives the study as it is now.
        console: Where to show it.
        every: Seconds between two looks.
    """
    told: list[str] = []
    live = Live(console=console, auto_refresh=False) if console.is_terminal else None
    with live or nullcontext():
        while True:
            summary = read()
            said, failed = progress_line(summary), failed_trials(summary)
            if live is not None:
                frame = _frame(said, summary.manifest.config, summary.cells, failed)
                live.update(frame, refresh=True)
            else:
                for line in (said, *failed):
                    if line not in told:
                        console.print(line, markup=False, highlight=False, soft_wrap=True)
                told = [said, *failed]
            if summary.finished or not summary.driven:
                return
            time.sleep(every)


def progress_line(summary: StudySummary) -> str:
    """How many trials and confirmations have ended, at which pace, and how long the others take."""
    done, total = ended_and_total(summary.cells)
    failed = sum(
        cell.counts[State.FAILED] + cell.confirmation_counts[State.FAILED] for cell in summary.cells
    )
    said = f"study {summary.name}: {state_of(summary)}; {done} of {total} trials, {failed} failed"
    if summary.finished or not summary.driven:
        return said
    return f"{said}; {remaining_text(pace(summary), total - done)}"


def pace(summary: StudySummary) -> float | None:
    """Trials per hour since the last launch, where two have ended since; else before it."""
    ends = [
        trial.ended.timestamp()
        for cell in summary.cells
        for trial in (*cell.trials, *cell.confirmations)
        if trial.ended is not None
    ]
    since = datetime.fromisoformat(summary.manifest.launched).timestamp()
    recent = [end for end in ends if end >= since]
    return trials_per_hour(recent if len(recent) > 1 else ends)


def trials_per_hour(moments: Iterable[float]) -> float | None:
    """The pace of the last 20 trials.

    Args:
        moments: When trials ended, in seconds; the first may be when they began.

    Returns:
        ``None`` without two different moments.
    """
    last = sorted(moments)[-_PACE_TRIALS - 1 :]
    seconds = last[-1] - last[0] if last else 0.0
    return (len(last) - 1) * _SECONDS_PER_HOUR / seconds if seconds > 0 else None


def remaining_text(pace: float | None, left: int) -> str:
    """For example ``6.0 trials per hour, remaining about 20 min 0 s``.

    Args:
        pace: Trials per hour; ``None`` where that is not known yet.
        left: Trials still to end.
    """
    if pace is None:
        return "remaining unknown" if left else "remaining 0 s"
    about = "about " if left else ""
    seconds = left * _SECONDS_PER_HOUR / pace
    return f"{pace:.1f} trials per hour, remaining {about}{duration(seconds)}"


def cells_table(config: StudyConfig, cells: Sequence[CellState]) -> Table:
    """A row for each cell, its best score beside its baseline's; of very many cells those at work.

    Args:
        config: The study: what selects, and what its cells are compared with.
        cells: The cells.
    """
    best, confirms = f"best {config.training.objective}", any(cell.seeds for cell in cells)
    shown = cells
    if len(cells) > _MANY_CELLS:
        shown = [cell for cell in cells if _running(cell)] or cells[:_MANY_CELLS]
    rows = []
    for cell in shown:
        counts = cell.counts
        seeds = sum(cell.confirmation_counts.values())
        row = {
            "done": str(cell.ended),
            "running": str(_running(cell)),
            "pruned": f"{counts[State.PRUNED] / cell.ended:.0%}" if cell.ended else "",
            "failed": str(counts[State.FAILED]),
            "waiting": str(counts[State.WAITING]),
            **({"confirmed": f"{cell.confirmed}/{seeds}" if seeds else ""} if confirms else {}),
            best: _score(cell),
            "baseline": _score(baseline_of(cell, cells, config.baselines[0])),
        }
        rows.append((cell.levels, row))
    return Table.of_cells(
        [(levels, list(row.values())) for levels, row in rows],
        list(rows[0][1]) if rows else (),
        among=[cell.levels for cell in cells],
        spare=("pruned", "waiting"),
        styles={(n, "failed"): "red" for n, (_, row) in enumerate(rows) if row["failed"] != "0"},
    )


def _frame(
    said: str, config: StudyConfig, cells: Sequence[CellState], failures: Iterable[str]
) -> RenderableType:
    """What a terminal shows; what a long table would push out of it stands above."""
    failed = (Text(line, "red") for line in failures)
    return Group(Text(said), cells_table(config, cells), *failed)


def _running(cell: CellState) -> int:
    return cell.counts[State.RUNNING] + cell.confirmation_counts[State.RUNNING]


def _score(cell: CellState | None) -> str:
    return "" if cell is None or cell.best is None else f"{cell.best.value:.4f}"
