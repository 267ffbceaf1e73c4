from __future__ import annotations

from datetime import datetime, timedelta
from io import StringIO

import pytest
from rich.console import Console

from mgstudy.report.watch import trials_per_hour, watch
from mgstudy.study.events import State
from mgstudy.study.summary import CellSummary, StudySummary, TrialSummary

BEGIN = datetime(2026, 1, 1)


def trial(number: int, state: State, minutes: int, value: float | None = None) -> TrialSummary:
    ended = BEGIN + timedelta(minutes=minutes)
    outcome = {"reason": "training diverged"} if state is State.FAILED else {}
    return TrialSummary(number, state, value, {}, outcome, {}, ended=ended)


def study(*, driven: bool, pruned: bool = True) -> StudySummary:
    plain = [trial(0, State.COMPLETE, 0, 0.25), trial(1, State.FAILED, 10)]
    sam = [trial(0, State.COMPLETE, 20, 0.5), *([trial(1, State.PRUNED, 30)] if pruned else [])]
    cells = [
        CellSummary(name, {"model": "BPR", "gradient": name}, 3, frozenset(), trials)
        for name, trials in (("plain", plain), ("sam", sam))
    ]
    return StudySummary("s", "", "recall@20", "", "", "", driven, cells, [])


@pytest.fixture
def text() -> StringIO:
    return StringIO()


def test_pace_is_that_of_the_last_ends() -> None:
    # Three ends follow the first within half an hour.
    assert trials_per_hour(study(driven=True)) == pytest.approx(6)


def test_a_terminal_sets_each_cell_beside_its_baseline(text: StringIO) -> None:
    console = Console(file=text, force_terminal=True, width=120, color_system=None)
    watch(lambda: study(driven=False), console, 2)
    rows = [line.split() for line in text.getvalue().splitlines()]
    # done, running, pruned, failed, waiting, best, the baseline's
    assert ["plain", "2", "0", "0%", "1", "1", "0.2500"] in rows
    assert ["sam", "2", "0", "50%", "0", "1", "0.5000", "0.2500"] in rows


def test_elsewhere_only_changes_are_lines(text: StringIO) -> None:
    seen = [study(driven=True, pruned=False)] * 2 + [study(driven=True), study(driven=False)]
    watch(lambda: seen.pop(0), Console(file=text, width=40), 0)
    pace = "1 failed; 6.0 trials per hour"
    assert text.getvalue().splitlines() == [
        f"study s: running; 3 of 6 trials, {pace}, remaining about 30 min 0 s",
        "1 failed in plain: training diverged",
        f"study s: running; 4 of 6 trials, {pace}, remaining about 20 min 0 s",
        f"study s: not running; 4 of 6 trials, {pace}",
    ]
    assert not seen
