"""A study's state, shown again and again while another process drives it."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mgstudy.report.comparison import DEFAULT_BASELINE, baseline_of
from mgstudy.report.durations import duration
from mgstudy.report.status import failure_lines
from mgstudy.study.events import State
from mgstudy.study.summary import StudySummary

_PACE_TRIALS = 20
_ENDS = (State.COMPLETE, State.PRUNED, State.FAILED)


def trials_per_hour(summary: StudySummary) -> float | None:
    """Trials that ended per hour, between the ends of the last 21; ``None`` without two ends."""
    ends = sorted(
        trial.ended
        for cell in summary.cells
        for trial in (*cell.trials, *cell.confirmations)
        if trial.ended is not None
    )[-_PACE_TRIALS - 1 :]
    seconds = (ends[-1] - ends[0]).total_seconds() if ends else 0.0
    return (len(ends) - 1) * 3600 / seconds if seconds > 0 else None


def progress_line(summary: StudySummary) -> str:
    """How many trials and confirmations have ended, at which pace, and how long the others take."""
    counts = [c for cell in summary.cells for c in (cell.counts, cell.confirmation_counts)]
    total = sum(sum(count.values()) for count in counts)
    done = sum(count[state] for count in counts for state in _ENDS)
    state = "finished" if summary.finished else "running" if summary.driven else "not running"
    failed = sum(count[State.FAILED] for count in counts)
    said = f"study {summary.name}: {state}; {done} of {total} trials, {failed} failed"
    pace = trials_per_hour(summary)
    if pace is None or summary.finished:
        return said
    left = f", remaining about {duration((total - done) * 3600 / pace)}" if summary.driven else ""
    return f"{said}; {pace:.1f} trials per hour{left}"


def watch_table(summary: StudySummary) -> Table:
    """A row for each cell, its best score beside its baseline's."""
    factors = summary.varying_factors() or ["model"]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for factor in factors:
        table.add_column(factor)
    titles = ("done", "running", "pruned", "failed", "waiting", "confirmed")
    for title in (*titles, f"best {summary.objective}", "baseline"):
        table.add_column(title, justify="right")
    for cell in summary.cells:
        counts = cell.counts
        ended = sum(counts[state] for state in _ENDS)
        baseline = baseline_of(cell, summary.cells, DEFAULT_BASELINE)
        other = None if baseline is None or baseline is cell else baseline.best
        table.add_row(
            *(cell.levels[factor] for factor in factors),
            str(ended),
            str(counts[State.RUNNING]),
            f"{counts[State.PRUNED] / ended:.0%}" if ended else "",
            str(counts[State.FAILED]),
            str(counts[State.WAITING]),
            f"{cell.confirmation_counts[State.COMPLETE]}/{cell.seeds}" if cell.seeds else "",
            "" if cell.best is None else f"{cell.best.value:.4f}",
            "" if other is None else f"{other.value:.4f}",
        )
    return table


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
            lines = [progress_line(summary), *failure_lines(summary)]
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
    failures = [Text(line, style="red") for line in failure_lines(summary)]
    return Group(watch_table(summary), Text(progress_line(summary)), *failures)
