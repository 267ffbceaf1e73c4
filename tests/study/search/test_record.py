from __future__ import annotations

import json
import math
import sqlite3
from collections import Counter
from dataclasses import replace

import optuna
import pytest
from heard import Heard
from optuna.trial import TrialState

from mgstudy.errors import InputError
from mgstudy.fingerprint import fingerprint
from mgstudy.study.definition.expansion import expand
from mgstudy.study.running.failures import Cause
from mgstudy.study.search.events import StudyListener, TrialRequest
from mgstudy.study.search.record import StudyRecord
from mgstudy.study.search.trials import OUTCOME_ATTRIBUTE, Stage, State
from mgstudy.study.storage.write_behind import study_names

SPACE = (
    "space: {optimizer: {learning_rate: {log_float: [1e-3, 1]}}, model: {regularization: 0.1}}\n"
)
TWO_SEARCHED = """
space:
  model: {BPR: {embedding_size: {integer: [2, 200]}, regularization: 0.1}}
  optimizer: {learning_rate: {log_float: [1e-3, 1]}}
"""
PRUNE_WORSE = "pruner: {name: MedianPruner, arguments: {n_startup_trials: 1, n_warmup_steps: 2}}\n"


def stored(record, key: str | None = None) -> list[optuna.trial.FrozenTrial]:
    """The trials of one cell (the only one, unless named), straight from the database."""
    entry = record.cells[key] if key else next(iter(record.cells.values()))
    return entry.study.get_trials()


# Handing out.


def test_cells_advance_together(opened) -> None:
    record = opened("model: [BPR, VBPR]\nseed: [1, 2]", SPACE)
    begun: Counter[str] = Counter()
    while (trial := record.next_request()) is not None:
        begun[trial.cell.key] += 1
        assert max(begun.values()) - min(begun[key] for key in record.cells) <= 1
        assert record.remaining() == 12 - begun.total()
    assert set(begun.values()) == {3}


def test_a_cell_with_a_small_budget_does_not_wait_for_a_large_one(opened) -> None:
    record = opened("model: [VBPR, Popularity]", SPACE)
    handed_out = [record.next_request().cell.model for _ in range(4)]
    assert handed_out.index("Popularity") <= 1
    assert Counter(handed_out) == {"VBPR": 3, "Popularity": 1}
    assert record.next_request() is None


def test_an_assignment_holds_every_parameter_of_its_cell(opened) -> None:
    trial = opened("", SPACE).next_request()
    assert set(trial.parameters) == set(trial.cell.spaces)
    assert trial.parameters["model.BPR.regularization"] == 0.1
    assert 1e-3 <= trial.parameters["optimizer.learning_rate"] <= 1
    assert trial.key == "both/BPR/plain/none/adam/999/0"


# Writing down.


def test_a_pruned_trial_is_pruned_and_keeps_what_got_it_pruned(opened) -> None:
    record = opened("", SPACE + PRUNE_WORSE)
    good, bad = record.next_request(), record.next_request()
    for step, value in ((1, 0.5), (2, 0.6), (4, 0.7)):
        assert not record.report(good, step, value, {})
    record.complete(good, {"best_value": 0.7})
    assert not record.report(bad, 1, 0.1, {})
    assert record.report(bad, 2, 0.15, {})
    record.prune(bad, {"epochs": 2, "best_value": 0.15})
    complete, pruned = stored(record)
    assert (complete.state, complete.value) == (TrialState.COMPLETE, 0.7)
    assert complete.intermediate_values == {1: 0.5, 2: 0.6, 4: 0.7}
    assert pruned.state is TrialState.PRUNED
    assert pruned.intermediate_values == {1: 0.1, 2: 0.15}
    assert record.states[0].best.number == good.number


