"""A study's state, shown again and again while another process drives it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from mgstudy.report.comparison.baselines import DEFAULT_BASELINE, baseline_of
from mgstudy.report.console.status import failed_trials
from mgstudy.report.console.study_progress import (
    CellProgress,
    cells_table,
    remaining_text,
    trials_per_hour,
)
from mgstudy.study.results.summary import StudySummary
from mgstudy.study.search.events import State

_ENDS = (State.COMPLETE, State.PRUNED, State.FAILED)


def pace(summary: StudySummary) -> float | None:
    """Trials per hour since the last launch, where two have ended since; else before it."""
    ends = [
        trial.ended.timestamp()
        for cell in summary.cells
        for trial in (*cell.trials, *cell.confirmations)
        if trial.ended is not None
    ]
    launched = summary.manifest.get("launched")
    since = datetime.fromisoformat(launched).timestamp() if launched else 0.0
    recent = [end for end in ends if end >= since]
    return trials_per_hour(recent if len(recent) > 1 else ends)


def progress_line(summary: StudySummary) -> str:
    """How many trials and confirmations have ended, at which pace, and how long the others take."""
    counts = [c for cell in summary.cells for c in (cell.counts, cell.confirmation_counts)]
    total = sum(sum(count.values()) for count in counts)
    done = sum(count[state] for count in counts for state in _ENDS)
    state = "finished" if summary.finished else "running" if summary.driven else "not running"
    failed = sum(count[State.FAILED] for count in counts)
    said = f"study {summary.name}: {state}; {done} of {total} trials, {failed} failed"
    if summary.finished or not summary.driven:
        return said
    return f"{said}; {remaining_text(pace(summary), total - done)}"


def cells_progress(summary: StudySummary) -> list[CellProgress]:
    """How far each cell is."""
    factors = summary.varying_factors() or ["model"]
    found = []
    for cell in summary.cells:
        counts = cell.counts
        baseline = baseline_of(cell, summary.cells, DEFAULT_BASELINE)
        other = None if baseline is None else baseline.best
        found.append(
            CellProgress(
                labels=tuple(cell.levels[factor] for factor in factors),
                complete=counts[State.COMPLETE],
                pruned=counts[State.PRUNED],
                failed=counts[State.FAILED],
                running=counts[State.RUNNING] + cell.confirmation_counts[State.RUNNING],
                waiting=counts[State.WAITING],
                confirmed=sum(cell.confirmation_counts[state] for state in _ENDS),
                seeds=sum(cell.confirmation_counts.values()),
                best=None if cell.best is None else cell.best.value,
                baseline=None if other is None else other.value,
            )
        )
    return found


def watch(read: Callable[[], StudySummary], console: Console, every: float) -> None:
    """Show a study until it is finished or no process drives it: a live table in a terminal, a
    line whenever something changed elsewhere.

    Args:
        read: Gives the study as it is now.
        console: Where to show it.
        every: Seconds between two looks.
    """
    if not console.is_terminal:
        told: list[str] = []
        while True:
            summary = read()
            lines = [progress_line(summary), *failed_trials(summary)]
            for line in lines:
                if line not in told:
                    console.print(line, markup=False, highlight=False, soft_wrap=True)
            told = lines
            if summary.finished or not summary.driven:
                return
            time.sleep(every)
    with Live(console=console, auto_refresh=False) as live:
        while True:
            summary = read()
            live.update(_frame(summary), refresh=True)
            if summary.finished or not summary.driven:
                return
            time.sleep(every)


def _frame(summary: StudySummary) -> RenderableType:
    factors = summary.varying_factors() or ["model"]
    return Group(
        cells_table(factors, summary.objective, cells_progress(summary)),
        Text(progress_line(summary)),
        *(Text(line, style="red") for line in failed_trials(summary)),
    )
