"""Categories and numbers of the items' records as columns."""

from __future__ import annotations

import math
import re
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import model_validator

from mgstudy.config.parameters import parameter
from mgstudy.data.encoder import Encoded, Encoder, EncoderParameters, Items
from mgstudy.data.sentences import as_text
from mgstudy.errors import InputError

_NUMBER = re.compile(
    r"[$€£]?\s*[+-]?(?=\.?\d)(\d{1,3}(,\d{3})+|\d*)(\.\d*)?([eE][+-]?\d+)?", re.ASCII
)


class Table(Encoder):
    """Multi-hot columns of the items' categories, and scaled columns of their numbers.

    A number is scaled to mean 0 and deviation 1 over the items that have it; where it is missing it
    is 0, the mean. The columns are those of `multi_hot` in order, each with its values sorted, then
    those of `scaled`.
    """

    name: ClassVar[str] = "table"
    learns_from_items = True

    class Parameters(EncoderParameters):
        multi_hot: list[str] = parameter([], "fields with one or several categories")
        scaled: list[str] = parameter([], "fields with a number")
        unreadable: Literal["error", "missing"] = parameter(
            "error",
            "what a number is that is none, such as a range of prices: an error, or missing",
        )
        minimum_items: int = parameter(1, "a category of fewer items has no column", ge=1)

        @model_validator(mode="after")
        def _some_fields(self) -> Table.Parameters:
            if not self.multi_hot and not self.scaled:
                raise ValueError("expected fields under multi_hot or scaled")
            return self

    parameters: Parameters

    def encode(self, items: Items) -> Encoded:
        settings = self.parameters
        categories: dict[str, dict[int, set[str]]] = {name: {} for name in settings.multi_hot}
        numbers = np.full((items.count, len(settings.scaled)), np.nan)
        known = np.zeros(items.count, dtype=np.bool_)
        for item, record in items.records([*settings.multi_hot, *settings.scaled]):
            for name, values in categories.items():
                values[item] = as_categories(record.get(name))
                known[item] |= bool(values[item])
            for column, name in enumerate(settings.scaled):
                value = record.get(name)
                number = as_number(value)
                if number is None and settings.unreadable == "error":
                    raise InputError(
                        f"{items.source.item_origin()}: {name} of item {items.name(item)!r} is "
                        f"{value!r}, expected a number; set unreadable: missing to pass over such"
                    )
                numbers[item, column] = math.nan if number is None else number
            known[item] |= bool(np.isfinite(numbers[item]).any())
        blocks = []
        for name, values in categories.items():
            blocks.append(_multi_hot(values, items, settings.minimum_items, name))
        blocks.append(_scaled(numbers))
        table = np.concatenate(blocks, axis=1)
        return Encoded(table, known, lambda row, column: f"table of item {items.name(row)!r}")


def as_categories(value: Any) -> set[str]:
    """The categories in a field, whether it holds one, several, or lists of them."""
    if isinstance(value, list | tuple):
        return set().union(*map(as_categories, value)) if value else set()
    text = as_text(value)
    return {text} if text else set()


def _multi_hot(
    values: dict[int, set[str]], items: Items, minimum_items: int, name: str
) -> np.ndarray[Any, np.dtype[np.float32]]:
    counts: dict[str, int] = {}
    for present in values.values():
        for category in present:
            counts[category] = counts.get(category, 0) + 1
    kept = sorted(category for category, count in counts.items() if count >= minimum_items)
    if not kept:
        raise InputError(
            f"{items.source.item_origin()}: the field {name!r} has no category of "
            f"{minimum_items} items or more; set fewer in minimum_items"
        )
    columns = {category: column for column, category in enumerate(kept)}
    block = items.table(len(kept))
    for item, present in values.items():
        block[item, [columns[category] for category in present if category in columns]] = 1
    return block


def _scaled(numbers: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, Any]:
    """Columns with mean 0 and deviation 1, or all 0 where all are the same."""
    present = np.isfinite(numbers)
    count = np.maximum(1, present.sum(axis=0))
    filled = np.where(present, numbers, 0)
    centred = np.where(present, numbers - filled.sum(axis=0) / count, 0)
    deviation = np.sqrt((centred**2).sum(axis=0) / count)
    return (centred / np.where(deviation > 0, deviation, 1)).astype(np.float32)


def as_number(value: Any) -> float | None:
    """A field's value as a number, NaN where there is none; ``None`` if it is no number.

    Text may have a sign of a currency before it and commas between thousands; another comma, as in
    ``12,99``, makes it no number.
    """
    if value is None or value == "":
        return math.nan
    if isinstance(value, bool) or not _NUMBER.fullmatch(text := str(value).strip()):
        return None
    number = float(text.lstrip("$€£ ").replace(",", ""))
    # What float32 does not hold has no deviation that float64 holds.
    return number if abs(number) <= float(np.finfo(np.float32).max) else None
