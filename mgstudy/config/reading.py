"""Read YAML text as plain data, and note where each value was written.

The language is YAML 1.2 (``no`` is a word, ``1e-3`` a number, ``010`` ten) with merge keys, and
without dates and tags.
"""

from __future__ import annotations

import difflib
import io
import math
import re
import stat
from datetime import date
from pathlib import Path
from typing import Any, TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.composer import MaxDepthExceededError
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from mgstudy.errors import InputError
from mgstudy.limits import limit, more_than
from mgstudy.urls import redacted

Location: TypeAlias = tuple[str | int, ...]
"""Keys and list positions from the top of a document down to a value."""

_TAG = "tag:yaml.org,2002:"
_FORMS = {
    f"{_TAG}null": "null",
    f"{_TAG}bool": "`true` or `false`",
    f"{_TAG}int": "a whole number",
    f"{_TAG}float": "a number",
    f"{_TAG}str": "text in Unicode",
    f"{_TAG}timestamp": "a date",
}
"""What the form or the tag of a plain value says that it is."""

_TEXT = {f"{_TAG}merge", f"{_TAG}value"}
"""What YAML takes ``<<`` and ``=`` for, which mean nothing of their own as values."""


def file_text(path: Path) -> str:
    """The text of a YAML file.

    Raises:
        InputError: If it is missing, is not a file, is longer than the limit or is not UTF-8.
    """
    try:
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise InputError(f"{path}: is a pipe or a device, expected a YAML file")
        with path.open("rb") as file:
            content = file.read(limit("MGSTUDY_YAML_BYTES") + 1)
    except FileNotFoundError:
        near = _near_file(path)
        raise InputError(f"{path}: no such file{near}") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder, expected a YAML file") from None
    except (OSError, ValueError) as error:  # A name with a NUL character is no name.
        why = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{path}: cannot be read: {why}") from error
    if len(content) > limit("MGSTUDY_YAML_BYTES"):
        raise InputError(f"{path}: {more_than('MGSTUDY_YAML_BYTES', 'bytes')}")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start}): save it as UTF-8") from None


