from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from driven import Driven
from states import recorded, summary_of

from mgstudy.report.comparison.formats import caption
from mgstudy.report.comparison.studies import compare_studies
from mgstudy.report.console.status import driver_lines, status_content
from mgstudy.study.results.summary import summarize
from mgstudy.study.search.record import StudyRecord
from mgstudy.study.search.state import CellState
from mgstudy.study.search.trials import RecordedTrial, State
from mgstudy.study.storage.lease import Driver
from mgstudy.study.storage.optuna_storage import close_storage
from mgstudy.workspace import Workspace


def trial(number: int, state: State, value: float | None = None, **outcome: float) -> RecordedTrial:
    return recorded(number, state, value, outcome)


def cell(budget: int, *trials: RecordedTrial, **levels: str) -> CellState:
    return CellState("key", {"dataset": "a", **levels}, budget, frozenset(), trials)


@pytest.mark.parametrize(
    ("budget", "states", "waiting", "finished"),
    [
        (3, [], 3, False),
        (3, [State.COMPLETE, State.PRUNED, State.FAILED], 0, True),
        (3, [State.COMPLETE, State.RUNNING], 1, False),
        (3, [State.COMPLETE, State.COMPLETE, State.RUNNING], 0, False),
        # An interrupted trial waits; it has a number already and is not counted once more.
        (3, [State.COMPLETE, State.WAITING], 2, False),
        (3, [State.WAITING] * 3, 3, False),
        # After the budget was lowered.
        (1, [State.COMPLETE, State.COMPLETE], 0, True),
        (1, [State.COMPLETE, State.WAITING], 1, False),
    ],
)
def test_trials_by_state_add_up(
    budget: int, states: list[State], waiting: int, finished: bool
) -> None:
    summary = cell(budget, *(trial(number, state) for number, state in enumerate(states)))
    assert list(summary.counts) == ["complete", "pruned", "failed", "running", "waiting"]
    assert summary.counts["waiting"] == waiting
    assert sum(summary.counts.values()) == max(budget, len(states))
    assert summary.finished == finished


def test_the_best_is_a_complete_trial_and_the_earliest_of_equal_ones() -> None:
    trials = [
        trial(0, State.COMPLETE, 0.0),
        trial(1, State.PRUNED),
        trial(2, State.COMPLETE, 0.4),
        trial(3, State.COMPLETE, 0.4),
    ]
    best = cell(4, *trials).best
    assert best is not None
    assert best.number == 2
    first = cell(4, trials[0], trial(1, State.COMPLETE, -0.5)).best
    assert first is not None
    assert first.number == 0
    assert cell(4, trials[1]).best is None


def test_the_time_of_a_cell_is_that_of_all_its_trials() -> None:
    costs = {"seconds_setup": 1.0, "seconds_training": 2.0, "seconds_evaluation": 0.5}
    first = trial(0, State.COMPLETE, 0.1, **costs, epochs=7)
    assert cell(2, first, trial(1, State.FAILED, seconds_setup=1.0)).seconds() == 4.5


def test_factors_vary_where_the_cells_have_several_levels() -> None:
    cells = [cell(1, model=model, gradient="plain") for model in ("BPR", "VBPR")]
    study = summary_of(cells)
    assert study.varying_factors() == ["model"]
    assert not study.finished


def test_what_is_said_of_a_driver_that_is_gone_and_of_one_that_hangs() -> None:
    waiting = recorded(0, State.WAITING, stale=True)
    study = summary_of([cell(2, waiting, waiting)])
    assert driver_lines(study) == [
        "stale trials: 2; their driver is gone; `mgstudy resume s` goes on with them from their "
        "last checkpoints"
    ]
    gone = Driver("process 7 on there since noon", is_alive=False, silent_seconds=4000)
    assert driver_lines(replace(study, driver=gone)) == [
        "stale trials: 2; process 7 on there since noon is gone, last heard of 1 h 6 min ago; "
        "`mgstudy resume s` goes on with them from their last checkpoints"
    ]
    running = [cell(2, trial(0, State.RUNNING))]
    alive = Driver("process 7 on there since noon", is_alive=True, silent_seconds=800)
    assert driver_lines(replace(study, cells=running, driver=alive)) == []
    (line,) = driver_lines(
        replace(study, cells=running, driver=replace(alive, silent_seconds=4000))
    )
    assert line.startswith("process 7 on there since noon drives the study and seems to hang, ")


