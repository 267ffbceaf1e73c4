from __future__ import annotations

import importlib.util
import inspect
import itertools
import math
import sqlite3
from collections import Counter
from contextlib import closing

import optuna
import pytest

from mgstudy.errors import InputError
from mgstudy.study.definition.optuna_parts import GRID_SAMPLERS, check_search
from mgstudy.study.search.unrepeated import UnrepeatedSampler

GRID = """
space:
  model: {embedding_size: {choice: [4, 8]}, regularization: {choice: [0.1, 0.01]}}
  optimizer: {learning_rate: 0.01}
"""
COMBINATIONS = set(itertools.product([4, 8], [0.1, 0.01]))


def run_all(record) -> list[dict]:
    """Work off what is left, and return the sampled parameters in order."""
    sampled = []
    while (trial := record.next_request()) is not None:
        record.complete(trial, {"best_value": 0.01 * trial.number})
        sampled.append({name: trial.parameters[name] for name in trial.cell.searched})
    return sampled


# Budgets.


def test_a_cell_where_nothing_is_searched_gets_one_trial(read, expanded) -> None:
    factors = "model: [BPR, Popularity]\ngradient: [plain]"
    rest = "space:\n  model: {BPR: {regularization: 0.1}}\n  optimizer: {learning_rate: 0.01}"
    config, _ = read(factors, f"{rest}\ntrials: 5")
    assert [cell.budget(config.trials) for cell in expanded(factors, rest).cells] == [1, 1]


@pytest.mark.parametrize("sampler", ["GridSampler", "TPESampler"])
@pytest.mark.parametrize(("trials", "expected"), [(3, 3), (4, 4), (100, 4)])
def test_a_cell_gets_no_more_trials_than_it_has_combinations(
    read, expanded, sampler: str, trials: int, expected: int
) -> None:
    config, _ = read("", f"{GRID}sampler: {sampler}\ntrials: {trials}")
    (cell,) = expanded("", GRID).cells
    assert cell.budget(config.trials) == expected


# Grids.


@pytest.mark.parametrize("sampler", ["GridSampler", "BruteForceSampler"])
def test_a_grid_visits_every_combination_once_over_several_sessions(opened, sampler: str) -> None:
    visited = []
    for trials in (1, 3, 3, 10):
        rest = f"{GRID}sampler: {sampler}\ntrials: {trials}"
        visited += [tuple(found.values()) for found in run_all(opened("", rest))]
        assert len(visited) == min(trials, 4)
    assert set(visited) == COMBINATIONS


def test_a_budget_below_the_grid_does_not_take_its_first_corner(opened) -> None:
    large = """
space:
  model: {embedding_size: {integer: [1, 50]}, regularization: {choice: [0.1, 0.01]}}
  optimizer: {learning_rate: 0.01}
sampler: GridSampler
trials: 20
"""
    sizes = [found["model.BPR.embedding_size"] for found in run_all(opened("", large))]
    assert max(sizes) > 25
    assert len(sizes) == 20


def test_no_more_than_the_budget_is_queued(opened, storage_path) -> None:
    record = opened("", f"{GRID}sampler: GridSampler\ntrials: 2")
    (entry,) = record.cells.values()
    assert len(entry.study.get_trials()) == entry.state.left == 2


def test_an_interrupted_combination_runs_again_and_is_counted_once(opened) -> None:
    rest = f"{GRID}sampler: GridSampler\ntrials: 4"
    first = opened("", rest).next_request()
    record = opened("", rest)
    again = record.next_request()
    assert (again.number, again.parameters) == (first.number, first.parameters)
    record.complete(again, {"best_value": 0.1})
    assert len(run_all(record)) == 3


# Combinations that can be counted, without a grid.

COUNTABLE = """
space:
  model: {embedding_size: {integer: [4, 8]}, regularization: {choice: [0.1, 0.01, 0.001]}}
  optimizer: {learning_rate: {choice: [0.01, 1.0e-3]}}
"""


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("defaults", ["true", "false"])
@pytest.mark.parametrize(
    "sampler",
    [
        "TPESampler",
        "{name: TPESampler, arguments: {multivariate: true, n_startup_trials: 1}}",
        "RandomSampler",
        "QMCSampler",
    ],
)
def test_no_combination_is_tried_twice_over_several_sessions(
    opened, sampler: str, defaults: str
) -> None:
    visited = []
    for trials in (1, 12, 99):
        rest = f"{COUNTABLE}sampler: {sampler}\nstart_with_defaults: {defaults}\n"
        found = run_all(opened("", f"{rest}trials: {trials}"))
        visited += [tuple(combination.values()) for combination in found]
        assert len(set(visited)) == len(visited) == min(trials, 30)