def test_only_trials_of_the_same_cell_are_compared(opened) -> None:
    record = opened("model: [BPR, VBPR]", SPACE + PRUNE_WORSE)
    best = record.next_request()
    for step in (1, 2, 3):
        record.report(best, step, 0.9, {})
    record.complete(best, {"best_value": 0.9})
    other = record.next_request()
    assert other.cell.key != best.cell.key
    assert not any(record.report(other, step, 0.01, {}) for step in (1, 2, 3))
    same = record.next_request()
    assert same.cell.key == best.cell.key
    assert [record.report(same, step, 0.01, {}) for step in (1, 2)] == [False, True]


def test_a_failed_trial_keeps_its_reason_and_counts_towards_the_budget(opened) -> None:
    record = opened("", SPACE)
    trial = record.next_request()
    record.report(trial, 1, 0.1, {})
    record.fail(trial, {"reason": "training diverged"})
    (failed,) = stored(record)
    assert failed.state is TrialState.FAIL
    assert failed.user_attrs[OUTCOME_ATTRIBUTE] == {"reason": "training diverged"}
    assert opened("", SPACE).remaining() == 2
    assert record.states[0].best is None


def test_listeners_hear_everything_in_order_and_after_it_is_written(opened) -> None:
    class Reader(StudyListener):
        def trial_finished(self, trial, state, value, outcome) -> None:
            written = stored(record)[trial.number]
            assert written.state.is_finished()
            assert written.user_attrs[OUTCOME_ATTRIBUTE]["reason"] == "epochs"

    heard = Heard()
    record = opened("", SPACE, heard, Reader())
    trial = record.next_request()
    record.start(trial)
    record.report(trial, 1, 0.5, {"loss": 2.0})
    record.complete(trial, {"best_value": 0.5, "reason": "epochs"})
    assert heard.events == [
        ("started", trial.key),
        ("reported", trial.key, 1, 0.5, {"loss": 2.0}),
        ("finished", trial.key, State.COMPLETE, 0.5, "epochs"),
    ]


def test_what_json_has_no_words_for_is_stored_as_nothing(opened, storage_path) -> None:
    record = opened("", SPACE)
    trial = record.next_request()
    outcome = {"best_value": 0.5, "best_metrics": {"a": math.nan, "b": 1.0}, "cost": -math.inf}
    record.complete(trial, outcome)
    with sqlite3.connect(storage_path) as database:
        rows = database.execute("select value_json from trial_user_attributes").fetchall()

    def refuse(word: str) -> None:
        pytest.fail(f"{word} is not JSON")

    (read,) = (json.loads(text, parse_constant=refuse) for (text,) in rows)
    assert read == {"best_value": 0.5, "best_metrics": {"a": None, "b": 1.0}, "cost": None}


def test_of_equal_trials_the_earliest_is_the_best(opened) -> None:
    record = opened("", SPACE)
    for value in (0.2, 0.7, 0.7):
        trial = record.next_request()
        record.complete(trial, {"best_value": value})
    assert record.states[0].best.number == 1


# Going on.


def finish(record: StudyRecord, count: int | None = None) -> int:
    done = 0
    while done != count and (trial := record.next_request()) is not None:
        record.complete(trial, {"best_value": 0.1})
        done += 1
    return done


def test_a_finished_study_runs_nothing_and_a_larger_budget_the_difference(opened) -> None:
    factors = "model: [BPR, VBPR]"
    assert finish(opened(factors, SPACE), count=4) == 4
    assert finish(opened(factors, SPACE)) == 2
    assert finish(opened(factors, SPACE)) == 0
    assert finish(opened(factors, f"{SPACE}trials: 5")) == 4
    assert finish(opened(factors, f"{SPACE}trials: 2")) == 0
    record = opened(factors, f"{SPACE}trials: 5")
    for key in record.cells:
        assert [trial.number for trial in stored(record, key)] == [0, 1, 2, 3, 4]


def test_a_new_level_adds_its_cells_and_leaves_the_others(opened) -> None:
    assert finish(opened("model: [BPR]", SPACE)) == 3
    record = opened("model: [BPR, VBPR]", SPACE)
    assert finish(record) == 3
    assert {len(stored(record, key)) for key in record.cells} == {3}


