"""How far a study is, as both displays of a running one show it: the launch's and ``status
--watch``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.table import Table
from rich.text import Text

from mgstudy.report.comparison.baselines import DEFAULT_BASELINE, baseline_of
from mgstudy.report.numbers import duration
from mgstudy.study.definition.cell import varying_factors
from mgstudy.study.search.state import CellState, State

_PACE_TRIALS = 20
_MANY_CELLS = 40
_SECONDS_PER_HOUR = 3600


def cells_table(objective: str, cells: Sequence[CellState]) -> Table:
    """A row for each cell, its best score beside its baseline's; of very many cells those at work.

    Args:
        objective: Name of the metric that selects.
        cells: The cells.
    """
    factors = shown_factors(cells)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for factor in factors:
        table.add_column(factor)
    confirms = any(cell.seeds for cell in cells)
    titles = ["done", "running", "pruned", "failed", "waiting", *["confirmed"] * confirms]
    for title in (*titles, f"best {objective}", "baseline"):
        table.add_column(title, justify="right")
    shown = cells
    if len(cells) > _MANY_CELLS:
        shown = [cell for cell in cells if _running(cell)] or cells[:_MANY_CELLS]
    for cell in shown:
        counts = cell.counts
        seeds = sum(cell.confirmation_counts.values())
        baseline = baseline_of(cell, cells, DEFAULT_BASELINE)
        table.add_row(
            *(cell.levels[factor] for factor in factors),
            str(cell.ended),
            str(_running(cell)),
            f"{counts[State.PRUNED] / cell.ended:.0%}" if cell.ended else "",
            Text(str(counts[State.FAILED]), style="red" if counts[State.FAILED] else ""),
            str(counts[State.WAITING]),
            *([f"{cell.confirmed}/{seeds}" if seeds else ""] if confirms else ()),
            _score(cell),
            _score(baseline),
        )
    return table


def shown_factors(cells: Sequence[CellState]) -> list[str]:
    """The factors whose levels name the cells."""
    return varying_factors(cell.levels for cell in cells) or ["model"]


def ended_and_total(cells: Iterable[CellState]) -> tuple[int, int]:
    """Trials and confirmations that have ended, and those there will be."""
    ended = total = 0
    for cell in cells:
        ended += cell.ended + cell.confirmed
        total += sum(cell.counts.values()) + sum(cell.confirmation_counts.values())
    return ended, total


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


def _running(cell: CellState) -> int:
    return cell.counts[State.RUNNING] + cell.confirmation_counts[State.RUNNING]


def _score(cell: CellState | None) -> str:
    return "" if cell is None or cell.best is None else f"{cell.best.value:.4f}"
