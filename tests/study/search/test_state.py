"""A cell's state from trials made by hand, in every mixture of states."""

from __future__ import annotations

import itertools
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from mgstudy.config.study import Budget, StudyConfig
from mgstudy.study.definition.manifest import CellEntry
from mgstudy.study.search.state import CellState
from mgstudy.study.search.trials import (
    OUTCOME_ATTRIBUTE,
    RETRY_HISTORY_ATTRIBUTE,
    SEED_ATTRIBUTE,
    Spent,
    Stage,
    State,
    best_of,
)

ENTRY = CellEntry(
    key="tiny/BPR/plain",
    levels={"model": "BPR", "seed": "999"},
    study="s/tiny/BPR/plain",
    budget=3,
    fixed={"model.BPR.size": 8},
    spaces={"model.BPR.size": 8, "rate": {"float": [0, 1]}},
)
RATE = optuna.distributions.FloatDistribution(0, 1)


def config(seeds: int = 0, **budget: float) -> StudyConfig:
    return StudyConfig.model_validate(
        {
            "name": "s",
            "factors": {"dataset": ["tiny"], "model": ["BPR"]},
            "trials": 3,
            "confirmation": {"seeds": seeds},
            "budget": budget,
        }
    )


def frozen(
    number: int,
    state: TrialState,
    value: float = 0.5,
    replaces: tuple[int, ...] = (),
    **outcome: Any,
) -> FrozenTrial:
    """A trial as a storage gives it."""
    ended = state.is_finished()
    return FrozenTrial(
        number=number,
        trial_id=100 + number,
        state=state,
        value=value if state is TrialState.COMPLETE else None,
        datetime_start=None if state is TrialState.WAITING else datetime(2026, 1, 1),
        datetime_complete=datetime(2026, 1, 2) if ended else None,
        params={} if state is TrialState.WAITING else {"rate": 0.25},
        distributions={} if state is TrialState.WAITING else {"rate": RATE},
        user_attrs={OUTCOME_ATTRIBUTE: outcome} if ended else {},
        system_attrs={RETRY_HISTORY_ATTRIBUTE: list(replaces)} if replaces else {},
        intermediate_values={1: 0.1},
    )


def state_of(*trials: FrozenTrial, **arguments: Any) -> CellState:
    given = {"config": config(), **arguments}
    return CellState.from_trials(ENTRY, search=trials, **given)


@pytest.mark.parametrize("driven", [True, False])
@pytest.mark.parametrize(
    "states", [s for n in range(5) for s in itertools.combinations_with_replacement(TrialState, n)]
)
def test_every_mixture_adds_up(states: tuple[TrialState, ...], driven: bool) -> None:
    found = state_of(*itertools.starmap(frozen, enumerate(states)), runs=lambda trial: driven)
    by_state = Counter(states)
    begun = len(states) - by_state[TrialState.WAITING]
    running = by_state[TrialState.RUNNING]
    assert len(found.trials) == begun
    assert found.counts == {
        "complete": by_state[TrialState.COMPLETE],
        "pruned": by_state[TrialState.PRUNED],
        "failed": by_state[TrialState.FAIL],
        "running": running if driven else 0,
        "waiting": max(0, 3 - begun) + (0 if driven else running),
    }
    assert found.left == found.counts["waiting"]
    assert found.stale == (0 if driven else running)
    assert found.ended == begun - running
    assert found.search_finished == (begun >= 3 and running == 0)
    assert (found.winner is not None) == (found.search_finished and found.best is not None)
    assert (found.best is None) == (TrialState.COMPLETE not in states)


def test_a_trial_is_what_the_storage_and_the_manifest_say_of_it() -> None:
    (trial,) = state_of(
        frozen(0, TrialState.COMPLETE, 0.75, reason="epochs"), checkpoints=Path("/files")
    ).trials
    assert (trial.key, trial.stage, trial.seed) == ("tiny/BPR/plain/0", Stage.SEARCH, 999)
    assert (trial.state, trial.value) == (State.COMPLETE, 0.75)
    assert trial.parameters == {"model.BPR.size": 8, "rate": 0.25}
    assert trial.outcome == {"reason": "epochs"}
    assert trial.values == {1: 0.1}
    assert trial.weights == Path("/files/tiny/BPR/plain/0/best.pt")


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_best_is_the_highest_and_of_equal_ones_the_lowest_number(order: tuple[int]) -> None:
    tied = [frozen(number, TrialState.COMPLETE, 0.5) for number in range(3)]
    best = best_of(tied[place] for place in order)
    assert best is not None
    assert best.number == 0
    better = [*(tied[place] for place in order), frozen(3, TrialState.COMPLETE, 0.6)]
    assert best_of(better) is better[-1]
    assert best_of([]) is None


