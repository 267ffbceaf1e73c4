"""Read YAML files so that every later complaint can name the file and the line.

A ``Document`` holds plain data and remembers where each value stood. ``--set a.b=value`` overrides
become part of it, with the option itself as their place.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeAlias, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from mgstudy.errors import InputError

Location: TypeAlias = tuple[str | int, ...]
"""Keys and list positions from the top of a document down to a value."""

Model = TypeVar("Model", bound=BaseModel)


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
        name = ".".join(str(step) for step in location)
        return InputError(f"{self.place(location)}: {name + ': ' if name else ''}{message}")

    def validate(self, model: type[Model], location: Location = ()) -> Model:
        """Build ``model`` from the whole document.

        Raises:
            InputError: For the first few things that are wrong, each on a line of its own with its
                place, what was expected and, for an unknown key, the nearest valid one.
        """
        try:
            return model.model_validate(self.data)
        except ValidationError as error:
            raise self.explain(error, location, model) from error

    def explain(
        self, error: ValidationError, location: Location = (), model: type[BaseModel] | None = None
    ) -> InputError:
        """Turn a pydantic error into an ``InputError`` with places.

        Args:
            error: What pydantic found.
            location: Where in the document the validated content stands.
            model: The validated class, to propose the nearest valid key.
        """
        wrong: dict[Location, tuple[list[str], str]] = {}
        for detail in error.errors():
            if detail["type"] == "too_short" and detail["input"]:
                continue  # Its entries are wrong, and said to be; it only seems empty without them.
            full = self._existing(location + detail["loc"], detail["type"] == "missing")
            known = _known_keys(model, full[len(location) : -1])
            # The branches of a union complain of the same value, which is one mistake.
            expected, _ = wrong.setdefault(full, ([], _given(detail)))
            expected.append(_expected(detail, known))
        return InputError(
            "\n".join(
                str(self.error(location, " or ".join(dict.fromkeys(expected)) + given))
                for location, (expected, given) in wrong.items()
            )
        )

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


def load_document(path: Path, overrides: Iterable[str] = ()) -> Document:
    """Read a YAML file and apply ``a.b=value`` overrides in order.

    Raises:
        InputError: If the file is missing, is not UTF-8 or not YAML, repeats a key, is not a
            mapping, or an override cannot be applied.
    """
    document = parse_document(_read(path), str(path))
    for override in overrides:
        _apply(document, override)
    return document


def parse_document(text: str, source: str) -> Document:
    """Read YAML text; ``source`` is how messages name it.

    Raises:
        InputError: If the text is not YAML, repeats a key or is not a mapping at the top.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is None:
            raise InputError(f"{source}: the file is empty; expected `key: value` lines")
        document = Document(source, {})
        data = _build(root, (), document, yaml.SafeLoader(""))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise InputError(f"{source}{line}: not valid YAML: {error.problem or error}") from error
    except yaml.YAMLError as error:
        raise InputError(f"{source}: not valid YAML: {' '.join(str(error).split())}") from error
    except RecursionError:
        raise InputError(
            f"{source}: nested too deeply, or an alias inside its own anchor"
        ) from None
    if not isinstance(data, dict):
        raise InputError(f"{source}:1: expected `key: value` lines, got a {_kind(data)}")
    document.data = data
    return document