def test_a_combination_that_still_runs_is_not_tried_beside_it(opened) -> None:
    record = opened("", f"{GRID}start_with_defaults: false\ntrials: 4")
    beside = [record.next_request() for _ in range(4)]
    assert len({tuple(trial.parameters.values()) for trial in beside}) == 4
    assert record.next_request() is None


def test_a_sampler_that_learns_still_decides_what_is_tried(opened) -> None:
    """An even draw of 40 would have 8 within 100 of the best."""
    wide = """
space:
  model: {embedding_size: {integer: [1, 1000]}, regularization: 0.1}
  optimizer: {learning_rate: 0.01}
start_with_defaults: false
trials: 60
"""
    record = opened("", f"{wide}sampler: {{name: TPESampler, arguments: {{n_startup_trials: 10}}}}")
    sizes = []
    while (trial := record.next_request()) is not None:
        size = trial.parameters["model.BPR.embedding_size"]
        record.complete(trial, {"best_value": -abs(size - 300) / 1000})
        sizes.append(size)
    assert len(set(sizes)) == 60
    near = [abs(size - 300) < 100 for size in sizes[20:]]
    assert sum(near) > len(near) / 2


def test_what_a_sampler_holds_fixed_stays_fixed_when_it_only_repeats_itself(opened) -> None:
    bound = (
        "{name: PartialFixedSampler, arguments: {fixed_params: {model.BPR.embedding_size: 4}, "
        "base_sampler: {name: RandomSampler}}}"
    )
    found = run_all(opened("", f"{GRID}sampler: {bound}\nstart_with_defaults: false\ntrials: 4"))
    assert [values["model.BPR.embedding_size"] for values in found] == [4] * 4


class _Stubborn(optuna.samplers.RandomSampler):
    """Proposes one combination, and counts how often it is asked for it."""

    def __init__(self) -> None:
        super().__init__()
        self.draws = 0

    def sample_independent(self, study, trial, param_name, param_distribution):
        self.draws += param_name == "a"
        return 0


def test_a_sampler_that_proposes_the_same_again_is_not_asked_for_long() -> None:
    stubborn = _Stubborn()
    values = optuna.distributions.CategoricalDistribution([0, 1, 2])
    sampler = UnrepeatedSampler(stubborn, {"a": values, "b": values}, seed=0)
    study = optuna.create_study(sampler=sampler)
    visited = set()
    for _ in range(9):
        trial = study.ask()
        visited.add(tuple(trial.suggest_categorical(name, [0, 1, 2]) for name in "ab"))
        study.tell(trial, 0.0)
    assert len(visited) == 9
    assert stubborn.draws <= 1 + 8 * 3


def test_what_is_left_of_a_range_keeps_to_its_steps() -> None:
    sizes = optuna.distributions.IntDistribution(0, 6, step=3)
    sampler = UnrepeatedSampler(_Stubborn(), {"size": sizes}, seed=0)
    study = optuna.create_study(sampler=sampler)
    visited = []
    for _ in range(3):
        trial = study.ask({"size": sizes})
        visited.append(trial.params["size"])
        study.tell(trial, 0.0)
    assert sorted(visited) == [0, 3, 6]


# What a study file can name.

SAMPLERS = [
    name
    for name, member in inspect.getmembers(optuna.samplers, inspect.isclass)
    if issubclass(member, optuna.samplers.BaseSampler) and not inspect.isabstract(member)
]
ARGUMENTS = {
    "TPESampler": "{n_startup_trials: 3}",
    "GPSampler": "{n_startup_trials: 3}",
    "PartialFixedSampler": "{fixed_params: {optimizer.learning_rate: 0.5}, "
    "base_sampler: {name: RandomSampler}}",
    "PatientPruner": "{wrapped_pruner: {name: MedianPruner}, patience: 1}",
    "PercentilePruner": "{percentile: 25.0}",
    "ThresholdPruner": "{lower: 0.0}",
}


COUNTED_SPACE = """
space:
  model: {BPR: {embedding_size: {integer: [4, 12]}, regularization: 0.1}}
  optimizer: {learning_rate: {choice: [0.1, 0.2, 0.3]}}
"""