def test_values_below_zero_are_values() -> None:
    best = best_of([frozen(0, TrialState.COMPLETE, -0.5), frozen(1, TrialState.COMPLETE, -0.4)])
    assert best is not None
    assert best.number == 1


def test_what_failed_and_runs_again_counts_nowhere_else() -> None:
    found = state_of(
        frozen(0, TrialState.FAIL, gradient_computations=70),
        frozen(1, TrialState.COMPLETE, gradient_computations=10),
        frozen(2, TrialState.COMPLETE, 0.6, replaces=(0,), gradient_computations=20),
        frozen(3, TrialState.WAITING, replaces=(0, 2)),
    )
    assert [trial.number for trial in found.trials] == [1]
    assert [trial.number for trial in found.retried] == [0, 2]
    assert found.counts["failed"] == 0
    assert found.left == 2
    assert found.total == Spent(10, 0.0)
    assert len(found.every_trial()) == 3


def test_pruned_and_failed_trials_are_charged() -> None:
    found = state_of(
        frozen(0, TrialState.PRUNED, gradient_computations=40, seconds_training=1.0),
        frozen(1, TrialState.FAIL, gradient_computations=60, seconds_setup=0.5),
        config=config(gradient_computations=100),
    )
    assert found.total == Spent(100, 1.5)
    assert found.exhausted
    assert found.search_finished
    assert found.left == 0
    assert not state_of(*(t.frozen for t in found.trials), config=config(seconds=2.0)).exhausted


def test_a_cell_that_has_spent_enough_still_ends_what_it_has_begun() -> None:
    trials = frozen(0, TrialState.COMPLETE, gradient_computations=9), frozen(1, TrialState.RUNNING)
    limited = {"config": config(gradient_computations=9)}
    assert state_of(*trials, **limited, runs=lambda trial: False).left == 1
    assert state_of(*trials, **limited).left == 0
    assert not state_of(*trials, **limited).search_finished


def replicate(number: int, state: TrialState, seed: int) -> FrozenTrial:
    found = frozen(number, state, test_metrics={"recall@20": 0.5})
    found.user_attrs = {**found.user_attrs, SEED_ATTRIBUTE: seed}
    return found


def test_only_the_best_trials_replicates_count() -> None:
    search = [frozen(number, TrialState.COMPLETE, 0.1 * number) for number in range(3)]
    found = CellState.from_trials(
        ENTRY,
        config(seeds=3),
        search,
        {
            0: [replicate(0, TrialState.COMPLETE, 5)],
            2: [replicate(0, TrialState.COMPLETE, 7), replicate(1, TrialState.FAIL, 8)],
        },
    )
    assert found.superseded == (0,)
    assert [trial.key for trial in found.earlier] == ["tiny/BPR/plain/confirmation/0/0"]
    assert len(found.every_trial()) == 3 + 2 + 1
    assert [trial.key for trial in found.confirmations] == [
        "tiny/BPR/plain/confirmation/2/0",
        "tiny/BPR/plain/confirmation/2/1",
    ]
    first, second = found.confirmations
    assert (first.stage, first.seed, first.test_metrics) == (
        Stage.CONFIRMATION,
        7,
        {"recall@20": 0.5},
    )
    assert second.test_metrics == {}
    assert (found.confirmed, found.replicates_left) == (2, 1)
    assert not found.finished


def test_before_the_search_is_over_all_replicates_wait_and_after_a_failed_one_none() -> None:
    begun = state_of(frozen(0, TrialState.COMPLETE), config=config(seeds=5))
    assert (begun.replicates_left, begun.winner) == (5, None)
    failed = state_of(*(frozen(n, TrialState.FAIL) for n in range(3)), config=config(seeds=5))
    assert failed.replicates_left == 0
    assert failed.finished


@pytest.mark.parametrize(
    ("limits", "reached"),
    [
        ({}, False),
        ({"gradient_computations": 10}, True),
        ({"gradient_computations": 11}, False),
        ({"seconds": 1.5}, True),
        ({"seconds": 1.6}, False),
    ],
)
def test_either_limit_ends_it(limits: dict[str, float], reached: bool) -> None:
    spent = Spent.on([{"gradient_computations": 10, "seconds_setup": 0.5, "seconds_test": 1.0}])
    assert spent.reaches(Budget.model_validate(limits)) == reached
