from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from mgstudy.study.running.driver import KeepBestCheckpoint
from mgstudy.study.search.events import TrialRequest
from mgstudy.study.search.record import StudyRecord
from mgstudy.study.storage.checkpoints import CheckpointFolder

SPACE = "space: {optimizer: {learning_rate: {log_float: [1e-3, 1]}}, model: {regularization: 0.1}}"


def listening(record: StudyRecord, folder: Path) -> KeepBestCheckpoint:
    """As a launch begins: what was left is swept, and ends are heard of."""
    keep = KeepBestCheckpoint(record, CheckpointFolder(str(folder)))
    keep.sweep()
    record.listeners = [keep]
    return keep


def leave_weights(trial: TrialRequest, folder: Path) -> None:
    weights = folder / trial.key / "best.pt"
    weights.parent.mkdir(parents=True, exist_ok=True)
    weights.touch()


def kept(cell: str, folder: Path) -> list[int]:
    return sorted(int(path.parent.name) for path in (folder / cell).glob("*/best.pt"))


def test_only_the_best_weights_of_a_cell_are_kept(opened, tmp_path) -> None:
    factors, rest = "model: [BPR, VBPR]", f"{SPACE}\ntrials: 6"
    record = opened(factors, rest)
    listening(record, tmp_path)

    def complete(value: float, of: str) -> None:
        trial = record.cells[of].next_of_search()
        leave_weights(trial, tmp_path)
        record.complete(trial, {"best_value": value})

    first, second = record.cells
    complete(0.3, first)
    complete(0.2, first)
    complete(0.1, second)
    assert (kept(first, tmp_path), kept(second, tmp_path)) == ([0], [0])
    complete(0.4, first)
    complete(0.4, first)
    assert kept(first, tmp_path) == [2]
    # The best of an earlier launch is known from the record.
    record = opened(factors, rest)
    listening(record, tmp_path)
    complete(0.35, first)
    assert kept(first, tmp_path) == [2]
    complete(0.5, first)
    assert kept(first, tmp_path) == [5]


@pytest.mark.parametrize("relaunched_after", [(), (1,), (2,), (1, 2)])
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_winners_weights_stay_in_whatever_order_tied_trials_end(
    order: tuple[int, ...], relaunched_after: tuple[int, ...], opened, tmp_path
) -> None:
    def launched() -> tuple[StudyRecord, KeepBestCheckpoint, dict[int, TrialRequest]]:
        record = opened("", SPACE)
        keep = listening(record, tmp_path)
        requests = iter(record.next_request, None)
        return record, keep, {trial.number: trial for trial in requests}

    record, keep, trials = launched()
    for ended, number in enumerate(order, start=1):
        leave_weights(trials[number], tmp_path)
        record.complete(trials[number], {"best_value": 0.5, "checkpoint": "best.pt"})
        (state,) = record.states
        assert state.best is not None
        assert state.best.number == min(order[:ended])
        assert kept(state.key, tmp_path) == [state.best.number]
        if ended in relaunched_after:
            record, keep, trials = launched()
    keep.sweep()
    assert kept(state.key, tmp_path) == [0]
    assert state.winner is state.best
