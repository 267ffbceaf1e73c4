"""The Optuna samplers and pruners that a study file names, built from their arguments."""

from __future__ import annotations

import importlib
import inspect
import warnings
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler

from mgstudy.config.document import Document
from mgstudy.config.parameters import Choice, IntegerRange
from mgstudy.config.study import OptunaPart, StudyConfig
from mgstudy.errors import InputError, UnknownNameError
from mgstudy.study.definition.cell import Cell

GRID_SAMPLERS = frozenset({"GridSampler", "BruteForceSampler"})
"""Samplers that try every combination once.

Optuna's end a study from inside it, which only works under ``Study.optimize``. Here the
combinations are queued as waiting trials instead, which any number of drivers can work off.
"""

LARGEST_GRID = 1_000_000
"""Combinations that are listed to be tried each once, at most."""


def build_sampler(part: OptunaPart, seed: int) -> BaseSampler:
    """An Optuna sampler; ``seed`` is filled in where it takes one.

    Raises:
        InputError: For an unknown class or arguments it does not take.
    """
    if part.name in GRID_SAMPLERS:
        if part.arguments:
            raise InputError(f"{part.name} takes no arguments here: the grid is the study's space")
        return optuna.samplers.RandomSampler(seed=seed)
    sampler = _build(part, "sampler", seed)
    if not isinstance(sampler, BaseSampler):
        raise InputError(f"{part.name!r} is not an Optuna sampler")
    return sampler


def build_pruner(part: OptunaPart) -> BasePruner:
    """An Optuna pruner. An argument that is itself one is written as a mapping with ``name``.

    Raises:
        InputError: For an unknown class or arguments it does not take.
    """
    pruner = _build(part, "pruner", None)
    if not isinstance(pruner, BasePruner):
        raise InputError(f"{part.name!r} is not an Optuna pruner")
    return pruner


def check_search(config: StudyConfig, document: Document, cells: tuple[Cell, ...]) -> None:
    """Build the sampler and the pruner once, so that a mistake shows before anything runs.

    Raises:
        InputError: With the place in the study file.
    """
    try:
        build_pruner(config.pruner)
    except InputError as error:
        raise document.error(("pruner",), str(error)) from error
    try:
        build_sampler(config.sampler, seed=0)
    except InputError as error:
        raise document.error(("sampler",), str(error)) from error
    if config.sampler.name in GRID_SAMPLERS:
        for cell in cells:
            if cell.grid() is None:
                ranges = [
                    n
                    for n, space in cell.searched.items()
                    if not isinstance(space, Choice | IntegerRange)
                ]
                raise document.error(
                    ("sampler",),
                    f"{config.sampler.name} needs choices or integers, but cell {cell.key} "
                    f"searches {', '.join(ranges)} over a range",
                )
            if cell.size() > LARGEST_GRID:
                raise document.error(
                    ("sampler",),
                    f"{config.sampler.name} would list {cell.size():,} combinations for cell "
                    f"{cell.key}, more than {LARGEST_GRID:,}; narrow the space or name another",
                )


def _build(part: OptunaPart, kind: str, seed: int | None) -> Any:
    found = _find(part.name, kind)
    arguments = {name: _argument(value, kind, seed) for name, value in part.arguments.items()}
    if seed is not None and "seed" in inspect.signature(found).parameters:
        if "seed" in arguments:
            raise InputError(
                f"{part.name}: seeds derive from the study's own `seed`, so that neither cells nor "
                "a continued study repeat their proposals; set that one"
            )
        arguments["seed"] = seed
    try:
        with warnings.catch_warnings():
            # Whoever names a class has chosen it.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return found(**arguments)
    except (TypeError, ValueError, ImportError) as error:
        raise InputError(f"{part.name}: {' '.join(str(error).split())}") from error


def _argument(value: Any, kind: str, seed: int | None) -> Any:
    if isinstance(value, Mapping) and "name" in value and set(value) <= {"name", "arguments"}:
        return _build(OptunaPart(**value), kind, seed)
    return value


def _find(name: str, kind: str) -> Any:
    if ":" in name:
        module_name, _, class_name = name.partition(":")
        try:
            return getattr(importlib.import_module(module_name), class_name)
        except (ImportError, AttributeError, ValueError) as error:
            raise InputError(f"cannot import {kind} {name!r}: {error}") from error
    package = {"sampler": optuna.samplers, "pruner": optuna.pruners}[kind]
    base = {"sampler": BaseSampler, "pruner": BasePruner}[kind]
    known = {
        candidate: member
        for candidate, member in inspect.getmembers(package, inspect.isclass)
        if issubclass(member, base) and not inspect.isabstract(member)
    }
    if name not in known:
        raise UnknownNameError(kind, name, known)
    return known[name]