def part(kind: str, name: str) -> str:
    return f"{kind}: {{name: {name}, arguments: {ARGUMENTS.get(name, '{}')}}}"


SPACE = """
space:
  model: {BPR: {embedding_size: {choice: [4, 8]}, regularization: {float: [0, 1]}}}
  optimizer: {learning_rate: {log_float: [1e-3, 1]}}
"""


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("name", sorted(set(SAMPLERS) - {"GridSampler", "BruteForceSampler"}))
def test_any_sampler_can_be_named_and_repeats_nothing_after_a_restart(opened, name: str) -> None:
    if name == "CmaEsSampler" and importlib.util.find_spec("cmaes") is None:
        pytest.skip("needs the package cmaes")
    rest = f"{SPACE}{part('sampler', name)}\nstart_with_defaults: false\n"
    found = run_all(opened("", f"{rest}trials: 3")) + run_all(opened("", f"{rest}trials: 6"))
    assert len({tuple(values.values()) for values in found}) == len(found) == 6
    if name == "PartialFixedSampler":
        assert {values["optimizer.learning_rate"] for values in found} == {0.5}


def test_the_same_study_proposes_the_same_and_another_seed_something_else(
    opened, storage_path
) -> None:
    found = []
    for seed in (1, 1, 2):
        found.append(run_all(opened("", f"{SPACE}seed: {seed}")))
        for path in storage_path.parent.glob("optuna.db*"):
            path.unlink()
    assert found[0] == found[1]
    assert not any(proposal in found[0] for proposal in found[2])


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_an_interrupted_search_proposes_what_an_undisturbed_one_does(
    opened, storage_path, name: str
) -> None:
    space = COUNTED_SPACE if name in GRID_SAMPLERS else SPACE
    rest = f"{space}{part('sampler', name)}\ntrials: 6\n"

    def search(begun_before: int) -> dict[int, object]:
        """Go through a search whose driver is killed that often after it has begun a trial."""
        for path in storage_path.parent.glob("optuna.db*"):
            path.unlink()
        found, left = {}, Counter[int]()
        record = opened("", rest)
        while (trial := record.next_request()) is not None:
            left[trial.number] += 1
            if left[trial.number] <= begun_before:
                record = opened("", rest)
                continue
            rate = trial.parameters["optimizer.learning_rate"]
            record.complete(trial, {"best_value": -abs(math.log(rate / 0.1))})
            found[trial.number] = trial.parameters
        return found

    assert search(begun_before=1) == search(begun_before=0)


@pytest.mark.parametrize("name", ["RandomSampler", "TPESampler"])
def test_a_trial_interrupted_while_it_was_sampled_gets_what_it_would_have(
    opened, storage_path, name: str
) -> None:
    rest = f"{SPACE}{part('sampler', name)}\ntrials: 6\nstart_with_defaults: false\n"
    record = opened("", rest)
    for _ in range(4):
        record.complete(record.next_request(), {"best_value": 0.1})
    expected = record.next_request().parameters
    with closing(sqlite3.connect(storage_path)) as database:
        last = "(select max(param_id) from trial_params)"
        assert database.execute(f"delete from trial_params where param_id = {last}").rowcount == 1
        database.commit()
    assert opened("", rest).next_request().parameters == expected


# Published defaults.


def test_a_cell_begins_with_the_defaults_that_its_space_holds(opened) -> None:
    record = opened(
        "model: [VBPR]\ngradient: [mirror_gradient]",
        """
space:
  model: {embedding_size: {choice: [32, 64]}, regularization: {float: [0.5, 0.9]}}
  gradient: {interval: {integer: [2, 8]}, alpha2: {choice: [0.3, 0.4]}}
  optimizer: {learning_rate: {log_float: [1e-4, 1e-2]}}
""",
    )
    first, second = run_all(record)[:2]
    assert first["model.VBPR.embedding_size"] == 64
    assert first["gradient.mirror_gradient.interval"] == 3
    assert first["optimizer.learning_rate"] == 1e-3
    # No default lies in these spaces: the sampler draws from them.
    assert 0.5 <= first["model.VBPR.regularization"] <= 0.9
    assert first["gradient.mirror_gradient.alpha2"] in (0.3, 0.4)
    assert second["optimizer.learning_rate"] != 1e-3


