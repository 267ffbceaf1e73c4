"""Configuration files as data, so that every later complaint can name the file and the line.

A ``Document`` holds plain data and remembers where each value stood. ``--set a.b=value`` overrides
become part of it, with the option itself as their place.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from mgstudy.config.reading import Location, YamlReader, file_text, kind, located_error, shortened
from mgstudy.errors import InputError
from mgstudy.registry import look_in
from mgstudy.urls import redacted

Model = TypeVar("Model", bound=BaseModel)

MOST_MISTAKES = 3
"""How many mistakes are said at once."""


@dataclass
class Document:
    """Data read from a YAML file, and where each value was written.

    Attributes:
        source: The file's name, as messages show it.
        data: The content: mappings, lists and plain values.
        places: Location of a value to where it was written, as ``file:line`` or ``--set ...``.
    """

    source: str
    data: dict[str, Any]
    places: dict[Location, str] = field(default_factory=dict)

    def place(self, location: Location) -> str:
        """Where the value at ``location`` was written, or the nearest value around it."""
        for length in range(len(location), -1, -1):
            if location[:length] in self.places:
                return self.places[location[:length]]
        return self.source

    def error(self, location: Location, message: str) -> InputError:
        """An ``InputError`` that names the place and the dotted name of a value."""
        return located_error(self.place(location), location, message)

    def validate(self, model: type[Model]) -> Model:
        """Build ``model`` from the whole document.

        Raises:
            InputError: For the first few things that are wrong, each on a line of its own with its
                place, what was expected and, for an unknown key, the nearest valid one.
        """
        try:
            return model.model_validate(self.data)
        except ValidationError as error:
            raise self.explain(error, model=model) from error

    def explain(
        self, error: ValidationError, location: Location = (), model: type[BaseModel] | None = None
    ) -> InputError:
        """Turn a pydantic error into an ``InputError`` with places.

        Args:
            error: What pydantic found.
            location: Where in the document the validated content stands.
            model: The validated class, to propose the nearest valid key.
        """
        wrong: dict[Location, list[ErrorDetails]] = {}
        for detail in error.errors():
            if detail["type"] == "too_short" and detail["input"]:
                continue  # Its entries are wrong, and said to be; it only seems empty without them.
            full = self._existing(location + detail["loc"], detail["type"] == "missing")
            # The branches of a union complain of the same value, which is one mistake.
            wrong.setdefault(full, []).append(detail)
        errors = []
        for full, details in wrong.items():
            known = _known_keys(model, full[len(location) : -1])
            expected = dict.fromkeys(_expected(detail, known) for detail in details)
            errors.append(self.error(full, " or ".join(expected) + _given(details[0])))
        return together(errors)

    def _existing(self, location: Location, last_is_missing: bool) -> Location:
        """Drop the steps that pydantic adds for the branches of a union."""
        kept: list[str | int] = []
        value: Any = self.data
        for step in location:
            in_mapping = isinstance(value, Mapping) and step in value
            in_list = isinstance(value, list) and isinstance(step, int) and step < len(value)
            if in_mapping or in_list:
                kept.append(step)
                value = value[step]
        return (*kept, location[-1]) if last_is_missing else tuple(kept)


def together(errors: Iterable[InputError]) -> InputError:
    """Several errors as one: the first few, each on a line of its own, and how many follow."""
    lines = "\n".join(map(str, errors)).split("\n")
    more = len(lines) - MOST_MISTAKES
    said = "\n".join(lines[:MOST_MISTAKES])
    return InputError(f"{said} (and {more:,} more mistakes)" if more > 0 else said)


def load_document(path: Path, overrides: Iterable[str] = ()) -> Document:
    """Read a YAML file and apply ``a.b=value`` overrides in order.

    Raises:
        InputError: If the file is missing, is not UTF-8 or not YAML, repeats a key, is not a
            mapping, or an override cannot be applied.

    Parts that it names are found in modules beside it, too.
    """
    document = parse_document(file_text(path), str(path))
    look_in([path.absolute().parent])
    for override in overrides:
        _apply(document, override)
    return document


def parse_document(text: str, source: str) -> Document:
    """Read YAML text; ``source`` is how messages name it.

    Raises:
        InputError: If the text is not YAML, repeats a key, is not a mapping at the top or goes
            beyond a limit of ``mgstudy.limits``.
    """
    reader = YamlReader(source)
    data = reader.read(text)
    if not reader.places:
        raise InputError(f"{source}: the file is empty; expected `key: value` lines")
    if not isinstance(data, dict):
        raise InputError(f"{source}:1: expected `key: value` lines, got a {kind(data)}")
    return Document(source, data, reader.places)


def _apply(document: Document, override: str) -> None:
    name, separator, text = override.partition("=")
    steps = name.strip().split(".")
    if not separator or not all(steps):
        raise InputError(redacted(f"--set {override}: expected --set a.b=value"))
    place = f"--set {shortened(redacted(override))}"
    target: Any = document.data
    location: list[str | int] = []
    for step in steps[:-1]:
        key = _key(target, step, place)
        location.append(key)
        if isinstance(target, dict) and target.get(key) is None:
            target[key] = {}
        target = target[key]
        if not isinstance(target, dict | list):
            raise InputError(f"{place}: {'.'.join(map(str, location))} is a value, not a mapping")
    key = _key(target, steps[-1], place)
    full = (*location, key)
    target[key] = YamlReader(place, numbered=False).read(text, full)
    for other in [other for other in document.places if other[: len(full)] == full]:
        del document.places[other]
    document.places[full] = place


def _key(target: Any, step: str, place: str) -> str | int:
    if isinstance(target, dict):
        return step
    if step.isdecimal() and len(step) < 10 and int(step) < len(target):
        return int(step)
    raise InputError(f"{place}: {step!r} is not a position in a list of {len(target)}")


_WORDS = {
    "tuple_type": "expected a list",
    "list_type": "expected a list",
    "dict_type": "expected a mapping",
    "model_type": "expected a mapping",
    "bool_type": "expected `true` or `false`",
}
"""What YAML calls the types that pydantic calls by their Python names."""


def _expected(detail: ErrorDetails, known: list[str]) -> str:
    """What is wrong, in plain words; ``known`` are the keys valid where it stands."""
    fault = detail["type"]
    if fault == "extra_forbidden":
        near = difflib.get_close_matches(str(detail["loc"][-1]), known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return "unknown key" + (hint or (f"; known: {', '.join(known)}" if known else ""))
    if fault == "missing":
        return "is missing"
    message = detail["msg"].removeprefix("Value error, ")
    if fault == "value_error":
        return message
    if fault == "too_short":
        return "is empty, expected at least one entry"
    return _WORDS.get(fault, f"{message[0].lower()}{message[1:]}")


def _given(detail: ErrorDetails) -> str:
    """What was given instead, unless the words for what is wrong say it already."""
    if detail["type"] in {"extra_forbidden", "missing", "value_error", "too_short"}:
        return ""
    value = detail["input"]
    shown = repr(value)
    return f", got {shown if len(shown) <= 60 else f'a {kind(value)}'}"


def _known_keys(model: type[BaseModel] | None, location: Location) -> list[str]:
    """The fields that are valid at a location, following the annotations of the model's fields."""
    annotations: list[Any] = [model]
    for step in location:
        annotations = [inner for outer in annotations for inner in _inside(outer, step)]
    branches = [branch for found in annotations for branch in _branches(found)]
    return sorted({name for branch in branches for name in _fields(branch)})


def _inside(annotation: Any, step: str | int) -> Iterator[Any]:
    """What may stand at one step inside a value with this annotation."""
    for branch in _branches(annotation):
        if step in _fields(branch):
            yield _fields(branch)[str(step)].annotation
        elif isinstance(step, int) and get_origin(branch) in (tuple, list):
            yield from get_args(branch)
        elif get_origin(branch) is dict:
            yield get_args(branch)[1]


def _branches(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) is Annotated:
        yield from _branches(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for branch in get_args(annotation):
            yield from _branches(branch)
    else:
        yield annotation


def _fields(annotation: Any) -> Mapping[str, FieldInfo]:
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return annotation.model_fields if is_model else {}
