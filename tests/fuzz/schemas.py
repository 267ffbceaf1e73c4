"""Values for every place that a JSON Schema of study or pipeline files describes."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

Place = tuple[Any, ...]


def leaves(schema: Mapping[str, Any]) -> list[tuple[Place, Mapping[str, Any]]]:
    """Every place that a schema describes, with the schema of its value; the first entry of lists,
    one key of mappings that may have any."""
    return list(_leaves(schema, schema, (), ()))


def _leaves(
    root: Mapping[str, Any], schema: Mapping[str, Any], place: Place, seen: tuple[str, ...]
) -> Iterator[tuple[Place, Mapping[str, Any]]]:
    schema, seen = _resolved(root, schema, seen)
    if schema is None or len(place) > 8:
        return
    yield place, schema
    for branch in _branches(schema):
        yield from (found for found in _leaves(root, branch, place, seen) if found[0] != place)
    for name, inner in schema.get("properties", {}).items():
        yield from _leaves(root, inner, (*place, name), seen)
    if isinstance(schema.get("items"), Mapping):
        yield from _leaves(root, schema["items"], (*place, 0), seen)
    for inner in [
        *schema.get("patternProperties", {}).values(),
        schema.get("additionalProperties"),
    ]:
        if isinstance(inner, Mapping):
            yield from _leaves(root, inner, (*place, "image"), seen)


def example(root: Mapping[str, Any], schema: Mapping[str, Any], draw: random.Random) -> Any:
    """A value that a schema allows, at the ends of what it allows where there are ends."""
    schema = _resolved(root, schema, ())[0] or {}
    if branches := _branches(schema):
        return example(root, draw.choice(branches), draw)
    if "const" in schema or "enum" in schema:
        return draw.choice(schema.get("enum") or [schema["const"]])
    kind = schema.get("type")
    if kind in ("integer", "number"):
        low = schema.get("minimum", schema.get("exclusiveMinimum", 0))
        high = schema.get("maximum", schema.get("exclusiveMaximum", low + 100))
        number = draw.choice([low, high, low + 1, (low + high) / 2])
        return int(number) if kind == "integer" else number
    if kind == "array":
        return [
            example(root, schema.get("items") or {}, draw) for _ in range(draw.choice([0, 1, 2]))
        ]
    if kind == "object":
        wanted = schema.get("required", ())
        return {
            name: example(root, inner, draw)
            for name, inner in schema.get("properties", {}).items()
            if name in wanted or draw.random() < 0.2
        }
    return {"boolean": True, "null": None}.get(kind, "a")


def _branches(schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [*schema.get("anyOf", ()), *schema.get("oneOf", ())]


def _resolved(
    root: Mapping[str, Any], schema: Mapping[str, Any], seen: tuple[str, ...]
) -> tuple[Mapping[str, Any] | None, tuple[str, ...]]:
    reference = schema.get("$ref")
    if reference is None:
        return schema, seen
    if reference in seen:  # A schema inside itself.
        return None, seen
    return root["$defs"][reference.rpartition("/")[2]], (*seen, reference)
