"""A study's state, shown again and again while another process drives it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from mgstudy.report.console.status import failed_trials
from mgstudy.report.console.study_progress import (
    cells_table,
    ended_and_total,
    remaining_text,
    trials_per_hour,
)
from mgstudy.study.results.summary import StudySummary
from mgstudy.study.search.state import State


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


def progress_line(summary: StudySummary) -> str:
    """How many trials and confirmations have ended, at which pace, and how long the others take."""
    done, total = ended_and_total(summary.cells)
    state = "finished" if summary.finished else "running" if summary.driven else "not running"
    failed = sum(
        cell.counts[State.FAILED] + cell.confirmation_counts[State.FAILED] for cell in summary.cells
    )
    said = f"study {summary.name}: {state}; {done} of {total} trials, {failed} failed"
    if summary.finished or not summary.driven:
        return said
    return f"{said}; {remaining_text(pace(summary), total - done)}"


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
    return Group(
        cells_table(summary.objective, summary.cells),
        Text(progress_line(summary)),
        *(Text(line, style="red") for line in failed_trials(summary)),
    )
