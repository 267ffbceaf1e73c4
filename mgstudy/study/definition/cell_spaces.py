"""The space of every parameter of a cell, from what the study file says and what parts bring."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from mgstudy.config.document import Document
from mgstudy.config.factors import Level, short_name
from mgstudy.config.parameters import Fixed, ParameterSet, Space, is_space, parse_space
from mgstudy.config.reading import Location
from mgstudy.config.study import StudyConfig
from mgstudy.data.dataset import Dataset
from mgstudy.errors import InputError, suggestion
from mgstudy.limits import limit, more_than
from mgstudy.models.base import Recommender
from mgstudy.study.definition.cell import REGISTRIES, Cell, declared_parameters, owner_name

_CORNERS_CHECKED = 4096
_LARGEST = 1e6


def cell_spaces(
    config: StudyConfig,
    document: Document,
    choice: Mapping[str, Any],
    parts: Mapping[str, Mapping[str, type]],
    dataset: Dataset | None = None,
) -> dict[str, Space]:
    """The space of every parameter that a cell uses, by its full name.

    Args:
        config: The study file.
        document: Where its values stood, for messages.
        choice: The cell's level of every factor.
        parts: The classes that the levels name, by factor and name.
        dataset: The cell's; what has no effect on it, or beside what is fixed, is not searched.

    Raises:
        InputError: For a space that is invalid for its parameter.
    """
    spaces: dict[str, Space] = {}
    model: type[Recommender] = parts["model"][choice["model"].name]
    published = model.optimizer_spaces
    for factor in REGISTRIES if model.trainable else ("completion", "model"):
        level_or_levels = choice[factor]
        if level_or_levels is None:
            continue
        levels = [level_or_levels] if isinstance(level_or_levels, Level) else level_or_levels
        for level in levels:
            owner = owner_name(factor, None if factor == "optimizer" else level.name)
            part = parts[factor][level.name]
            own = _part_spaces(config, document, factor, level, part)
            for name, (space, location) in own.items():
                if factor == "completion" and not isinstance(space, Fixed):
                    raise document.error(
                        location,
                        "a completion is made once for a dataset and not in every trial, so its "
                        "parameters are not searched: give one value, or several levels",
                    )
                # A published optimizer setting replaces the default, never what the user wrote.
                given = published.get(name) if factor == "optimizer" and not location else None
                spaces[f"{owner}.{name}"] = given or space
    if dataset is not None:
        owner = owner_name("model", choice["model"].name)
        fixed = {name: space.value for name, space in spaces.items() if isinstance(space, Fixed)}
        own_fixed = Cell.own("model", choice["model"].name, fixed)
        for name, value in model.without_effect(dataset, own_fixed).items():
            spaces[f"{owner}.{name}"] = Fixed(value=value)
    return spaces


def _part_spaces(
    config: StudyConfig, document: Document, factor: str, level: Level, part: type
) -> dict[str, tuple[Space, Location]]:
    """Each parameter's space, and where it was written (empty for the part's own default)."""
    declared = declared_parameters(part)
    section: dict[str, Any] = getattr(config.space, factor, {})
    short = short_name(level.name)
    specific = section.get(short)
    level_location = next(
        loc for loc, candidate in each_level(config, factor) if candidate is level
    )
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
    is_size = location[1] == "model" and declared.model_fields[name].annotation is int
    for value in space.ends():
        if isinstance(value, int | float) and abs(value) > _LARGEST:
            raise document.error(location, f"expected at most {_LARGEST:,.0f}, got {value:g}")
        if is_size and isinstance(value, int) and value > limit("MGSTUDY_MODEL_SIZE"):
            many = more_than("MGSTUDY_MODEL_SIZE", "columns, layers or neighbours")
            raise document.error(location, f"{value:,} is {many}")
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


def refuse_unused_space(
    config: StudyConfig, document: Document, parts: Mapping[str, Mapping[str, type]]
) -> None:
    """Refuse names under ``space`` that no level of the study uses, and spaces that are invalid for
    their parameter, also where every level has one of its own instead."""
    for factor, chosen in parts.items():
        section: dict[str, Any] = getattr(config.space, factor, {})
        shared = {
            name for part in chosen.values() for name in declared_parameters(part).model_fields
        }
        short = {short_name(name): name for name in chosen}
        for name, content in section.items():
            location: Location = ("space", factor, name)
            if name in short and isinstance(content, Mapping) and not is_space(content):
                declared = declared_parameters(chosen[short[name]]).model_fields
                for inner in content:
                    if inner not in declared:
                        raise document.error(
                            (*location, inner),
                            f"{name} has no such parameter; {suggestion(inner, declared)}",
                        )
                    part = declared_parameters(chosen[short[name]])
                    _checked_space(document, part, inner, content[inner], (*location, inner))
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
            else:
                _refuse_invalid_everywhere(document, chosen.values(), name, content, location)


def _refuse_invalid_everywhere(
    document: Document, parts: Iterable[type], name: str, content: Any, location: Location
) -> None:
    """Refuse a space for a parameter of several parts that suits none of them."""
    declared = [p for p in map(declared_parameters, parts) if name in p.model_fields]
    faults = []
    for part in declared:
        try:
            _checked_space(document, part, name, content, location)
        except InputError as error:
            faults.append(error)
    if len(faults) == len(declared):
        raise faults[0]


def each_level(config: StudyConfig, factor: str) -> Iterator[tuple[Location, Level]]:
    """The levels of a factor, those inside compositions too, and where each stood."""
    for position, level in enumerate(getattr(config.factors, factor)):
        if isinstance(level, Level):
            yield ("factors", factor, position), level
        else:
            for inner, part in enumerate(level):
                yield ("factors", factor, position, inner), part