def test_an_interrupted_trial_comes_back_first_with_number_and_parameters(opened) -> None:
    before = opened("", TWO_SEARCHED + "trials: 4")
    trials = [before.next_request() for _ in range(3)]
    before.report(trials[1], 1, 0.5, {})
    before.complete(trials[0], {"best_value": 0.3})
    after = opened("", TWO_SEARCHED + "trials: 4")
    assert after.remaining() == 3
    again = [after.next_request() for _ in range(2)]
    for old, new in zip(trials[1:], again, strict=True):
        assert (new.number, new.storage_id) == (old.number, old.storage_id)
        assert new.parameters == old.parameters
    assert after.next_request().number == 3
    assert after.next_request() is None
    assert len(stored(after)) == 4


def test_interrupted_trials_come_before_new_ones_of_any_cell(opened) -> None:
    factors = "model: [BPR, VBPR]"
    before = opened(factors, SPACE)
    begun = [before.next_request() for _ in range(5)]
    before.complete(begun.pop(1), {"best_value": 0.1})
    after = opened(factors, SPACE)
    assert {after.next_request().key for _ in range(4)} == {trial.key for trial in begun}
    assert after.next_request().number == 2


def test_a_trial_interrupted_while_it_was_sampled_keeps_what_it_had(opened) -> None:
    record = opened("", TWO_SEARCHED)
    (entry,) = record.cells.values()
    half = entry.study.ask()
    size = half.suggest_int("model.BPR.embedding_size", 2, 200)
    after = opened("", TWO_SEARCHED)
    again = after.next_request()
    assert again.number == half.number
    assert again.parameters["model.BPR.embedding_size"] == size
    assert 1e-3 <= again.parameters["optimizer.learning_rate"] <= 1
    assert stored(after)[0].params.keys() == set(again.cell.searched)


def test_a_trial_that_runs_again_is_judged_by_what_it_has_reported_again(opened) -> None:
    settings = SPACE + PRUNE_WORSE
    first = opened("", settings)
    good, interrupted = first.next_request(), first.next_request()
    for step in range(1, 6):
        first.report(good, step, 0.5, {})
        first.report(interrupted, step, 0.4, {})
    first.complete(good, {"best_value": 0.5})
    after = opened("", settings)
    again = after.next_request()
    assert again.number == interrupted.number
    # By step 5 it had the lower score, but now it is at step 1, where nothing is pruned yet.
    assert not after.report(again, 1, 0.1, {})
    assert after.report(again, 2, 0.1, {})


# What may not change.


@pytest.mark.parametrize(
    ("factors", "rest", "difference"),
    [
        (
            "",
            SPACE.replace("[1e-3, 1]", "[1e-3, 2]"),
            "spaces.optimizer.learning_rate.log_float: was [0.001, 1.0], is [0.001, 2.0]",
        ),
        (
            "",
            SPACE.replace("{log_float: [1e-3, 1]}", "0.5"),
            "spaces.optimizer.learning_rate: was {'log_float': [0.001, 1.0]}, is 0.5",
        ),
        ("", SPACE + "training: {epochs: 7}", "training.epochs: was 1000, is 7"),
        (
            "",
            SPACE + "training: {early_stopping: null}",
            "training.early_stopping",
        ),
        ("", SPACE + "seed: 5", "seed: was 999, is 5"),
    ],
)
def test_another_space_or_training_is_refused_with_the_difference(
    opened, factors: str, rest: str, difference: str
) -> None:
    finish(opened("", SPACE), count=1)
    with pytest.raises(InputError) as caught:
        opened(factors, rest)
    assert difference in str(caught.value)
    assert "study 's', cell both/BPR/plain/none/adam/999" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert opened("", SPACE).remaining() == 2


def test_other_data_under_the_same_name_is_refused(read, datasets, opened) -> None:
    record = opened("", SPACE)
    finish(record, count=1)
    config, document = read("", SPACE)
    both = datasets["both"]
    for changed, said in (
        (replace(both, fingerprint="other"), "interactions: was '"),
        (both.with_features({"image": both.features["image"] + 1}), "features.image: was '"),
    ):
        others = {**datasets, "both": changed}
        with pytest.raises(InputError, match=said):
            StudyRecord(config, expand(config, document, others).cells, others, record.storage)


