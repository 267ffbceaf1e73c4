"""Expand a study file into cells: every combination of factor levels, each with its own space."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from mgstudy.config.document import Document, Location
from mgstudy.config.factors import Level, level_label, short_name
from mgstudy.config.parameters import (
    Choice,
    Fixed,
    IntegerRange,
    ParameterSet,
    Space,
    Value,
    is_space,
    parse_space,
)
from mgstudy.config.study import StudyConfig
from mgstudy.data.dataset import Dataset
from mgstudy.data.fingerprint import fingerprint
from mgstudy.errors import InputError, UnknownNameError, suggestion
from mgstudy.models.base import Recommender, models
from mgstudy.registry import Registry
from mgstudy.training.gradient.base import gradient_strategies
from mgstudy.training.optimizers import optimizers
from mgstudy.training.robust.base import robust_methods

FACTORS = ("dataset", "model", "gradient", "robust", "optimizer", "seed")
_REGISTRIES: dict[str, Registry[Any]] = {
    "model": models,
    "gradient": gradient_strategies,
    "robust": robust_methods,
    "optimizer": optimizers,
}
_CORNERS_CHECKED = 4096


@dataclass(frozen=True)
class Cell:
    """One combination of levels. Only trials of one cell are comparable.

    Attributes:
        levels: Factor to the label of its level, in the order of ``FACTORS``.
        dataset: Label of the dataset's level; the name of a prepared dataset that is as it was.
        model: Name of the model.
        gradient: Name of the gradient strategy.
        robust: Names of the robust methods, in the order they apply.
        optimizer: Name of the optimizer.
        seed: Training seed of the cell's trials.
        spaces: Every parameter the cell uses, by its owner's name, for example
            ``model.FREEDOM.dropout`` or ``optimizer.learning_rate``.
    """

    levels: Mapping[str, str]
    dataset: str
    model: str
    gradient: str
    robust: tuple[str, ...]
    optimizer: str
    seed: int
    spaces: Mapping[str, Space]

    @property
    def key(self) -> str:
        """The cell's name inside its study: the labels of its levels."""
        return "/".join(self.levels.values())

    @cached_property
    def searched(self) -> dict[str, Space]:
        """The parameters that are sampled."""
        return {name: space for name, space in self.spaces.items() if not isinstance(space, Fixed)}

    @cached_property
    def fixed(self) -> dict[str, Value]:
        """The parameters that every trial has in common."""
        return {
            name: space.value for name, space in self.spaces.items() if isinstance(space, Fixed)
        }

    def size(self) -> float:
        """How many different trials the space holds; infinite with a continuous range."""
        return math.prod(_size(space) for space in self.searched.values())

    def grid(self) -> dict[str, list[Value]] | None:
        """The values of every searched parameter, or ``None`` with a continuous range."""
        grid: dict[str, list[Value]] = {}
        for name, space in self.searched.items():
            if isinstance(space, Choice):
                grid[name] = list(space.choices)
            elif isinstance(space, IntegerRange):
                grid[name] = list(range(space.low, space.high + 1))
            else:
                return None
        return grid

    @staticmethod
    def own(factor: str, part: str | None, parameters: Mapping[str, Value]) -> dict[str, Value]:
        """The parameters of one part, by their short names.

        Args:
            factor: The factor the part belongs to.
            part: The part's name; ``None`` for the optimizer, whose parameters stand under the
                factor itself since a cell has only one.
            parameters: Parameters by their full names.
        """
        prefix = f"{_owner(factor, part)}."
        return {
            name.removeprefix(prefix): value
            for name, value in parameters.items()
            if name.startswith(prefix)
        }

    def describe(self) -> dict[str, Any]:
        """Levels and spaces as JSON-like data: what a cell is, for storing and comparing."""
        return {
            "levels": dict(self.levels),
            "spaces": {name: space.to_yaml() for name, space in sorted(self.spaces.items())},
        }

    def published_defaults(self) -> dict[str, Value]:
        """The default of every searched parameter whose space holds it, by its full name."""
        model: type[Recommender] = models.get(self.model)
        chosen = {
            "model": (self.model,),
            "gradient": (self.gradient,),
            "robust": self.robust,
            "optimizer": (self.optimizer,),
        }
        found: dict[str, Value] = {}
        for factor, names in chosen.items():
            for part in names:
                owner = _owner(factor, None if factor == "optimizer" else part)
                declared = _parameters(_REGISTRIES[factor].get(part)).model_fields
                for name, field in declared.items():
                    default = field.get_default(call_default_factory=True)
                    published = model.optimizer_spaces.get(name) if factor == "optimizer" else None
                    if isinstance(published, Fixed):
                        default = published.value
                    space = self.searched.get(f"{owner}.{name}")
                    if space is not None and space.holds(default):
                        found[f"{owner}.{name}"] = default
        return found

    def derived_seed(self, study_seed: int, purpose: str) -> int:
        """A 32-bit seed that depends on study seed, cell and purpose alone, so that adding a cell
        changes no other cell's seeds."""
        content = {"study_seed": study_seed, "cell": self.key, "purpose": purpose}
        return int(fingerprint(content)[:8], 16)


