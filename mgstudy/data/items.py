"""The items of a dataset as an encoder sees them: what they are called, and their records."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from mgstudy.data.sources.base import Source
from mgstudy.errors import InputError
from mgstudy.files import Progress


@dataclass(frozen=True)
class Items:
    """The items that features are made for.

    Attributes:
        count: Items, with ids from 0.
        keys: What the raw data calls them, by id; ``None`` where it counts them from 0 itself.
        source: Where their records come from.
        progress: Told what is being done.
    """

    count: int
    keys: pa.Array | None
    source: Source
    progress: Progress

    def ids(self) -> dict[str, int]:
        """Id of each item by what the raw data calls it."""
        keys = map(str, range(self.count)) if self.keys is None else self.keys.to_pylist()
        return {key: item for item, key in enumerate(keys)}

    def name(self, item: int) -> str:
        """What the raw data calls an item."""
        return str(item) if self.keys is None else str(self.keys[item].as_py())

    def records(self, fields: Collection[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Id and the asked-for fields of every item that has a record, in the order of the file.

        Raises:
            InputError: If the source has no records, an item has two, or no item has a field.
        """
        ids = self.ids()
        seen: set[int] = set()
        never = set(fields)
        for place, key, record in self.source.item_records(fields, ids):
            item = ids.get(key)
            if item is None:
                continue
            if item in seen:
                if self.source.duplicate_items == "error":
                    raise InputError(
                        f"{place}: item {key!r} has a record already; set source.duplicate_items "
                        "to first or last to say which counts"
                    )
                if self.source.duplicate_items == "first":
                    continue
            seen.add(item)
            if never:
                never = {name for name in never if record.get(name) in (None, "", [])}
            yield item, record
        if never and seen:
            raise InputError(
                f"{self.source.item_origin()}: no item has the field {min(never)!r}; known fields: "
                f"{', '.join(self.source.item_fields()) or 'none'}"
            )