def test_what_was_made_and_never_begun_settles_nothing(opened) -> None:
    opened("", SPACE + "training: {epochs: 7}")  # By a launch that was killed while Ray started.
    finish(opened("", SPACE), count=1)
    with pytest.raises(InputError, match="epochs: was 1000, is 7"):
        opened("", SPACE + "training: {epochs: 7}")


def test_a_launch_that_is_refused_leaves_the_storage_as_it_was(opened) -> None:
    record = opened("", SPACE)
    finish(record, count=1)
    before = study_names(record.storage)
    with pytest.raises(InputError):
        opened("model: [VBPR, BPR]", SPACE + "training: {epochs: 7}")
    assert study_names(record.storage) == before
    with_another_cell = opened("model: [VBPR, BPR]", SPACE)
    assert len(study_names(record.storage)) == 2
    with_another_cell.withdraw()
    assert study_names(record.storage) == before
    assert opened("", SPACE).remaining() == 2


def test_what_changes_no_result_may_change(opened) -> None:
    finish(opened("", SPACE), count=1)
    changed = SPACE + "sampler: RandomSampler\npruner: NopPruner\nresources: {cpu: 2}\n"
    assert finish(opened("", changed + "training: {evaluation_block_size: 64}")) == 2


# Trials that were broken from outside.


def test_a_broken_trial_runs_again_as_often_as_allowed(opened) -> None:
    heard = Heard()
    settings = SPACE + "retries: {max_retries: 2}\n"
    record = opened("", settings, heard)
    first = record.next_request()
    for step in (1, 2):
        record.report(first, step, 0.5, {})
    assert record.retry(first, Cause.WORKER, "the worker broke")
    assert record.remaining() == 3
    again = record.next_request()
    assert (again.number, again.parameters) == (first.number, first.parameters)
    assert record.recorded_step(again) == 2
    # The tries are counted over launches; being interrupted with the driver is none.
    record = opened("", settings)
    again = record.next_request()
    assert again.number == first.number
    assert record.retry(again, Cause.MEMORY.value, "out of GPU memory")
    assert record.retries(record.next_request()) == ["worker lost", "out of memory"]
    assert not record.retry(again, Cause.WORKER, "the worker broke")
    record.fail(again, {"reason": "the worker broke"})
    assert record.remaining() == 2


def test_without_retries_the_first_loss_is_the_end(opened) -> None:
    record = opened("", SPACE + "retries: {max_retries: 0}\n")
    assert not record.retry(record.next_request(), Cause.WORKER, "the worker broke")


# Confirmation.

CONFIRM = "confirmation: {seeds: 2}\n"


def confirm(record: StudyRecord, value: float) -> list[TrialRequest]:
    """End the search with this value everywhere, and complete every replicate."""
    replicates = []
    while (trial := record.next_request()) is not None:
        record.complete(trial, {"best_value": value})
        if trial.stage is Stage.CONFIRMATION:
            replicates.append(trial)
    return replicates


def test_a_confirmation_begins_when_its_cells_search_is_over_and_no_later(opened) -> None:
    record = opened("model: [BPR, VBPR]", SPACE + "trials: 2\n" + CONFIRM)
    assert record.remaining() == 4 + 4
    trials = [record.next_request() for _ in range(4)]
    assert all(trial.stage is Stage.SEARCH for trial in trials)
    # All are handed out, but which one is best is not known.
    assert record.next_request() is None
    assert record.remaining() == 4
    first, second = (t for t in trials if t.cell.model == "BPR")
    record.complete(first, {"best_value": 0.3})
    assert record.next_request() is None
    record.complete(second, {"best_value": 0.4})
    # VBPR still searches.
    replicates = [record.next_request() for _ in range(2)]
    assert [r.key for r in replicates] == [f"{first.cell.key}/confirmation/1/{n}" for n in (0, 1)]
    assert all(r.parameters == second.parameters for r in replicates)
    assert record.next_request() is None


