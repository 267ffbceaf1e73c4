"""Failed trials that run again: the failure stays, and every cell gets as many trials as before."""

from __future__ import annotations

from collections.abc import Callable

import optuna
import pytest
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import TrialState

from mgstudy.study.search.events import TrialRequest
from mgstudy.study.search.record import StudyRecord
from mgstudy.study.search.trials import OUTCOME_ATTRIBUTE, Stage, State, replaced

Open = Callable[..., StudyRecord]
SPACE = "space: {optimizer: {learning_rate: {log_float: [1e-3, 1]}}, model: {regularization: 0.1}}"
BROKEN = {"reason": "KeyError: a bug", "traceback": "line 7", "gradient_computations": 50}


def run(record: StudyRecord, *failing: int) -> list[TrialRequest]:
    """Run all that is left; the trials handed out at these places fail."""
    begun: list[TrialRequest] = []
    while (trial := record.next_request()) is not None:
        if len(begun) in failing:
            record.fail(trial, BROKEN)
        else:
            record.complete(trial, {"best_value": 0.5, "gradient_computations": 100})
        begun.append(trial)
    return begun


def entry(record: StudyRecord) -> optuna.Study:
    (only,) = record.cells.values()
    return only.study


def test_a_failed_trial_runs_again_with_its_parameters_and_its_failure_stays(opened: Open) -> None:
    first = run(opened("", SPACE), 1)
    record = opened("", SPACE)
    assert record.remaining() == 0
    assert record.retry_failed() == 1
    assert record.remaining() == 1
    (again,) = run(record)
    assert again.number == 3
    assert again.parameters == first[1].parameters
    assert again.seed == first[1].seed
    trials = entry(record).get_trials()
    assert [t.state for t in trials] == [TrialState.COMPLETE, TrialState.FAIL] + 2 * [
        TrialState.COMPLETE
    ]
    assert trials[1].user_attrs[OUTCOME_ATTRIBUTE] == BROKEN
    # Optuna's own words for it.
    assert RetryHeartbeatStaleTrialCallback.retried_trial_number(trials[3]) == 1
    (cell,) = record.states
    assert (cell.counts[State.COMPLETE], cell.ended, len(cell.retried)) == (3, 3, 1)


def test_what_fails_once_more_can_be_tried_once_more(opened: Open) -> None:
    run(opened("", SPACE), 0, 2)
    record = opened("", SPACE)
    assert record.retry_failed() == 2
    run(record, 1)
    # Interrupted in between, nothing is queued twice.
    record = opened("", SPACE)
    assert record.remaining() == 0
    assert record.retry_failed() == 1
    assert record.retry_failed() == 0
    assert opened("", SPACE).remaining() == 1
    (last,) = run(opened("", SPACE))
    trials = entry(record).get_trials()
    assert replaced(trials) == {0, 2, 4}
    assert last.number == 5
    assert trials[5].system_attrs["retry_history"] == [2, 4]
    assert sum(trial.state is TrialState.COMPLETE for trial in trials) == 3


@pytest.mark.parametrize("sampler", ["TPESampler", "GridSampler"])
def test_every_cell_still_gets_the_same_number_of_trials(opened: Open, sampler: str) -> None:
    space = "space: {optimizer: {learning_rate: {choice: [0.1, 0.2, 0.3, 0.4]}}}"
    settings = f"{space}\nstart_with_defaults: false\nsampler: {sampler}\ntrials: "
    run(opened("gradient: [plain, sam]", settings + "3"), 0, 1)
    record = opened("gradient: [plain, sam]", settings + "4")
    assert record.retry_failed() == 2
    assert record.remaining() == 2 + 2
    run(record)
    for cell in record.states:
        assert len(cell.trials) == 4
        assert cell.counts[State.COMPLETE] == 4
    assert opened("gradient: [plain, sam]", settings + "4").remaining() == 0


def test_what_a_failure_cost_is_not_taken_from_the_cells_allowance(opened: Open) -> None:
    settings = SPACE + "\ntrials: 10\nbudget: {gradient_computations: 300}\n"
    assert len(run(opened("", settings), 0)) == 4
    record = opened("", settings)
    assert record.retry_failed() == 1
    # 300 are spent without the failed trial's 50: what it stands for is no longer needed.
    assert record.remaining() == 0
    settings = settings.replace("300", "310")
    assert [trial.number for trial in run(opened("", settings))] == [4]


def test_a_failed_replicate_runs_again_under_its_seed(opened: Open) -> None:
    settings = SPACE + "\ntrials: 1\nconfirmation: {seeds: 3}\n"
    search, *replicates = run(opened("", settings), 2)
    assert [r.stage for r in (search, *replicates)] == [Stage.SEARCH] + 3 * [Stage.CONFIRMATION]
    record = opened("", settings)
    assert record.retry_failed() == 1
    (again,) = run(record)
    assert (again.number, again.seed) == (3, replicates[1].seed)
    assert again.parameters == replicates[1].parameters
    # More seeds are fresh ones all the same.
    (more,) = run(opened("", settings.replace("seeds: 3", "seeds: 4")))
    assert more.seed not in {r.seed for r in replicates}
    (cell,) = record.states
    assert cell.confirmed == 3


def test_a_search_that_had_failed_is_confirmed_after_all(opened: Open) -> None:
    settings = SPACE + "\ntrials: 2\nconfirmation: {seeds: 2}\n"
    assert len(run(opened("", settings), 0, 1)) == 2
    record = opened("", settings)
    assert record.retry_failed() == 2
    assert [t.stage.value for t in run(record)] == 2 * ["search"] + 2 * ["confirmation"]
