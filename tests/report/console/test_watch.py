from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from rich.console import Console
from states import recorded, summary_of

from mgstudy.report.console.watch import pace, watch
from mgstudy.study.results.summary import StudySummary
from mgstudy.study.search.state import CellState, RecordedTrial, Stage, State

BEGIN = datetime(2026, 1, 1)


def trial(number: int, state: State, minutes: int, value: float | None = None) -> RecordedTrial:
    ended = BEGIN + timedelta(minutes=minutes)
    outcome = {"reason": "training diverged"} if state is State.FAILED else {}
    return recorded(number, state, value, outcome, ended=ended)


def study(*, driven: bool, pruned: bool = True, hours_between: int = 0) -> StudySummary:
    later = 60 * hours_between
    plain = [trial(0, State.COMPLETE, 0, 0.25), trial(1, State.FAILED, 10)]
    sam = [
        trial(0, State.COMPLETE, 20 + later, 0.5),
        *([trial(1, State.PRUNED, 30 + later)] if pruned else []),
    ]
    cells = [
        CellState(name, {"model": "BPR", "gradient": name}, 3, frozenset(), trials)
        for name, trials in (("plain", plain), ("sam", sam))
    ]
    return summary_of(cells, driven=driven)


@pytest.fixture
def text() -> StringIO:
    return StringIO()


def test_pace_is_that_of_the_ends_since_the_last_launch() -> None:
    # Three ends follow the first within half an hour.
    assert pace(study(driven=True)) == pytest.approx(6)
    # A night lies between the first two and the others, which are ten minutes apart.
    later = study(driven=True, hours_between=8)
    assert pace(later) == pytest.approx(3 / 8.5)
    launched = (BEGIN + timedelta(hours=7)).astimezone(UTC).isoformat()
    again = summary_of(later.cells, driven=True, launched=launched)
    assert pace(again) == pytest.approx(6)


def test_a_terminal_sets_each_cell_beside_its_baseline(text: StringIO) -> None:
    console = Console(file=text, force_terminal=True, width=120, color_system=None)
    watch(lambda: study(driven=False), console, 2)
    rows = [line.split() for line in text.getvalue().splitlines()]
    # done, running, pruned, failed, waiting, best, the baseline's
    assert ["plain", "2", "0", "0%", "1", "1", "0.2500"] in rows
    assert ["sam", "2", "0", "50%", "0", "1", "0.5000", "0.2500"] in rows
    assert ["1", "failed", "in", "plain:", "training", "diverged"] in rows


def test_confirmations_are_counted_beside_the_search(text: StringIO) -> None:
    done = trial(0, State.COMPLETE, 10, 0.25)
    replicates = [
        replace(done, state=state, stage=Stage.CONFIRMATION)
        for state in (State.COMPLETE, State.FAILED, State.RUNNING)
    ]
    levels = {"model": "BPR", "gradient": "plain"}
    cell = CellState("plain", levels, 1, frozenset(), [done], 5, replicates)
    summary = summary_of([cell])
    console = Console(file=text, force_terminal=True, width=120, color_system=None)
    watch(lambda: summary, console, 2)
    rows = [line.split() for line in text.getvalue().splitlines()]
    # done, running, pruned, failed, waiting, confirmed, best; one more waits besides the running
    assert ["BPR", "1", "1", "0%", "0", "0", "2/5", "0.2500"] in rows
    assert "study s: not running; 3 of 6 trials, 1 failed" in text.getvalue()


def test_elsewhere_only_changes_are_lines(text: StringIO) -> None:
    seen = [study(driven=True, pruned=False)] * 2 + [study(driven=True), study(driven=False)]
    watch(lambda: seen.pop(0), Console(file=text, width=40), 0)
    tempo = "1 failed; 6.0 trials per hour"
    assert text.getvalue().splitlines() == [
        f"study s: running; 3 of 6 trials, {tempo}, remaining about 30 min 0 s",
        "1 failed in plain: training diverged",
        f"study s: running; 4 of 6 trials, {tempo}, remaining about 20 min 0 s",
        "study s: not running; 4 of 6 trials, 1 failed",
    ]
    assert not seen