@dataclass(frozen=True)
class LeftOut:
    """A combination of levels that cannot be trained, and why."""

    levels: Mapping[str, str]
    reason: str


@dataclass(frozen=True)
class CellPlan:
    """The cells of a study, and the combinations that were left out."""

    cells: tuple[Cell, ...]
    left_out: tuple[LeftOut, ...]


def expand(
    config: StudyConfig, document: Document, datasets: Mapping[str, Dataset] | None = None
) -> CellPlan:
    """Cross the factors and give every cell its space.

    Args:
        config: The validated study file.
        document: Where the file's values stood, for messages.
        datasets: The datasets by their level's label, to leave out models that cannot work with
            one; without, that is not checked.

    Raises:
        InputError: For an unknown name, a space that is invalid for its parameter, a parameter
            that no level has, or when no combination can be trained.
    """
    parts = {factor: _resolve_parts(config, document, factor) for factor in _REGISTRIES}
    _refuse_repeated_methods(config, document)
    _refuse_unused_space(config, document, parts)
    cells: list[Cell] = []
    left_out: list[LeftOut] = []
    for combination in itertools.product(*(getattr(config.factors, f) for f in FACTORS)):
        choice = dict(zip(FACTORS, combination, strict=True))
        levels = {factor: level_label(level) for factor, level in choice.items()}
        model = parts["model"][choice["model"].name]
        reason = _refusal(model, choice, parts["robust"], datasets)
        if reason is not None:
            left_out.append(LeftOut(levels, reason))
            continue
        cells.append(
            Cell(
                levels=levels,
                dataset=levels["dataset"],
                model=choice["model"].name,
                gradient=choice["gradient"].name,
                robust=tuple(level.name for level in choice["robust"]),
                optimizer=choice["optimizer"].name,
                seed=choice["seed"],
                spaces=_cell_spaces(config, document, choice, parts),
            )
        )
    if not cells:
        reasons = sorted({entry.reason for entry in left_out})
        raise InputError(f"{document.source}: no combination can be trained: {'; '.join(reasons)}")
    return CellPlan(tuple(cells), tuple(left_out))


def _refusal(
    model: type[Recommender],
    choice: Mapping[str, Any],
    methods: Mapping[str, type],
    datasets: Mapping[str, Dataset] | None,
) -> str | None:
    dataset = None if datasets is None else datasets[level_label(choice["dataset"])]
    if dataset is not None:
        reason = model.refusal(dataset)
        if reason is not None:
            return reason
    if not model.trainable and (choice["gradient"].name != "plain" or choice["robust"]):
        return f"{model.name} is not trained: only gradient=plain and robust=none make sense"
    for level in choice["robust"]:
        reason = methods[level.name].refusal(model, dataset)  # type: ignore[attr-defined]
        if reason is not None:
            return str(reason)
    return None


def _levels(config: StudyConfig, factor: str) -> Iterator[tuple[Location, Level]]:
    for position, level in enumerate(getattr(config.factors, factor)):
        if isinstance(level, Level):
            yield ("factors", factor, position), level
        else:
            for inner, part in enumerate(level):
                yield ("factors", factor, position, inner), part


def _resolve_parts(config: StudyConfig, document: Document, factor: str) -> dict[str, type]:
    found: dict[str, type] = {}
    for location, level in _levels(config, factor):
        try:
            found[level.name] = _REGISTRIES[factor].get(level.name)
        except UnknownNameError as error:
            raise document.error(location, str(error)) from error
        except InputError as error:
            raise document.error(location, str(error)) from error
        declared = _parameters(found[level.name])
        for name in level.parameters:
            if name not in declared.model_fields:
                raise document.error(
                    (*location, "parameters", name),
                    f"{level.name} has no such parameter; "
                    f"{suggestion(name, declared.model_fields)}",
                )
    return found


def _refuse_repeated_methods(config: StudyConfig, document: Document) -> None:
    """Refuse a method twice in one composition, where one's parameters would be the other's."""
    for position, methods in enumerate(config.factors.robust):
        names = [short_name(level.name) for level in methods]
        for inner, name in enumerate(names):
            if name in names[:inner]:
                raise document.error(
                    ("factors", "robust", position, inner),
                    f"{name} stands twice in this list, and has one set of parameters; keep one",
                )


def _parameters(part: type) -> type[ParameterSet]:
    return part.Parameters  # type: ignore[attr-defined, no-any-return]


