"""One text per item, joined from the fields of its record by a template."""

from __future__ import annotations

import string
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator

from mgstudy.data.encoder import Items


def _checked(template: str) -> str:
    if not template_fields(template):
        raise ValueError(f"{template!r} names no field; expected such as '{{title}} {{brand}}'")
    return template


def template_fields(template: str) -> list[str]:
    """The fields that a template names.

    Raises:
        ValueError: If its braces are not balanced, or it asks for more than a field's value.
    """
    fields = []
    for _, name, specification, conversion in string.Formatter().parse(template):
        if name is None:
            continue
        if not name.isidentifier() or specification or conversion:
            raise ValueError(f"{{{name}}} is not the name of a field")
        fields.append(name)
    return list(dict.fromkeys(fields))


Template = Annotated[str, AfterValidator(_checked)]
"""Text with fields of an item's record in braces, as ``"{title} {brand}"``."""


def read_sentences(items: Items, template: str) -> tuple[list[str], NDArray[np.bool_]]:
    """The text of every item, and whether it has one.

    Values of a list are joined by spaces and line breaks become spaces, as in the published
    pipelines. An item without a record, or whose record has none of the fields, has no text.
    """
    fields = template_fields(template)
    sentences = [""] * items.count
    known = np.zeros(items.count, dtype=np.bool_)
    for item, record in items.records(fields):
        values = {name: as_text(record.get(name)) for name in fields}
        sentences[item] = template.format_map(values)
        known[item] = any(values.values())
    return sentences, known


def as_text(value: Any) -> str:
    """A field's value as text on one line."""
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return " ".join(filter(None, map(as_text, value)))
    if isinstance(value, Mapping):
        return " ".join(f"{name} {as_text(inner)}" for name, inner in value.items())
    return " ".join(str(value).split())
