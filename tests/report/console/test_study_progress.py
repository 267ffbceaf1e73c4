"""A running study as its own process shows it, and as another that watches it does."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO

import numpy as np
import optuna
import pytest
from rich.console import Console
from states import recorded, summary_of

from mgstudy.config.document import parse_document
from mgstudy.config.study import StudyConfig
from mgstudy.data.dataset import Dataset, Interactions
from mgstudy.report.console.study_progress import LiveDisplay, pace, watch
from mgstudy.study.definition.expansion import expand
from mgstudy.study.results.summary import StudySummary
from mgstudy.study.search.record import StudyRecord
from mgstudy.study.search.state import CellState
from mgstudy.study.search.trials import RecordedTrial, Stage, State

STUDY = """
name: s
factors: {dataset: [a], model: [BPR], gradient: [plain, sam]}
trials: 3
confirmation: null
"""


@pytest.fixture
def record() -> StudyRecord:
    """Two cells of three trials; one trial of the first is complete already."""
    rows = Interactions(np.array([0, 1]), np.array([0, 1]))
    datasets = {"a": Dataset.from_arrays("a", 2, 3, rows, rows, rows, {})}
    document = parse_document(STUDY, "s.yaml")
    config = document.validate(StudyConfig)
    cells = expand(config, document, datasets).cells
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    record = StudyRecord(config, cells, datasets, optuna.storages.InMemoryStorage(), [])
    record.complete(record.next_request(), {"best_value": 0.25})
    return record


def run(record: StudyRecord, display: LiveDisplay) -> None:
    """Complete, prune and fail a trial of the second cell, and leave the others running."""
    record.listeners = [display]
    display.start()
    mine = []
    while (trial := record.next_request()) is not None:
        record.start(trial)
        if trial.cell.gradient == "sam":
            mine.append(trial)
    record.complete(mine[0], {"best_value": 0.5})
    record.prune(mine[1], {"epochs": 4})
    record.fail(mine[2], {"reason": "training [really] diverged"})
    display.stop()


def test_a_terminal_shows_a_table_that_adds_up(record: StudyRecord) -> None:
    text = StringIO()
    console = Console(file=text, force_terminal=True, width=120, markup=False)
    run(record, LiveDisplay(record, 2, console))
    last_frame = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text.getvalue()).replace("\r", "")
    rows = [line.split() for line in last_frame.splitlines()]
    # done, running, pruned, failed, waiting, best, the baseline's
    assert ["plain", "1", "2", "0%", "0", "0", "0.2500"] in rows
    assert ["sam", "3", "0", "33%", "1", "0", "0.5000", "0.2500"] in rows
    pace = r"[\d.]+ trials per hour"
    assert re.search(rf"4 of 6 trials; elapsed .*, {pace}, remaining about \d", last_frame)
    assert "1 failed in a/BPR/sam/none/adam/999: training [really] diverged" in last_frame


def test_elsewhere_each_end_is_a_line(record: StudyRecord) -> None:
    text = StringIO()
    run(record, LiveDisplay(record, 2, Console(file=text, width=40)))
    lines = text.getvalue().splitlines()
    assert [line.partition(";")[0] for line in lines] == [
        "2 cells, 5 trials to run (1 done), 2 at once",
        "[2/6] sam #0 complete recall@20 0.5000",
        "[3/6] sam #1 pruned after 4 epochs",
        "[4/6] sam #2 failed training [really] diverged",
    ]


# Watched from elsewhere.

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
