"""How far something is that takes long: bars in a terminal, plain lines or nothing elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from mgstudy.files import Progress as ProgressCallback
from mgstudy.report.texts import duration

if TYPE_CHECKING:
    from mgstudy.study.robustness.driver import Progress as OnResult
    from mgstudy.study.robustness.plan import Task, TrainedCell

_IN_BYTES = ("fetch ", "hash ", "read ")
"""How activities begin that count bytes; others count things."""
_SECONDS_BETWEEN_LINES = 15.0


def notebook_console() -> Console | None:
    """The output of a notebook's cell, where this runs in one."""
    console = Console()
    return console if console.is_jupyter else None


@contextmanager
def progress_bar(
    console: Console, every: float = _SECONDS_BETWEEN_LINES
) -> Iterator[ProgressCallback]:
    """Give a callback ``(activity, done, total)``. Its calls move a bar per activity, which says
    how many of how many are done and how long the rest takes; without a terminal, what takes long
    is told in a line now and then.

    Args:
        console: Where to show it.
        every: Seconds between two lines.
    """
    if not console.is_terminal:
        yield _Lines(console, every)
        return
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[counted]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as bars:
        tasks: dict[str, TaskID] = {}

        def show(activity: str, done: int, total: int) -> None:
            counted = _counted(activity, done, total)
            if activity not in tasks:
                tasks[activity] = bars.add_task(activity, total=total, counted=counted)
            bars.update(tasks[activity], completed=done, total=total, counted=counted)

        yield show


class _Lines:
    """Tells of activities by a line every so many seconds, from so many after their beginning on.

    Args:
        console: Where to.
        every: Seconds between two lines.
    """

    def __init__(self, console: Console, every: float) -> None:
        self._console, self._every = console, every
        self._activity = ""
        self._began = self._told = 0.0
        self._done_before = 0

    def __call__(self, activity: str, done: int, total: int) -> None:
        now = time.monotonic()
        if activity != self._activity:
            self._activity, self._began, self._told = activity, now, now
            self._done_before = done
        if now - self._told < self._every:
            return
        self._told = now
        said = (
            f"{activity}: {_counted(activity, done, total)}; elapsed {duration(now - self._began)}"
        )
        if newly_done := done - self._done_before:
            left = (now - self._began) / newly_done * (total - done)
            said += f", remaining about {duration(left)}"
        self._console.print(said, markup=False, highlight=False, soft_wrap=True)


def _counted(activity: str, done: int, total: int) -> str:
    if activity.startswith(_IN_BYTES):
        return f"{decimal(done)} of {decimal(total)}"
    return f"{done:,} of {total:,}"


class RobustnessProgress:
    """How far the measurement of a study's models is: counts results, and says after each model how
    long the rest will take.

    Args:
        remaining: What is left to measure, by model.
        factors: The factors whose levels name the cells.
        objective: The metric that is shown.
        console: Where to show it.
    """

    def __init__(
        self,
        remaining: Sequence[tuple[TrainedCell, Sequence[Task]]],
        factors: Sequence[str],
        objective: str,
        console: Console,
    ) -> None:
        self.factors = factors or ["model"]
        self.objective = objective
        self.console = console
        self.total = sum(len(tasks) for _, tasks in remaining)
        self._left = {trained.key: len(tasks) for trained, tasks in remaining}
        self._models = len(remaining)
        self._done = 0
        self._began = time.monotonic()
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._bar = self._bars.add_task("measurements", total=self.total)

    @contextmanager
    def shown(self) -> Iterator[OnResult]:
        """Show the bar inside the ``with`` block; gives what is to be told of every result."""
        if self._models and not self.console.is_terminal:
            self.console.print(
                f"{self._models} models, {self.total} measurements to make", soft_wrap=True
            )
        with self._bars:
            yield self.advance

    def advance(
        self, trained: TrainedCell, task: Task, measurements: Sequence[Mapping[str, Any]]
    ) -> None:
        """One more result."""
        self._done += 1
        self._bars.update(self._bar, advance=1, description=self._name(trained))
        self._left[trained.key] -= 1
        if self._left[trained.key] or self.console.is_terminal:
            return
        finished = sum(not left for left in self._left.values())
        elapsed = time.monotonic() - self._began
        remaining = elapsed / self._done * (self.total - self._done)
        self.console.print(
            f"[{finished}/{self._models}] {self._name(trained)} measured; elapsed "
            f"{duration(elapsed)}, remaining about {duration(remaining)}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )

    def _name(self, trained: TrainedCell) -> str:
        levels = " ".join(filter(None, map(trained.cell.levels.get, self.factors)))
        return f"{levels}, seed {trained.seed}"