def test_the_defaults_are_tried_once_and_only_where_they_are_wanted(opened, storage_path) -> None:
    rest = "space: {optimizer: {learning_rate: {log_float: [1e-4, 1e-2]}}}\n"
    rates = [
        values["optimizer.learning_rate"]
        for trials in (2, 4)
        for values in run_all(opened("", f"{rest}trials: {trials}"))
    ]
    assert rates.count(1e-3) == 1 and rates[0] == 1e-3
    for path in storage_path.parent.glob("optuna.db*"):
        path.unlink()
    without = run_all(opened("", f"{rest}start_with_defaults: false"))
    assert 1e-3 not in [values["optimizer.learning_rate"] for values in without]


PRUNERS = [
    name
    for name, member in inspect.getmembers(optuna.pruners, inspect.isclass)
    if issubclass(member, optuna.pruners.BasePruner) and not inspect.isabstract(member)
]


@pytest.mark.filterwarnings("error::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("name", PRUNERS)
def test_any_pruner_can_be_named(opened, name: str) -> None:
    record = opened("", f"{SPACE}{part('pruner', name)}\ntrials: 2")
    good, bad = record.next_request(), record.next_request()
    for step in range(1, 4):
        assert not record.report(good, step, 0.5 + 0.1 * step, {})
    record.complete(good, {"best_value": 0.8})
    pruned = [record.report(bad, step, -0.1, {}) for step in range(1, 4)]
    assert all(isinstance(decision, bool) for decision in pruned)
    if name == "ThresholdPruner":
        assert pruned[0]


def test_by_default_a_trial_is_stopped_when_it_is_behind_and_no_longer_improves(opened) -> None:
    record = opened("", f"{SPACE}trials: 6")
    for _ in range(4):
        leader = record.next_request()
        for epoch in range(1, 41):
            record.report(leader, epoch, 0.5, {})
        record.complete(leader, {"best_value": 0.5})
    slow, stuck = record.next_request(), record.next_request()
    assert not any(record.report(slow, epoch, 0.01 * epoch, {}) for epoch in range(1, 41))
    stopped = [record.report(stuck, epoch, 0.1 - 0.001 * epoch, {}) for epoch in range(1, 41)]
    assert stopped.index(True) == 9


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        (
            "sampler: TPESampelr",
            "s.yaml:6: sampler: unknown sampler 'TPESampelr'; did you mean 'TP",
        ),
        (
            "pruner: MedianPruned",
            "s.yaml:6: pruner: unknown pruner 'MedianPruned'; did you mean 'M",
        ),
        ("sampler: BaseGASampler", "sampler: unknown sampler 'BaseGASampler'"),
        (
            "pruner: {name: MedianPruner, arguments: {n_startup: 3}}",
            "MedianPruner has no such argument; did you mean 'n_startup_trials'?",
        ),
        (
            "pruner: PercentilePruner",
            "pruner: PercentilePruner: PercentilePruner.__init__() missing",
        ),
        ("pruner: 'optuna.samplers:TPESampler'", "is not an Optuna pruner"),
        ("sampler: 'nowhere:Sampler'", "sampler: cannot import sampler 'nowhere:Sampler'"),
        ("sampler: ':Sampler'", "sampler: cannot import sampler ':Sampler'"),
        (
            "sampler: {name: TPESampler, arguments: {seed: 3}}",
            "sampler: TPESampler: seeds derive from the study's own `seed`",
        ),
        (
            "sampler: {name: GridSampler, arguments: {search_space: {a: [1]}}}",
            "sampler: GridSampler takes no arguments here",
        ),
        (
            "sampler: GridSampler\nspace: {optimizer: {learning_rate: {float: [0.1, 1]}}}",
            "sampler: GridSampler needs choices or integers, but cell both/BPR/plain/none/adam/999 "
            "searches optimizer.learning_rate over a range",
        ),
        (
            "sampler: GridSampler\nspace: {optimizer: {learning_rate: {choice: "
            f"{[rate / 100 for rate in range(1, 41)]}}}}}, "
            "model: {embedding_size: {integer: [1, 4096]}}}",
            "sampler: GridSampler would list 1,146,880 combinations",
        ),
    ],
)
def test_a_search_that_cannot_work_is_refused_before_anything_runs(
    read, expanded, rest: str, said: str
) -> None:
    config, document = read("", rest)
    with pytest.raises(InputError) as caught:
        check_search(config, document, expanded("", rest).cells)
    assert str(caught.value).startswith("s.yaml:6: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
