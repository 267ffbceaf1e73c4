from __future__ import annotations

import re
from io import StringIO

import numpy as np
import optuna
import pytest
from rich.console import Console

from mgstudy.config.document import parse_document
from mgstudy.config.study import StudyConfig
from mgstudy.data.dataset import Dataset, Interactions
from mgstudy.report.console.live import LiveDisplay
from mgstudy.study.definition.expansion import expand
from mgstudy.study.search.record import StudyRecord

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
