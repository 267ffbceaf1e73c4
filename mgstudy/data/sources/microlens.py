"""MicroLens (Ni et al.): interactions, titles and features of short videos.

https://github.com/westlake-repl/MicroLens. ``MicroLens-50k_pairs.csv`` or
``MicroLens-100k_pairs.csv`` has the columns ``user,item,timestamp`` in milliseconds;
``*_titles.csv`` has ``item,title`` or no header at all. Features that were extracted already are
``.npy`` arrays whose row is the item id less one; the encoder ``precomputed`` reads them with an
offset of 1.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator
from pathlib import Path
from typing import ClassVar

import pyarrow as pa

from mgstudy.config.parameters import parameter
from mgstudy.data.delimited import Dialect, read_delimited, read_header
from mgstudy.data.reading import Malformed
from mgstudy.data.records import Columns, Unit
from mgstudy.data.sources.base import RawPath
from mgstudy.data.sources.logs import ItemRecords, LogColumns, LogParameters, LogSource

_TITLES = ("item", "title")


class MicroLens(LogSource):
    """MicroLens: `*_pairs.csv` with users, items and times, and `*_titles.csv`."""

    name: ClassVar[str] = "microlens"
    version: ClassVar[int] = 2

    class Parameters(LogParameters):
        pairs: RawPath = parameter(..., "`MicroLens-50k_pairs.csv` or another size's")
        titles: RawPath | None = parameter(None, "`MicroLens-50k_titles.csv` or another size's")
        timestamp_unit: Unit = parameter("milliseconds", "of the times since 1970")

    parameters: Parameters

    def logs(self) -> list[Path]:
        return [self.parameters.pairs]

    def items(self) -> Path | None:
        return self.parameters.titles

    def columns(self) -> LogColumns:
        return LogColumns("user", "item", timestamp="timestamp")

    def tables(self, malformed: Malformed, columns: Columns) -> Iterator[pa.Table]:
        return read_delimited(malformed, columns, Dialect(",", quoted=False), self.progress)

    def item_fields(self) -> list[str]:
        return ["title"]

    def records(
        self, malformed: Malformed, fields: Collection[str], wanted: Container[str]
    ) -> ItemRecords:
        first = read_header(malformed.path, Dialect(","), self.progress)
        dialect = Dialect(",", header=None if first == _TITLES else _TITLES)
        return self.delimited_records(malformed, dialect, "item", {"title"} & set(fields), wanted)
