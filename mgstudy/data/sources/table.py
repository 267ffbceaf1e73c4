"""Plain tables with named columns: CSV, TSV or Parquet."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator
from pathlib import Path
from typing import ClassVar

import pyarrow as pa

from mgstudy.config.parameters import parameter
from mgstudy.data.delimited import Dialect, read_delimited, read_header
from mgstudy.data.reading import Malformed
from mgstudy.data.records import Columns
from mgstudy.data.sources.base import RawPath
from mgstudy.data.sources.binary import open_parquet, parquet_records, parquet_tables
from mgstudy.data.sources.logs import ItemRecords, LogColumns, LogParameters, LogSource
from mgstudy.errors import InputError


class Table(LogSource):
    """CSV, TSV or Parquet files with named columns, one of interactions and one of items."""

    name: ClassVar[str] = "table"
    version: ClassVar[int] = 2
    time_type = pa.float64()
    interactions_settings = ("user", "item", "rating", "timestamp", "delimiter")
    items_settings = ("item", "delimiter", "list_separator")

    class Parameters(LogParameters):
        interactions: RawPath = parameter(..., "file of the interactions")
        user: str = parameter("user", "column of the users")
        item: str = parameter("item", "column of the items, in both files")
        rating: str | None = parameter(None, "column of the ratings")
        timestamp: str | None = parameter(None, "column of the times")
        items: RawPath | None = parameter(None, "file of the items' fields")
        delimiter: str | None = parameter(
            None,
            "between fields, which are read as they are where it has several characters and else "
            "may be in double quotes; by default a comma, or a tab in *.tsv",
            pattern=r'^[^"\r\n]+$',
        )
        list_separator: str | None = parameter(
            None,
            'between the values of an item\'s field that holds several, such as `"|"`, which YAML '
            "needs in quotes",
            min_length=1,
        )

    parameters: Parameters

    def logs(self) -> list[Path]:
        return [self.parameters.interactions]

    def items(self) -> Path | None:
        return self.parameters.items

    def columns(self) -> LogColumns:
        settings = self.parameters
        return LogColumns(settings.user, settings.item, settings.rating, settings.timestamp)

    def tables(self, malformed: Malformed, columns: Columns) -> Iterator[pa.Table]:
        if malformed.path.suffix == ".parquet":
            return parquet_tables(malformed.path, columns)
        return read_delimited(malformed, columns, self._dialect(malformed.path), self.progress)

    def item_fields(self) -> list[str]:
        path = self.parameters.items
        if path is None:
            return []
        if path.suffix == ".parquet":
            with open_parquet(path) as file:
                return list(file.schema_arrow.names)
        return list(read_header(path, self._dialect(path), self.progress))

    def records(
        self, malformed: Malformed, fields: Collection[str], wanted: Container[str]
    ) -> ItemRecords:
        path, key = malformed.path, self.parameters.item
        names = self.item_fields()
        if key not in names:
            raise InputError(f"{path}: no column {key!r}; it has {', '.join(names)}")
        present = [name for name in names if name in fields and name != key]
        if path.suffix == ".parquet":
            records: ItemRecords = (
                (f"{path}: row {row}", item, record)
                for row, item, record in parquet_records(path, key, present)
                if item in wanted
            )
        else:
            dialect = self._dialect(path)
            records = self.delimited_records(malformed, dialect, key, present, wanted)
        separator = self.parameters.list_separator
        for place, item, record in records:
            yield (
                place,
                item,
                {
                    name: value.split(separator)
                    if separator and isinstance(value, str) and separator in value
                    else value
                    for name, value in record.items()
                },
            )

    def _dialect(self, path: Path) -> Dialect:
        return Dialect(self.parameters.delimiter or ("\t" if ".tsv" in path.suffixes else ","))
