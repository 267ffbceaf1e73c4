"""Sample a cell's space: with Optuna's sampler, or from a grid."""

from __future__ import annotations

import itertools
import random

import optuna
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler

from mgstudy.config.parameters import Choice, FloatRange, IntegerRange, LogFloatRange, Space, Value
from mgstudy.config.study import OptunaPart
from mgstudy.private.optuna import fixed_parameters
from mgstudy.study.definition.cell import Cell
from mgstudy.study.definition.optuna_parts import GRID_SAMPLERS, LARGEST_GRID, build_sampler
from mgstudy.study.search.unrepeated import UnrepeatedSampler


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


def queue_published_defaults(study: optuna.Study, cell: Cell) -> None:
    """Queue the cell's published defaults as its first trial; the sampler adds what has none.

    A study that has trials already is left as it is.
    """
    defaults = cell.published_defaults()
    if defaults and not study.get_trials(deepcopy=False):
        study.enqueue_trial(defaults)
