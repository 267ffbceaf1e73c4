"""Sample a cell's space: with Optuna's sampler, from a grid, or what was tried before once more."""

from __future__ import annotations

import itertools
import math
import random

import optuna
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from mgstudy.config.parameters import Choice, FloatRange, IntegerRange, LogFloatRange, Space, Value
from mgstudy.config.study import OptunaPart, StudyConfig
from mgstudy.fingerprint import fingerprint
from mgstudy.private.optuna import FIXED_PARAMETERS, fixed_parameters
from mgstudy.study.definition.cell import Cell
from mgstudy.study.definition.optuna_parts import GRID_SAMPLERS, LARGEST_GRID, build_sampler
from mgstudy.study.search.trials import (
    FIRST_FAILED_ATTRIBUTE,
    RETRY_HISTORY_ATTRIBUTE,
    SEED_ATTRIBUTE,
    replaced,
)
from mgstudy.study.search.unrepeated import UnrepeatedSampler

_SHARED = ("model.", "optimizer.")


def suggest(trial: optuna.Trial, name: str, space: Space) -> Value:
    """Sample one parameter; a trial that has it already gives back the same value."""
    if isinstance(space, Choice):
        return trial.suggest_categorical(name, space.choices)
    if isinstance(space, IntegerRange):
        return trial.suggest_int(name, space.low, space.high)
    if isinstance(space, FloatRange | LogFloatRange):
        return trial.suggest_float(
            name, space.low, space.high, log=isinstance(space, LogFloatRange)
        )
    raise TypeError(f"{space!r} is not searched")


def cell_sampler(part: OptunaPart, cell: Cell, seed: int) -> BaseSampler:
    """The sampler of one cell, which repeats no combination where those can be counted; only one
    that holds parameters fixed is left to itself.

    Raises:
        InputError: As ``build_sampler``.
    """
    sampler = build_sampler(part, seed)
    # A sampler that holds parameters fixed would be led away from them.
    is_bound = isinstance(sampler, optuna.samplers.PartialFixedSampler)
    if part.name in GRID_SAMPLERS or is_bound or not 1 < cell.size() <= LARGEST_GRID:
        return sampler
    distributions = {
        name: CategoricalDistribution(space.choices)
        if isinstance(space, Choice)
        else IntDistribution(space.low, space.high)
        for name, space in cell.searched.items()
        if isinstance(space, Choice | IntegerRange)
    }
    return UnrepeatedSampler(sampler, distributions, seed)


def queue_grid(study: optuna.Study, cell: Cell, budget: int, shuffle_seed: int) -> None:
    """Queue the first ``budget`` combinations of the cell's grid that the study does not have yet.

    The order is shuffled, so that a budget below the size of the grid samples it evenly, and the
    same for every budget, so that a larger one adds to a smaller one.
    """
    grid = cell.grid() or {}
    known = {
        tuple((fixed_parameters(trial) or trial.params).get(name) for name in grid)
        for trial in study.get_trials(deepcopy=False)
    }
    combinations = list(itertools.product(*grid.values()))
    random.Random(shuffle_seed).shuffle(combinations)
    for values in combinations[:budget]:
        if values not in known:
            study.enqueue_trial(dict(zip(grid, values, strict=True)))


def shared_configuration(config: StudyConfig, cell: Cell, number: int) -> dict[str, Value]:
    """The parameters of a trial that are the same in every cell with these levels of dataset,
    model, optimizer and seed: those of model and optimizer, drawn evenly.

    A value follows from its parameter's name and the trial's number alone. The first trial has the
    published defaults where it is to; and where the combinations can be counted, none comes again
    before all have come.
    """
    first = cell.published_defaults() if config.start_with_defaults else {}
    shared = {n: space for n, space in cell.searched.items() if n.startswith(_SHARED)}
    levels = [cell.levels[factor] for factor in ("dataset", "model", "optimizer", "seed")]

    def draws(of: str) -> random.Random:
        return random.Random(fingerprint({"study": config.seed, "levels": levels, "of": of}))

    values = {name: _drawn(space, draws(f"{name} {number}")) for name, space in shared.items()}
    countable = [
        space.choices if isinstance(space, Choice) else range(space.low, space.high + 1)
        for space in shared.values()
        if isinstance(space, Choice | IntegerRange)
    ]
    # By what is shared alone: what a strategy has of its own is drawn beside it.
    is_countable = len(countable) == len(shared)
    if shared and is_countable and math.prod(map(len, countable)) <= LARGEST_GRID:
        rows = itertools.product(*countable)
        combinations = [dict(zip(shared, row, strict=True)) for row in rows]
        draws("order").shuffle(combinations)
        known = {name: first[name] for name in shared if name in first}
        start = next(row for row in combinations if row | known == row)
        combinations.sort(key=lambda row: row != start)
        values = combinations[number % len(combinations)]
    return values | first if number == 0 else values


def _drawn(space: Space, draws: random.Random) -> Value:
    if isinstance(space, Choice):
        return draws.choice(space.choices)
    if isinstance(space, IntegerRange):
        return draws.randint(space.low, space.high)
    if isinstance(space, LogFloatRange):
        return math.exp(draws.uniform(math.log(space.low), math.log(space.high)))
    assert isinstance(space, FloatRange)
    return draws.uniform(space.low, space.high)


def queue_published_defaults(study: optuna.Study, cell: Cell) -> None:
    """Queue the cell's published defaults as its first trial; the sampler adds what has none.

    A study that has trials already is left as it is.
    """
    defaults = cell.published_defaults()
    if defaults and not study.get_trials(deepcopy=False):
        study.enqueue_trial(defaults)


def queue_failed(storage: BaseStorage, study_id: int) -> int:
    """Queue every failed trial that no other stands for yet; how many those are.

    Optuna keeps a trial that has ended as it is, and so does its record of the failure. The trial
    runs again under a new number, with the same parameters and seed, and the failed one no longer
    counts: a cell gets as many trials as it would have had, no more and no fewer. Which trial
    stands for which is written as Optuna's own retries write it.
    """
    trials = storage.get_all_trials(study_id, deepcopy=False)
    gone = replaced(trials)
    failed = [t for t in trials if t.state is TrialState.FAIL and t.number not in gone]
    for trial in failed:
        storage.create_new_trial(study_id, _another_try(trial))
    return len(failed)


def _another_try(trial: FrozenTrial) -> FrozenTrial:
    attributes = trial.system_attrs
    return optuna.trial.create_trial(
        state=TrialState.WAITING,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs={
            name: value for name, value in trial.user_attrs.items() if name == SEED_ATTRIBUTE
        },
        system_attrs={
            FIXED_PARAMETERS: trial.params,
            FIRST_FAILED_ATTRIBUTE: attributes.get(FIRST_FAILED_ATTRIBUTE, trial.number),
            RETRY_HISTORY_ATTRIBUTE: [
                *attributes.get(RETRY_HISTORY_ATTRIBUTE, ()),
                trial.number,
            ],
        },
    )
