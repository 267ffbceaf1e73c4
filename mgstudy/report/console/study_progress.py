"""How far a study is, as both displays of a running one show it: the launch's and ``status
--watch``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from mgstudy.report.numbers import duration

_PACE_TRIALS = 20
_MANY_CELLS = 40
_SECONDS_PER_HOUR = 3600


@dataclass(frozen=True)
class CellProgress:
    """How far one cell is.

    Attributes:
        labels: The labels of the levels that tell the cells apart.
        complete: Trials of the search that are complete.
        pruned: Those that were pruned.
        failed: Those that failed.
        running: Trials that run now.
        waiting: Trials of the search still to begin.
        confirmed: Confirmation trials that have ended.
        seeds: Confirmation trials there will be.
        best: The best validation score so far.
        baseline: That of the cell's baseline; ``None`` for a baseline itself.
    """

    labels: tuple[str, ...]
    complete: int
    pruned: int
    failed: int
    running: int
    waiting: int
    confirmed: int
    seeds: int
    best: float | None
    baseline: float | None

    @property
    def ended(self) -> int:
        """Trials of the search that have ended."""
        return self.complete + self.pruned + self.failed


def cells_table(factors: Sequence[str], objective: str, cells: Sequence[CellProgress]) -> Table:
    """A row for each cell, its best score beside its baseline's; of very many cells those at work.

    Args:
        factors: The factors whose levels name the cells.
        objective: Name of the metric that selects.
        cells: The cells.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for factor in factors:
        table.add_column(factor)
    confirms = any(cell.seeds for cell in cells)
    titles = ["done", "running", "pruned", "failed", "waiting", *["confirmed"] * confirms]
    for title in (*titles, f"best {objective}", "baseline"):
        table.add_column(title, justify="right")
    shown = cells
    if len(cells) > _MANY_CELLS:
        shown = [cell for cell in cells if cell.running] or cells[:_MANY_CELLS]
    for cell in shown:
        table.add_row(
            *cell.labels,
            str(cell.ended),
            str(cell.running),
            f"{cell.pruned / cell.ended:.0%}" if cell.ended else "",
            Text(str(cell.failed), style="red" if cell.failed else ""),
            str(cell.waiting),
            *([f"{cell.confirmed}/{cell.seeds}" if cell.seeds else ""] if confirms else ()),
            "" if cell.best is None else f"{cell.best:.4f}",
            "" if cell.baseline is None else f"{cell.baseline:.4f}",
        )
    return table


def failure_lines(failures: Mapping[tuple[str, str], int]) -> list[str]:
    """Failures of a cell for the same reason as one line.

    Args:
        failures: How many there were by cell and reason.
    """
    return [f"{count} failed in {cell}: {reason}" for (cell, reason), count in failures.items()]


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