def test_a_confirmation_is_never_pruned(opened) -> None:
    record = opened("", SPACE + PRUNE_WORSE + "trials: 1\n" + CONFIRM)
    record.complete(record.next_request(), {"best_value": 0.9})
    good, bad = record.next_request(), record.next_request()
    for step in (1, 2, 3):
        assert not record.report(good, step, 0.9, {})
        assert not record.report(bad, step, 0.1, {})


def test_a_failed_search_confirms_nothing(opened) -> None:
    record = opened("", SPACE + "trials: 1\n" + CONFIRM)
    record.fail(record.next_request(), {"reason": "training diverged"})
    assert record.remaining() == 0
    assert record.next_request() is None


def test_seeds_are_of_the_study_the_cell_and_the_replicate_alone(opened, tmp_path) -> None:
    def seeds(factors: str, rest: str) -> dict[str, int]:
        path = tmp_path / f"{fingerprint([factors, rest])}.db"
        record = opened(factors, SPACE + "trials: 1\n" + rest, at=path)
        return {r.key: r.seed for r in confirm(record, 0.1)}

    one, two = seeds("model: [BPR]", CONFIRM), seeds("model: [VBPR, BPR]", CONFIRM)
    assert len(set(two.values())) == 4
    assert one.items() <= two.items()
    assert not set(one.values()) & set(seeds("", CONFIRM + "seed: 5\n").values())
    shared = seeds("model: [VBPR, BPR]", "confirmation: {seeds: 2, shared: true}\n")
    assert len(shared) == 4
    assert len(set(shared.values())) == 2


def test_an_interrupted_replicate_runs_again_under_its_seed(opened) -> None:
    rest = SPACE + "trials: 1\n" + CONFIRM
    before = opened("", rest)
    before.complete(before.next_request(), {"best_value": 0.1})
    begun = before.next_request()
    after = opened("", rest)
    assert after.remaining() == 2
    again = after.next_request()
    assert (again.key, again.seed, again.storage_id) == (begun.key, begun.seed, begun.storage_id)
    assert after.next_request().number == 1
    assert after.next_request() is None


def test_more_seeds_run_the_difference_and_a_new_winner_all_of_them(opened) -> None:
    rest = SPACE + "trials: 1\n"
    assert len(confirm(opened("", rest + CONFIRM), 0.1)) == 2
    assert confirm(opened("", rest + CONFIRM), 0.1) == []
    (third,) = confirm(opened("", rest + "confirmation: {seeds: 3}\n"), 0.1)
    assert third.number == 2
    # A second trial that is no better changes nothing.
    assert confirm(opened("", SPACE + "trials: 2\n" + CONFIRM), 0.1) == []
    anew = confirm(opened("", SPACE + "trials: 3\n" + CONFIRM), 0.2)
    assert [(r.replicate.winner, r.number) for r in anew] == [(2, 0), (2, 1)]
    assert [r.seed for r in anew] != [third.seed] * 2


# What a cell may spend.


@pytest.mark.parametrize("limit", ["gradient_computations: 250", "seconds: 2.5"])
def test_a_cell_that_has_spent_enough_begins_no_more_trials(opened, limit: str) -> None:
    rest = f"{SPACE}trials: 9\nbudget: {{{limit}}}\n"
    record = opened("model: [BPR, VBPR]", rest)
    costs = {"BPR": 100, "VBPR": 200}
    done: Counter[str] = Counter()
    while (trial := record.next_request()) is not None:
        cost = costs[trial.cell.model]
        outcome = {"gradient_computations": cost, "seconds_training": cost / 100}
        record.complete(trial, {"best_value": 0.1, **outcome})
        done[trial.cell.model] += 1
    assert done == {"BPR": 3, "VBPR": 2}
    assert record.remaining() == opened("model: [BPR, VBPR]", rest).remaining() == 0
    assert opened("model: [BPR, VBPR]", f"{SPACE}trials: 9\n").remaining() == 13
