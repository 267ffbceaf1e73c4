"""What a study file names and shows its faults only in use, used before anything starts."""

from __future__ import annotations

import logging
import warnings

import optuna

from mgstudy.config.study import OptunaPart, StudyConfig
from mgstudy.errors import InputError, MgstudyError
from mgstudy.study.definition.optuna_parts import (
    build_pruner,
    needs_package,
    soon_learning,
    with_nested,
)
from mgstudy.study.definition.study import Study
from mgstudy.study.search.samplers import cell_sampler, suggest
from mgstudy.study.storage.optuna_storage import quiet_optuna, try_storage
from mgstudy.urls import expand_url, first_line

_TRIALS = 12
_STEPS = 3


def rehearse(study: Study) -> None:
    """Open the storage of a study, and let its sampler and its pruner see trials, in memory.

    Raises:
        InputError: If one of them cannot be used; with its place.
        MgstudyError: If the storage cannot be reached; with its place, too.
    """
    config, document = study.config, study.document
    url = study.folder.storage_url(config)
    try:
        try_storage(expand_url(url))
    except MgstudyError as error:
        if config.storage is None:  # It is the workspace that is damaged.
            raise MgstudyError(str(error)) from error
        placed = document.error(("storage",), str(error).removeprefix("storage "))
        raise placed if isinstance(error, InputError) else MgstudyError(str(placed)) from error
    default = StudyConfig.model_fields
    if config.pruner != default["pruner"].default:
        for part in with_nested(config.pruner):
            _search(study, "pruner", OptunaPart(name="RandomSampler"), part)
    if config.sampler != default["sampler"].default:
        for part in with_nested(config.sampler):
            # Some look at what the pruner makes of the trials.
            _search(study, "sampler", soon_learning(part), config.pruner)


def _search(study: Study, place: str, sampler: OptunaPart, pruner: OptunaPart) -> None:
    """Sample, prune and end trials of the cell with the largest space, beyond those after which
    samplers and pruners begin to learn."""
    cell = max(study.plan.cells, key=lambda cell: len(cell.searched))
    part = sampler if place == "sampler" else pruner
    # Optuna prunes nothing that has several objectives.
    steps = 1 if study.config.training.further_objectives else _STEPS
    try:
        # What they warn of, they warn of again when it counts.
        with warnings.catch_warnings(), quiet_optuna(logging.ERROR):
            warnings.simplefilter("ignore")
            rehearsed = optuna.create_study(
                directions=["maximize" for _ in study.config.training.objectives],
                sampler=cell_sampler(sampler, cell, seed=0),
                pruner=build_pruner(pruner),
            )
            for number in range(_TRIALS):
                trial = rehearsed.ask()
                for name, space in cell.searched.items():
                    suggest(trial, name, space)
                for step in range(1, steps):
                    trial.report(number + step, step)
                    trial.should_prune()
                rehearsed.tell(trial, [number for _ in rehearsed.directions])
    except ImportError as error:
        raise study.document.error((place,), needs_package(part.name, error)) from error
    except Exception as error:  # Whatever it is, it would break every trial.
        told = f"{part.name} fails: {type(error).__name__}: {first_line(error)}"
        raise study.document.error((place,), told) from error