class YamlReader:
    """Reads one YAML text. ruamel.yaml makes its nodes, and of these nothing is constructed but
    plain values, so that no text can run code.

    Args:
        source: How messages name the text.
        numbered: Whether they add the line.

    Attributes:
        places: Location of each value read to where it was written.
    """

    def __init__(self, source: str, numbered: bool = True) -> None:
        self.places: dict[Location, str] = {}
        self._source, self._numbered = source, numbered
        self._deepest, self._most = limit("MGSTUDY_YAML_DEPTH"), limit("MGSTUDY_YAML_VALUES")
        self._built = 0
        self._yaml = YAML(typ="safe", pure=True)
        self._yaml.max_depth = self._deepest
        self._yaml.composer.warn_double_anchors = False

    def read(self, text: str, location: Location = ()) -> Any:
        """The data of ``text``, which stands at ``location`` in a document; ``None`` for no text.

        Raises:
            InputError: If it is not YAML 1.2, repeats a key, has a key that is not text or a value
                that is not what its form says, or goes beyond a limit.
        """
        try:
            root = self._compose(text)
            return None if root is None else self._build(root, location)
        except RecursionError:  # The limit was set beyond what Python can do.
            raise InputError(f"{self._source}: {_too_deep()}") from None

    def _compose(self, text: str) -> Node | None:
        def line(position: int) -> int:
            return text.count("\n", 0, position)

        version = re.search(r"^%YAML(?!\s+1\.2\s*$).*", text, re.MULTILINE)
        if version:
            raise self._error(line(version.start()), f"{version[0]!r}: only YAML 1.2 is read")
        try:
            root: Node | None = self._yaml.compose(text)
            return root
        except MaxDepthExceededError as error:
            raise self._error(error.problem_mark.line, _too_deep()) from None
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            raise self._error(mark.line, f"not valid YAML: {error.problem}") from error
        except ReaderError as error:
            message = f"not valid YAML: unacceptable character #x{error.character:04x}"
            raise self._error(line(error.position), message) from error
        except (OverflowError, ValueError) as error:
            escape = re.search(r"\\U(?!0010|000)[0-9a-fA-F]{8}", text)
            if escape is None:
                raise
            message = f"not valid YAML: {escape[0]} is no character"
            raise self._error(line(escape.start()), message) from error

    def _build(self, node: Node, location: Location) -> Any:
        line = node.start_mark.line
        self.places.setdefault(location, self._place(line))
        self._built += 1
        if len(location) > self._deepest:
            raise self._too_much(location, _too_deep())
        if self._built > self._most:
            what = "values with those that aliases repeat"
            raise self._too_much(location, more_than("MGSTUDY_YAML_VALUES", what))
        if isinstance(node, ScalarNode):
            return self._scalar(node, location)
        if isinstance(node, MappingNode) and node.tag == f"{_TAG}map":
            return self._mapping(node, location)
        if isinstance(node, SequenceNode) and node.tag == f"{_TAG}seq":
            items = enumerate(node.value)
            return [self._build(item, (*location, position)) for position, item in items]
        raise self._unknown_tag(node, location)

    def _too_much(self, location: Location, message: str) -> InputError:
        # Where aliases lead to is not where they stand: the nearest to the top is.
        steps = (location[: length + 1] for length in range(len(location)))
        top = next(place for place in steps if place in self.places)
        return located_error(self.places[top], top, message)

    def _mapping(self, node: MappingNode, location: Location) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        merged: list[Any] = []
        for key_node, value_node in node.value:
            line = key_node.start_mark.line
            if key_node.tag == f"{_TAG}merge":
                found = self._build(value_node, (*location, "<<"))
                merged += found if isinstance(found, list) else [found]
                if not all(isinstance(part, dict) for part in merged):
                    raise self._error(line, "`<<` takes a mapping or a list of mappings")
                continue
            if not isinstance(key_node, ScalarNode):
                raise self._error(line, f"a key is a {key_node.id}, expected text", location)
            key = self._scalar(key_node, location)
            if not isinstance(key, str):
                message = f"key {key!r} is a {kind(key)}, expected text; put it in quotes"
                raise self._error(line, message)
            if key in mapping:
                raise self._error(line, "given twice; keep one", (*location, key))
            self.places[*location, key] = self._place(line)
            mapping[key] = self._build(value_node, (*location, key))
        for part in merged:
            # What the mapping says itself, and what is merged first, holds.
            mapping = {**part, **mapping}
        return mapping

    def _scalar(self, node: ScalarNode, location: Location) -> Any:
        line, text = node.start_mark.line, node.value
        if node.tag in _TEXT:
            return text
        if node.tag not in _FORMS:
            raise self._unknown_tag(node, location)
        try:
            value: Any = self._yaml.constructor.construct_object(node)
            problem = _unusable(value)
        except (IndexError, KeyError, ValueError, MarkedYAMLError):
            problem = f"is not {_FORMS[node.tag]}"
        if problem:
            advice = "put it in quotes if it is text"
            raise self._error(line, f"{shortened(text)!r} {problem}; {advice}", location)
        return value

    def _unknown_tag(self, node: Node, location: Location) -> InputError:
        tag = str(node.tag).replace(_TAG, "!!")
        return self._error(node.start_mark.line, f"the tag {tag} is unknown", location)

    def _place(self, line: int) -> str:
        return f"{self._source}:{line + 1}" if self._numbered else self._source

    def _error(self, line: int, message: str, location: Location = ()) -> InputError:
        return located_error(self._place(line), location, message)


def yaml_text(data: Any) -> str:
    """Plain data written as YAML, which reads back as the same data."""
    yaml, stream = YAML(typ="safe", pure=True), io.StringIO()
    yaml.default_flow_style = False
    yaml.width = 2**31  # Folded, some texts come back with other spaces.
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.dump(data, stream)
    return stream.getvalue()


def located_error(place: str, location: Location, message: str) -> InputError:
    """An ``InputError`` that names the place and the dotted name of a value."""
    name = ".".join(str(step) for step in location)
    return InputError(redacted(f"{place}: {name + ': ' if name else ''}{message}"))


def kind(value: object) -> str:
    """What YAML calls the type of a value."""
    names = {
        dict: "mapping",
        list: "list",
        str: "text",
        bool: "true/false value",
        int: "number",
        float: "number",
        type(None): "null",
    }
    return names.get(type(value), type(value).__name__)


def shortened(text: str) -> str:
    """A text, or its beginning where it is longer than a message should be."""
    return text if len(text) <= 60 else f"{text[:57]}..."


def _unusable(value: Any) -> str:
    """Why no setting can have this value; raises ``ValueError`` for half a character."""
    if isinstance(value, str):
        value.encode()
        return "holds a NUL character" if "\0" in value else ""
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return "is a whole number of more than 64 bits"  # No array and no database takes it.
    if isinstance(value, float):
        return "" if math.isfinite(value) else "is not a finite number"
    return "is a date, which nothing takes here" if isinstance(value, date) else ""


def _near_file(path: Path) -> str:
    if not path.parent.is_dir():
        return ""
    names = [str(other) for other in path.parent.iterdir() if other.suffix in {".yaml", ".yml"}]
    near = difflib.get_close_matches(str(path), names, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _too_deep() -> str:
    most = more_than("MGSTUDY_YAML_DEPTH", "levels")
    return f"nested too deeply, or an alias inside its own anchor ({most})"
