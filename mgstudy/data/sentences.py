"""One text per item, joined from the fields of its record by a template."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mgstudy.config.pipeline import TextConfig, template_fields
from mgstudy.data.encoder import Items
from mgstudy.errors import InputError


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


def item_texts(items: Items, name: str, settings: TextConfig) -> tuple[list[str], int]:
    """The texts of all items under one name, and how many items have none.

    Raises:
        InputError: If an item has none and ``settings.missing`` does not say what it gets.
    """
    sentences, known = read_sentences(items, settings.template)
    without = np.flatnonzero(~known)
    if len(without) and settings.missing == "error":
        raise InputError(
            f"{items.source.item_origin()}: item {items.name(int(without[0]))!r} has interactions "
            f"but no text {name!r}, as have {len(without):,} of {items.count:,} items; set "
            f"texts.{name}.missing to empty, or mend the file"
        )
    return [text if has else "" for text, has in zip(sentences, known, strict=True)], len(without)


def as_text(value: Any) -> str:
    """A field's value as text on one line."""
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return " ".join(filter(None, map(as_text, value)))
    if isinstance(value, Mapping):
        return " ".join(f"{name} {as_text(inner)}" for name, inner in value.items())
    return " ".join(str(value).split())
