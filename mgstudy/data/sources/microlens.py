"""MicroLens (Ni et al.): interactions, titles and features of short videos.

https://github.com/westlake-repl/MicroLens. ``MicroLens-50k_pairs.csv`` or
``MicroLens-100k_pairs.csv`` has the columns ``user,item,timestamp`` in milliseconds;
``*_titles.csv`` has ``item,title`` or no header at all. Features that were extracted already are
``.npy`` arrays whose row is the item id less one; the encoder ``precomputed`` reads them with an
offset of 1.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, ClassVar

import pyarrow as pa

from mgstudy.config.parameters import parameter
from mgstudy.data.interactions import RawInteractions
from mgstudy.data.logs import ITEM, TIME, USER, interactions_of
from mgstudy.data.reading import Malformed
from mgstudy.data.records import Column, Unit, read_delimited, read_header
from mgstudy.data.sources.base import LogParameters, RawPath, Recipe, Source
from mgstudy.data.sources.tabular import delimited_items

_TITLES = ["item", "title"]


class MicroLens(Source):
    """MicroLens: `*_pairs.csv` with users, items and times, and `*_titles.csv`."""

    name: ClassVar[str] = "microlens"

    class Parameters(LogParameters):
        pairs: RawPath = parameter(..., "`MicroLens-50k_pairs.csv` or another size's")
        titles: RawPath | None = parameter(None, "`MicroLens-50k_titles.csv` or another size's")
        timestamp_unit: Unit = parameter("milliseconds", "of the timestamps")

    parameters: Parameters

    def interactions_recipe(self) -> Recipe:
        settings = self.parameters.model_dump(include={"malformed_share", "timestamp_unit"})
        return Recipe(settings, {"pairs": self.parameters.pairs})

    def interactions(self) -> RawInteractions:
        unit = self.parameters.timestamp_unit
        malformed = Malformed(self.parameters.pairs, self.parameters.malformed_share)
        names = {USER: "user", ITEM: "item", TIME: "timestamp"}
        types = [Column(), Column(), Column(pa.int64(), is_time=unit == "seconds")]
        columns = dict(zip(names.values(), types, strict=True))
        tables = read_delimited(malformed, columns, self.progress, ",", quoted=False)
        return interactions_of(tables, names, malformed, unit)

    def item_recipe(self) -> Recipe:
        settings = self.parameters.model_dump(include={"malformed_share", "duplicate_items"})
        path = self.parameters.titles
        return Recipe(settings, {"titles": path} if path else {})

    def item_fields(self) -> list[str]:
        return ["title"]

    def item_records(
        self, fields: Collection[str], wanted: Collection[str]
    ) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        path = self.parameters.titles
        if path is None:
            yield from super().item_records(fields, wanted)
            return
        first = read_header(path, self.progress, ",", "utf-8")
        yield from delimited_items(
            path,
            "item",
            _TITLES,
            fields,
            wanted,
            self.progress,
            ",",
            None if first == _TITLES else _TITLES,
            self.parameters.malformed_share,
        )