_MERGE = "tag:yaml.org,2002:merge"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = _near_file(path)
        raise InputError(f"{path}: no such file{near}") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder, expected a YAML file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start}): save it as UTF-8") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def _near_file(path: Path) -> str:
    if not path.parent.is_dir():
        return ""
    names = [str(other) for other in path.parent.iterdir() if other.suffix in {".yaml", ".yml"}]
    near = difflib.get_close_matches(str(path), names, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _build(node: yaml.Node, location: Location, document: Document, loader: Any) -> Any:
    document.places[location] = f"{document.source}:{node.start_mark.line + 1}"
    if isinstance(node, yaml.MappingNode):
        mapping: dict[Any, Any] = {}
        merged: list[Any] = []
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                found = _build(value_node, location, document, loader)
                merged += found if isinstance(found, list) else [found]
                if not all(isinstance(part, dict) for part in merged):
                    raise InputError(
                        f"{document.source}:{key_node.start_mark.line + 1}: "
                        "`<<` takes a mapping or a list of mappings"
                    )
                continue
            key = loader.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise InputError(
                    f"{document.source}:{key_node.start_mark.line + 1}: "
                    f"key {key!r} is a {_kind(key)}, expected text; put it in quotes"
                )
            if key in mapping:
                raise InputError(
                    f"{document.source}:{key_node.start_mark.line + 1}: "
                    f"{'.'.join(map(str, (*location, key)))}: given twice; keep one"
                )
            mapping[key] = _build(value_node, (*location, key), document, loader)
            document.places[*location, key] = f"{document.source}:{key_node.start_mark.line + 1}"
        for part in merged:
            # What the mapping says itself, and what is merged first, holds.
            mapping = {**part, **mapping}
        return mapping
    if isinstance(node, yaml.SequenceNode):
        return [
            _build(child, (*location, position), document, loader)
            for position, child in enumerate(node.value)
        ]
    return _number(loader.construct_object(node, deep=True), node)


def _number(value: Any, node: yaml.Node) -> Any:
    """Read ``1e-3`` as a number: YAML 1.1 wants ``1.0e-3`` and takes the rest for text."""
    if isinstance(value, str) and isinstance(node, yaml.ScalarNode) and node.style is None:
        try:
            return float(value) if value[:1] in "+-.0123456789" else value
        except ValueError:
            return value
    return value


def _apply(document: Document, override: str) -> None:
    name, separator, text = override.partition("=")
    steps = name.strip().split(".")
    if not separator or not all(steps):
        raise InputError(f"--set {override}: expected --set a.b=value")
    place = f"--set {override}"
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        value: Any = None
        if node is not None:
            value = _build(node, (), Document(place, {}), yaml.SafeLoader(""))
    except yaml.YAMLError as error:
        raise InputError(f"{place}: the value is not valid YAML") from error
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
    target[key] = value
    full = (*location, key)
    for other in [other for other in document.places if other[: len(full)] == full]:
        del document.places[other]
    document.places[full] = place


def _key(target: Any, step: str, place: str) -> str | int:
    if isinstance(target, dict):
        return step
    if step.isdecimal() and int(step) < len(target):
        return int(step)
    raise InputError(f"{place}: {step!r} is not a position in a list of {len(target)}")


_WORDS = {
    "tuple_type": "expected a list",
    "list_type": "expected a list",
    "dict_type": "expected a mapping",
    "model_type": "expected a mapping",
}
"""What YAML calls the types that pydantic calls by their Python names."""


def _expected(detail: ErrorDetails, known: list[str]) -> str:
    """What is wrong, in plain words; ``known`` are the keys valid where it stands."""
    kind = detail["type"]
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(str(detail["loc"][-1]), known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return "unknown key" + (hint or (f"; known: {', '.join(known)}" if known else ""))
    if kind == "missing":
        return "is missing"
    message = detail["msg"].removeprefix("Value error, ")
    if kind == "value_error":
        return message
    if kind == "too_short":
        return "is empty, expected at least one entry"
    return _WORDS.get(kind, f"{message[0].lower()}{message[1:]}")


def _given(detail: ErrorDetails) -> str:
    """What was given instead, unless the words for what is wrong say it already."""
    if detail["type"] in {"extra_forbidden", "missing", "value_error", "too_short"}:
        return ""
    value = detail["input"]
    shown = repr(value)
    return f", got {shown if len(shown) <= 60 else f'a {_kind(value)}'}"


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


def _kind(value: object) -> str:
    names = {
        dict: "mapping",
        list: "list",
        str: "text",
        bool: "yes/no value",
        int: "number",
        float: "number",
        type(None): "null",
    }
    return names.get(type(value), type(value).__name__)