def _refuse_unused_space(
    config: StudyConfig, document: Document, parts: Mapping[str, Mapping[str, type]]
) -> None:
    """Refuse names under ``space`` that no level of the study uses."""
    for factor, chosen in parts.items():
        section: dict[str, Any] = getattr(config.space, factor)
        shared = {name for part in chosen.values() for name in _parameters(part).model_fields}
        short = {short_name(name): name for name in chosen}
        for name, content in section.items():
            location: Location = ("space", factor, name)
            if name in short and isinstance(content, Mapping) and not is_space(content):
                declared = _parameters(chosen[short[name]]).model_fields
                for inner in content:
                    if inner not in declared:
                        raise document.error(
                            (*location, inner),
                            f"{name} has no such parameter; {suggestion(inner, declared)}",
                        )
            elif name in short and name not in shared:
                raise document.error(
                    location, f"expected a mapping of {name}'s parameters, got {content!r}"
                )
            elif name not in shared:
                raise document.error(
                    location,
                    f"no {factor} of this study has this name or parameter; "
                    f"{suggestion(name, [*shared, *short])}",
                )


def _owner(factor: str, part: str | None) -> str:
    return factor if part is None else f"{factor}.{short_name(part)}"


def _cell_spaces(
    config: StudyConfig,
    document: Document,
    choice: Mapping[str, Any],
    parts: Mapping[str, Mapping[str, type]],
) -> dict[str, Space]:
    spaces: dict[str, Space] = {}
    model: type[Recommender] = parts["model"][choice["model"].name]
    published = model.optimizer_spaces
    for factor in _REGISTRIES if model.trainable else ("model",):
        level_or_levels = choice[factor]
        levels = [level_or_levels] if isinstance(level_or_levels, Level) else level_or_levels
        for level in levels:
            owner = _owner(factor, None if factor == "optimizer" else level.name)
            part = parts[factor][level.name]
            own = _part_spaces(config, document, factor, level, part)
            for name, (space, location) in own.items():
                # A published optimizer setting replaces the default, never what the user wrote.
                given = published.get(name) if factor == "optimizer" and not location else None
                spaces[f"{owner}.{name}"] = given or space
    return spaces


def _part_spaces(
    config: StudyConfig, document: Document, factor: str, level: Level, part: type
) -> dict[str, tuple[Space, Location]]:
    """Each parameter's space, and where it was written (empty for the part's own default)."""
    declared = _parameters(part)
    section: dict[str, Any] = getattr(config.space, factor)
    short = short_name(level.name)
    specific = section.get(short)
    level_location = next(loc for loc, candidate in _levels(config, factor) if candidate is level)
    found: dict[str, tuple[Space, Location]] = {}
    for name, default in declared.spaces().items():
        content: Any
        if name in level.parameters:
            content, location = level.parameters[name], (*level_location, "parameters", name)
        elif isinstance(specific, Mapping) and name in specific:
            content, location = specific[name], ("space", factor, short, name)
        elif name in section:
            content, location = section[name], ("space", factor, name)
        else:
            found[name] = (default, ())
            continue
        found[name] = (_checked_space(document, declared, name, content, location), location)
    _check_together(document, level, declared, found)
    return found


def _checked_space(
    document: Document, declared: type[ParameterSet], name: str, content: Any, location: Location
) -> Space:
    try:
        space = parse_space(content)
    except ValidationError as error:
        raise document.explain(error, location) from error
    except ValueError as error:
        raise document.error(location, str(error)) from error
    for value in space.ends():
        try:
            declared.__pydantic_validator__.validate_assignment(
                declared.model_construct(), name, value
            )
        except ValidationError as error:
            for detail in error.errors():
                if detail["loc"] and detail["loc"][0] == name:
                    message = detail["msg"].removeprefix("Value error, ")
                    raise document.error(
                        location, f"{value!r} is not valid: {message[0].lower()}{message[1:]}"
                    ) from error
    return space


def _check_together(
    document: Document,
    level: Level,
    declared: type[ParameterSet],
    found: Mapping[str, tuple[Space, Location]],
) -> None:
    """Refuse values that contradict each other, such as alpha2 above alpha1."""
    ends = [space.ends() for space, _ in found.values()]
    for values in itertools.islice(itertools.product(*ends), _CORNERS_CHECKED):
        try:
            declared(**dict(zip(found, values, strict=True)))
        except ValidationError as error:
            location = next((where for _, where in found.values() if where), ())
            shown = ", ".join(
                f"{name}={value!r}"
                for (name, (_, where)), value in zip(found.items(), values, strict=True)
                if where
            )
            message = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise document.error(
                location, f"{level.name} cannot have {shown or 'its defaults'}: {message}"
            ) from error


def _size(space: Space) -> float:
    if isinstance(space, Choice):
        return len(space.choices)
    if isinstance(space, IntegerRange):
        return space.high - space.low + 1
    return math.inf
