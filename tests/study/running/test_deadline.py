from __future__ import annotations

import math
import time
from typing import Any

import pytest

from mgstudy.errors import InputError
from mgstudy.study.running.deadline import NO_DEADLINE, Deadline, seconds_of_next
from mgstudy.study.running.tune_bridge import OptunaSearcher
from mgstudy.study.search.state import CellState

SPACE = (
    "space: {optimizer: {learning_rate: {log_float: [1e-3, 1]}}, model: {regularization: 0.1}}\n"
)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("90m", 5400 - 60), ("1h30m", 5400 - 60), ("0.5h", 1740), ("45s", 40.5), (45, 40.5)],
)
def test_a_limit_leaves_time_to_end(given: str | float, seconds: float) -> None:
    assert Deadline.after(given).at == pytest.approx(time.monotonic() + seconds, abs=0.5)


@pytest.mark.parametrize(
    "given", ["", "90", "m", "90 m", "0m", "-5m", "1h30", 0, math.nan, "9" * 400 + "d"]
)
def test_what_is_no_time_is_refused(given: str | float) -> None:
    with pytest.raises(InputError, match="expected such as 90m"):
        Deadline.after(given)


def test_what_would_end_too_late_does_not_begin() -> None:
    deadline = Deadline(time.monotonic() + 100)
    assert deadline.allows() and deadline.allows(None) and deadline.allows(90)
    assert not deadline.allows(101)
    assert not Deadline(time.monotonic() - 1).allows()
    assert NO_DEADLINE.allows(1e9) and not NO_DEADLINE.is_set
    assert not Deadline.after(None).is_set


def completed(record: Any, cell: str, seconds: float, epochs: int = 10) -> None:
    outcome = {"best_value": 0.5, "seconds_training": seconds, "epochs": epochs}
    record.complete(record.cells[cell].next_of_search(), outcome)


def test_a_trial_takes_as_long_as_the_longest_like_it(opened: Any) -> None:
    record = opened("model: [BPR, VBPR]\ngradient: [plain, mirror_gradient]", f"{SPACE}trials: 5")
    bpr, mirrored, vbpr, _ = record.cells

    def expected(cell: str) -> float | None:
        return seconds_of_next(record.cells[cell].state, record.states)

    assert expected(bpr) is None
    completed(record, bpr, 20.0)
    completed(record, bpr, 10.0)
    pruned = record.cells[bpr].next_of_search()
    record.prune(pruned, {"seconds_training": 99.0})
    assert expected(bpr) == expected(mirrored) == expected(vbpr) == 20.0
    completed(record, mirrored, 30.0)
    completed(record, vbpr, 5.0)
    assert [expected(cell) for cell in (bpr, mirrored, vbpr)] == [20.0, 30.0, 5.0]


def test_trials_are_looked_through_again_only_where_one_has_changed(
    opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = opened("model: [BPR, VBPR]", f"{SPACE}trials: 5")
    bpr, vbpr = record.cells
    completed(record, bpr, 20.0)
    looked, every_trial = [], CellState.every_trial
    monkeypatch.setattr(
        CellState, "every_trial", lambda cell: [looked.append(cell.key), *every_trial(cell)][1:]
    )
    for _ in range(3):
        assert seconds_of_next(record.cells[vbpr].state, record.states) == 20.0
    assert sorted(looked) == sorted([bpr, vbpr])
    completed(record, vbpr, 30.0)
    assert seconds_of_next(record.cells[bpr].state, record.states) == 20.0
    assert seconds_of_next(record.cells[vbpr].state, record.states) == 30.0
    assert sorted(looked) == sorted([bpr, vbpr, vbpr])


def test_a_trial_that_goes_on_takes_what_is_left_of_it(opened: Any) -> None:
    record = opened("", f"{SPACE}trials: 5")
    (cell,) = record.cells
    completed(record, cell, 20.0, epochs=10)
    begun = record.cells[cell].next_of_search()
    record.report(begun, 4, 0.1, {})
    record.release()
    assert seconds_of_next(record.cells[cell].state, record.states) == pytest.approx(12.0)


def test_the_searcher_hands_out_what_ends_in_time(opened: Any) -> None:
    record = opened("model: [BPR, VBPR]", f"{SPACE}trials: 3")
    slow, quick = record.cells
    completed(record, slow, 500.0)
    completed(record, quick, 1.0)
    searcher = OptunaSearcher(record, 4, deadline=Deadline(time.monotonic() + 60))
    begun = [searcher.suggest(f"ray-{n}") for n in range(3)]
    assert [b and b["cell"] for b in begun] == [quick, quick, None], "what runs may break"
    for ray_id in list(searcher.running):
        searcher.on_trial_complete(ray_id, {"outcome": '{"done": true, "best_value": 0.1}'})
    assert record.remaining() > 0
    assert searcher.suggest("ray-4") == "FINISHED"
    assert OptunaSearcher(record, 4).suggest("ray-5")["cell"] == slow