def test_a_study_is_read_wherever_its_workspace_was_moved_or_copied(tmp_path: Path) -> None:
    before, copy, after = (tmp_path / name for name in ("before", "copy", "after"))

    def complete(home: Path) -> list[int]:
        summary = summarize(Workspace(home), "s")
        assert all(str(home) in place for place in (summary.storage, summary.tracking_uri))
        weights = [cell.best.weights for cell in summary.cells if cell.best is not None]
        assert all(path.is_relative_to(home) and path.is_file() for path in weights)
        return [cell.counts["complete"] for cell in summary.cells]

    study = Driven(before, "s")
    study.complete(study.begin())
    shutil.copytree(before, copy)
    study.complete(study.begin())
    study.complete(study.begin())
    close_storage(study.record.storage)
    assert complete(before) == [2, 1]
    assert complete(copy) == [1, 0]
    before.rename(after)
    assert complete(after) == [2, 1]
    assert not before.exists()


def test_a_cell_once_begun_never_disappears(tmp_path: Path) -> None:
    driven = Driven(tmp_path, "s", trials=1, seeds=3)
    while driven.record.remaining():
        trial = driven.begin()
        tested = {"test_metrics": {"recall@20": 0.1 * trial.number + 0.3 * ("m" in trial.key)}}
        driven.complete(trial, **(tested if trial.replicate else {}))
    whole = summarize(driven.workspace, "s")
    plain, mirrored = (cell.key for cell in whole.cells)
    assert whole.hidden == []
    driven.manifest.model_copy(update={"cells": driven.manifest.cells[1:]}).write(driven.folder)
    fewer = summarize(driven.workspace, "s")
    assert fewer.hidden == [plain]
    assert [cell.key for cell in fewer.cells] == [mirrored, plain]
    assert fewer.finished
    assert replace(fewer.cells[1], is_hidden=False) == whole.cells[0]
    # It is compared, and counts where p values are corrected.
    tables = [compare_studies([study]).table.set_index("cell") for study in (whole, fewer)]
    pd.testing.assert_frame_equal(tables[0].sort_index(), tables[1].sort_index())
    said = caption(compare_studies([fewer]))
    assert f"Begun earlier, not in the study file now, and counted in corrections: {plain}." in said
    (kept,) = (cell for cell in status_content(fewer)["cells"] if cell["hidden"])
    assert kept["key"] == plain
    # So it is for the driver, which hands out nothing of it.
    record = driven.record
    narrow = StudyRecord(
        record.config, [record.cells[mirrored].cell], record.datasets, record.storage
    )
    assert [state.key for state in narrow.states] == [mirrored]
    assert [state.is_hidden for state in narrow.every_state] == [False, True]
    assert narrow.remaining() == 0


def test_of_a_hidden_cell_nothing_is_left_to_run(tmp_path: Path) -> None:
    driven = Driven(tmp_path, "s", trials=3, seeds=2)
    driven.begin()
    driven.manifest.model_copy(update={"cells": driven.manifest.cells[1:]}).write(driven.folder)
    first, hidden = summarize(driven.workspace, "s").cells
    assert (first.left, hidden.left, hidden.replicates_left) == (3, 0, 0)
    assert hidden.finished and hidden.is_hidden
    # What was not begun is not missed.
    driven = Driven(tmp_path, "t")
    driven.manifest.model_copy(update={"cells": driven.manifest.cells[1:]}).write(driven.folder)
    assert summarize(driven.workspace, "t").hidden == []
