"""The Optuna samplers and pruners that a study file names, built from their arguments."""

from __future__ import annotations

import inspect
import math
import sys
import warnings
from collections import abc
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any, get_args, get_type_hints

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError

from mgstudy.config.document import Document
from mgstudy.config.parameters import Choice, IntegerRange
from mgstudy.config.reading import Location
from mgstudy.config.study import OptunaPart, StudyConfig
from mgstudy.errors import InputError, UnknownNameError, suggestion
from mgstudy.registry import import_named
from mgstudy.study.definition.cell import Cell
from mgstudy.urls import first_line

GRID_SAMPLERS = frozenset({"GridSampler", "BruteForceSampler"})
"""Samplers that try every combination once.

Optuna's end a study from inside it, which only works under ``Study.optimize``. Here the
combinations are queued as waiting trials instead, which any number of drivers can work off.
"""

LARGEST_GRID = 1_000_000
"""Combinations that are listed to be tried each once, at most."""

_LARGEST_COUNT = 100_000
_SOON = {"n_startup_trials": 8, "population_size": 4}
"""Arguments of samplers: how many trials they draw at random before they learn."""
_AS_GIVEN = ConfigDict(strict=True, arbitrary_types_allowed=True, allow_inf_nan=False)


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
    """Check the arguments of sampler and pruner and build both once, so that a mistake shows
    before anything runs.

    Raises:
        InputError: With the place in the study file.
    """
    _check_arguments(config.pruner, "pruner", document, ("pruner",))
    _check_arguments(config.sampler, "sampler", document, ("sampler",))
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


def with_nested(part: OptunaPart) -> Iterator[OptunaPart]:
    """A sampler or pruner, and those that its arguments are."""
    yield part
    for value in part.arguments.values():
        if (nested := _nested(value)) is not None:
            yield from with_nested(nested)


def soon_learning(part: OptunaPart) -> OptunaPart:
    """A sampler with the same arguments, but for how soon it begins to learn."""
    taken, given = inspect.signature(_find(part.name, "sampler")).parameters, part.arguments
    soon = {
        name: min(given.get(name, most), most)
        for name, most in _SOON.items()
        if name in taken and isinstance(given.get(name, most), int)
    }
    return part.model_copy(update={"arguments": {**given, **soon}})


def needs_package(name: str, error: ImportError) -> str:
    """What a class that is named lacks, as its failed import says it."""
    cause: BaseException | None = error
    while cause is not None and not getattr(cause, "name", None):
        cause = cause.__cause__
    if cause is None:
        return f"{name}: {first_line(error)}"
    package = cause.name.partition(".")[0]  # type: ignore[attr-defined]
    return f"{name} needs the package {package}: pip install {package}"


def _check_arguments(part: OptunaPart, kind: str, document: Document, place: Location) -> None:
    """Hold arguments to the types that the class declares: Optuna itself hardly looks at them."""
    try:
        found = _find(part.name, kind)
    except InputError as error:
        raise document.error(place, str(error)) from error
    declared = inspect.signature(found).parameters
    for name, value in part.arguments.items():
        where: Location = (*place, "arguments", name)
        if name not in declared:
            if not any(p.kind is p.VAR_KEYWORD for p in declared.values()):
                raise document.error(
                    where, f"{part.name} has no such argument; {suggestion(name, declared)}"
                )
            continue
        try:
            nested = _nested(value)
        except ValidationError as error:
            raise document.explain(error, where) from error
        if nested is not None:
            _check_arguments(nested, kind, document, where)
        else:
            _check_type(value, _annotation(found, declared[name]), document, where)
    least, most = part.arguments.get("min_resource", 1), part.arguments.get("max_resource")
    is_hyperband = found is optuna.pruners.HyperbandPruner
    if is_hyperband and isinstance(least, int) and isinstance(most, int) and least > most:
        told = f"{part.name} stops no trial: min_resource {least} is more than max_resource {most}"
        raise document.error((*place, "arguments"), told)


def _check_type(value: Any, annotation: Any, document: Document, where: Location) -> None:
    kinds = {annotation, *get_args(annotation)}
    if {BasePruner, BaseSampler} & kinds and value is not None:
        raise document.error(where, f"expected a mapping with `name`, got {value!r}")
    try:
        TypeAdapter(annotation, config=_AS_GIVEN).validate_python(value)
    except PydanticSchemaGenerationError:  # Of a foreign class.
        return
    except ValidationError as error:
        raise document.explain(error, where) from error
    most = math.inf if where[-1] == "seed" else _LARGEST_COUNT
    if int in kinds and float not in kinds and isinstance(value, int) and not 0 <= value <= most:
        # All of Optuna's are counts, but for seeds: of trials, or of what it draws for each.
        told = f"expected a whole number from 0 to {_LARGEST_COUNT:,}, got {value}"
        raise document.error(where, told)


def _annotation(found: Any, parameter: inspect.Parameter) -> Any:
    """What a parameter may be; anything, where that is not declared or not to be found out."""
    if parameter.annotation is parameter.empty:
        return Any
    holder = SimpleNamespace(__annotations__={"it": parameter.annotation})
    try:
        return get_type_hints(holder, vars(sys.modules[found.__module__]), vars(abc))["it"]
    except (NameError, TypeError):
        return Any


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
            # Whoever names a class and an argument has chosen it.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            warnings.simplefilter("ignore", FutureWarning)
            return found(**arguments)
    except ImportError as error:
        raise InputError(needs_package(part.name, error)) from error
    except Exception as error:  # A foreign class may raise anything.
        raise InputError(f"{part.name}: {' '.join(str(error).split())}") from error


def _argument(value: Any, kind: str, seed: int | None) -> Any:
    nested = _nested(value)
    return value if nested is None else _build(nested, kind, seed)


def _nested(value: Any) -> OptunaPart | None:
    """The sampler or pruner that an argument is, if it is one."""
    if isinstance(value, Mapping) and "name" in value and set(value) <= {"name", "arguments"}:
        return OptunaPart(**value)
    return None


def _find(name: str, kind: str) -> Any:
    if ":" in name:
        return import_named(kind, name)
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
