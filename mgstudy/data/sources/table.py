"""Plain tables with named columns: CSV, TSV or Parquet."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from mgstudy.config.parameters import parameter
from mgstudy.data.interactions import RawInteractions
from mgstudy.data.logs import ITEM, RATING, TIME, USER, interactions_of
from mgstudy.data.reading import Malformed
from mgstudy.data.records import Column, Unit, read_delimited, read_header
from mgstudy.data.sources.base import LogParameters, RawPath, Recipe, Source
from mgstudy.data.sources.tabular import delimited_items
from mgstudy.errors import InputError


class Table(Source):
    """CSV, TSV or Parquet files with named columns, one of interactions and one of items."""

    name: ClassVar[str] = "table"

    class Parameters(LogParameters):
        interactions: RawPath = parameter(..., "file of the interactions")
        user: str = parameter("user", "column of the users")
        item: str = parameter("item", "column of the items, in both files")
        rating: str | None = parameter(None, "column of the ratings")
        timestamp: str | None = parameter(None, "column of the times")
        timestamp_unit: Unit = parameter("seconds", "of the times")
        items: RawPath | None = parameter(None, "file of the items' fields")
        delimiter: str | None = parameter(
            None,
            "between fields; by default a comma, or a tab in *.tsv",
            min_length=1,
        )
        list_separator: str | None = parameter(
            None, "between the values of an item's field that holds several, such as `|`"
        )

    parameters: Parameters

    def interactions_recipe(self) -> Recipe:
        names = {"user", "item", "rating", "timestamp", "timestamp_unit", "malformed_share"}
        settings = self.parameters.model_dump(include={*names, "delimiter"})
        return Recipe(settings, {"interactions": self.parameters.interactions})

    def interactions(self) -> RawInteractions:
        settings, path = self.parameters, self.parameters.interactions
        names = {USER: settings.user, ITEM: settings.item}
        if settings.rating is not None:
            names[RATING] = settings.rating
        if settings.timestamp is not None:
            names[TIME] = settings.timestamp
        in_seconds = settings.timestamp_unit == "seconds"
        types = {USER: Column(), ITEM: Column(), RATING: Column(pa.float64())}
        types[TIME] = Column(pa.float64(), is_time=in_seconds)
        columns = {name: types[role] for role, name in names.items()}
        malformed = Malformed(path, settings.malformed_share)
        if path.suffix == ".parquet":
            tables = parquet_tables(path, columns)
        else:
            tables = read_delimited(malformed, columns, self.progress, self._delimiter(path))
        return interactions_of(tables, names, malformed, settings.timestamp_unit)

    def item_recipe(self) -> Recipe:
        names = {"item", "duplicate_items", "malformed_share", "delimiter", "list_separator"}
        path = self.parameters.items
        settings = self.parameters.model_dump(include=names)
        return Recipe(settings, {"items": path} if path else {})

    def item_fields(self) -> list[str]:
        path = self.parameters.items
        if path is None:
            return []
        if path.suffix == ".parquet":
            return list(_parquet_schema(path).names)
        return read_header(path, self.progress, self._delimiter(path), "utf-8")

    def item_records(
        self, fields: Collection[str], wanted: Collection[str]
    ) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        path, key = self.parameters.items, self.parameters.item
        if path is None:
            yield from super().item_records(fields, wanted)
            return
        names = self.item_fields()
        if key not in names:
            raise InputError(f"{path}: no column {key!r}; it has {', '.join(names)}")
        if path.suffix == ".parquet":
            records = _parquet_items(path, key, [key, *(set(fields) & set(names))], wanted)
        else:
            records = delimited_items(
                path,
                key,
                names,
                fields,
                wanted,
                self.progress,
                self._delimiter(path),
                malformed_share=self.parameters.malformed_share,
            )
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

    def _delimiter(self, path: Path) -> str:
        return self.parameters.delimiter or ("\t" if ".tsv" in path.suffixes else ",")


def parquet_tables(path: Path, columns: Mapping[str, Column]) -> Iterator[pa.Table]:
    """The columns of a Parquet file, a row group at a time.

    Raises:
        InputError: If a column is missing, or a value is; names the row.
    """
    names = _parquet_schema(path).names
    for name in columns:
        if name not in names:
            raise InputError(f"{path}: no column {name!r}; it has {', '.join(names)}")
    file = pyarrow.parquet.ParquetFile(path)
    first = 0
    for group in range(file.num_row_groups):
        table = file.read_row_group(group, columns=list(columns))
        try:
            table = pa.table({name: table[name].cast(columns[name].type) for name in columns})
        except pa.ArrowInvalid as error:
            raise InputError(f"{path}: row group {group}: {error}") from error
        for name, column in columns.items():
            if not column.is_plausible(table[name]):
                for row, value in enumerate(table[name].to_pylist()):
                    if fault := column.fault(name, value):
                        raise InputError(f"{path}: row {first + row}: {fault}")
        first += table.num_rows
        yield table


def _parquet_schema(path: Path) -> pa.Schema:
    try:
        return pyarrow.parquet.read_schema(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: cannot be read as Parquet: {error}") from error


def _parquet_items(
    path: Path, key: str, names: list[str], wanted: Collection[str]
) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    file = pyarrow.parquet.ParquetFile(path)
    row = 0
    for batch in file.iter_batches(columns=names):
        keys = pc.cast(batch.column(batch.schema.get_field_index(key)), pa.string()).to_pylist()
        for item, record in zip(keys, batch.to_pylist(), strict=True):
            if item in wanted:
                yield f"{path}: row {row}", item, record
            row += 1
