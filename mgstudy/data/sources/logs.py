"""Raw logs: what their sources share, and the way from a log's rows to interactions with ids."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mgstudy.config.parameters import ParameterSet, parameter
from mgstudy.data.delimited import Dialect, read_delimited
from mgstudy.data.interactions import SPLITS, UNSPLIT, RawInteractions, StepRecord
from mgstudy.data.reading import Malformed
from mgstudy.data.records import PER_SECOND, TEXT, Column, Columns, Unit, likely_unit
from mgstudy.data.sources.base import DuplicateItems, Recipe, Source
from mgstudy.errors import InputError

ItemRecords = Iterator[tuple[str, str, Mapping[str, Any]]]
"""Of items: place in a file, what the raw data calls the item, and its fields."""

_NOBODY = ("", "nan", "NaN", "None", "null", "NULL", "<NA>", "NA", "N/A", "NaT", "\\N")
"""What pandas, R, JSON and databases write for what is missing."""


class LogColumns(NamedTuple):
    """The names of a log's columns, ``None`` for what it does not have."""

    user: str
    item: str
    rating: str | None = None
    timestamp: str | None = None

    def present(self) -> dict[str, str]:
        """Field to name, of those that the log has."""
        return {field: name for field, name in self._asdict().items() if name is not None}


class LogParameters(ParameterSet):
    """What every source of raw logs can be told."""

    timestamp_unit: Unit = parameter("seconds", "of the times since 1970")
    malformed_share: float = parameter(
        0.0,
        "largest share of the lines that may be malformed, in a file and in its beginnings, looked "
        "at every few megabytes; they are passed over and counted",
        ge=0,
        lt=1,
    )
    duplicate_items: DuplicateItems = parameter(
        "error", "what to do about an item with two records: stop, or take the first or last"
    )
    missing_ids: Literal["error", "keep"] = parameter(
        "error",
        "what to do about users and items called nan, None, NULL, NA or the like, as programs "
        "write that there is none: stop, or keep them as names",
    )


class LogSource(Source):
    """A log of interactions in a file, or one for each split, and its items' records in another."""

    time_type: ClassVar[pa.DataType] = pa.int64()
    interactions_settings: ClassVar[tuple[str, ...]] = ()
    """Parameters that change the interactions, besides those of all logs."""
    items_settings: ClassVar[tuple[str, ...]] = ()
    """Parameters that change the items' records, besides those of all logs."""

    parameters: LogParameters

    def __init__(self, parameters: ParameterSet) -> None:
        super().__init__(parameters)
        self.duplicate_items = self.parameters.duplicate_items

    @abstractmethod
    def logs(self) -> list[Path]:
        """The file of the interactions, or those of training, validation and test."""

    @abstractmethod
    def items(self) -> Path | None:
        """The file of the items' records, if there is one."""

    @abstractmethod
    def columns(self) -> LogColumns:
        """The names of the log's columns."""

    @abstractmethod
    def tables(self, malformed: Malformed, columns: Columns) -> Iterator[pa.Table]:
        """The columns of the log, in tables of some of its rows."""

    @abstractmethod
    def records(
        self, malformed: Malformed, fields: Collection[str], wanted: Container[str]
    ) -> ItemRecords:
        """The records of items of a file; see ``item_records``."""

    def interactions_recipe(self) -> Recipe:
        names = {"malformed_share", "timestamp_unit", *self.interactions_settings}
        if self.parameters.missing_ids == "keep":
            names.add("missing_ids")
        logs = self.logs()
        files = dict(zip(SPLITS, logs, strict=True)) if len(logs) > 1 else {"interactions": logs[0]}
        return Recipe(self.parameters.model_dump(include=names), files)

    def interactions(self) -> RawInteractions:
        unit, names = self.parameters.timestamp_unit, self.columns()
        fields = {name: field for field, name in names.present().items()}
        for field, name in names.present().items():
            if fields[name] != field:
                raise InputError(
                    f"{self.logs()[0]}: column {name!r} is named as {field} and as {fields[name]}; "
                    "a log has a column for each"
                )
        types = (Column(), Column(), Column(pa.float64()), Column(self.time_type, unit=unit))
        columns = {name: kind for name, kind in zip(names, types, strict=True) if name is not None}
        files = [self._malformed(path) for path in self.logs()]
        tables = [self.tables(malformed, columns) for malformed in files]
        found = interactions_of(tables, names, files, unit)
        if self.parameters.missing_ids == "error":
            _refuse_missing_ids(found, names)
        return found

    def item_recipe(self) -> Recipe:
        names = {"malformed_share", "duplicate_items", *self.items_settings}
        path = self.items()
        return Recipe(self.parameters.model_dump(include=names), {"items": path} if path else {})

    def item_records(self, fields: Collection[str], wanted: Container[str]) -> ItemRecords:
        path = self.items()
        if path is None:
            return super().item_records(fields, wanted)
        return self.records(self._malformed(path), fields, wanted)

    def delimited_records(
        self,
        malformed: Malformed,
        dialect: Dialect,
        key: str,
        names: Collection[str],
        wanted: Container[str],
    ) -> ItemRecords:
        """The records of items of delimited text.

        Args:
            malformed: The file, and what becomes of lines that are malformed.
            dialect: How it is written.
            key: The column of what the raw data calls the items.
            names: Other columns that are read.
            wanted: The items that are needed.
        """
        columns = dict.fromkeys(names, Column(required=False)) | {key: Column()}
        row = 0
        for table in read_delimited(malformed, columns, dialect, self.progress):
            for record in table.to_pylist():
                row += 1
                if record[key] in wanted:
                    yield f"{malformed.path}: row {row}", record[key], record

    def _malformed(self, path: Path) -> Malformed:
        return Malformed(path, self.parameters.malformed_share)


def interactions_of(
    logs: Sequence[Iterable[pa.Table]], names: LogColumns, files: Sequence[Malformed], unit: Unit
) -> RawInteractions:
    """Number users and items of a log in order of first appearance.

    Only codes are kept of the names, so that memory grows with the number of different users and
    items and by a few bytes per row.

    Args:
        logs: The rows of all interactions, or of each split.
        names: Of their columns.
        files: Where they are from, and how many lines were passed over.
        unit: Of the times.

    Raises:
        InputError: If a time is implausible in its unit.
    """
    path, columns = files[0].path, names.present()
    chunks: dict[str, list[pa.Array]] = {field: [] for field in columns}
    sizes = [0] * len(logs)
    for position, tables in enumerate(logs):
        for table in tables:
            sizes[position] += table.num_rows
            for field, name in columns.items():
                if field in ("user", "item"):
                    chunks[field].append(table[name].combine_chunks().dictionary_encode())
                else:
                    chunks[field] += table[name].chunks
    codes, keys, numbers = {}, {}, {}
    for field, arrays in chunks.items():
        column = pa.chunked_array(arrays)
        arrays.clear()
        if field in ("user", "item"):
            column = column.unify_dictionaries()
            keys[field] = column.chunk(0).dictionary
            codes[field] = np.concatenate(
                [chunk.indices.to_numpy(zero_copy_only=False) for chunk in column.chunks]
            ).astype(np.int64)
        else:
            numbers[field] = column.to_numpy()
    ratings, times = numbers.get("rating"), numbers.get("timestamp")
    if times is not None and unit != "seconds":
        if (likely := likely_unit(times.max())) != unit:
            raise InputError(
                f"{path}: {names.timestamp} is {times.max()} at most, which looks like {likely}; "
                f"set source.timestamp_unit: {likely}"
            )
        times = times // PER_SECOND[unit]
    rows, passed_over = len(codes["user"]), sum(malformed.count for malformed in files)
    step = StepRecord(
        name=f"read {', '.join(malformed.path.name for malformed in files)}",
        rows_in=rows + passed_over,
        rows_out=rows,
        counts={"malformed lines": passed_over} if passed_over else {},
    )
    return RawInteractions(
        users=codes["user"],
        items=codes["item"],
        splits=np.repeat(range(len(sizes)) if sizes[1:] else UNSPLIT, sizes).astype(np.int8),
        user_count=len(keys["user"]),
        item_count=len(keys["item"]),
        origin=str(path),
        steps=(step,),
        ratings=None if ratings is None else ratings.astype(np.float64),
        timestamps=None if times is None else times.astype(np.int64),
        user_keys=keys["user"],
        item_keys=keys["item"],
    )


def _refuse_missing_ids(found: RawInteractions, names: LogColumns) -> None:
    """Stop where rows without a user or an item would become those of one that is called so."""
    for name, keys, codes in (
        (names.user, found.user_keys, found.users),
        (names.item, found.item_keys, found.items),
    ):
        written = pc.utf8_trim_whitespace(keys)
        called = pc.indices_nonzero(pc.is_in(written, pa.array(_NOBODY, TEXT))).to_numpy()
        if len(called):
            assert keys is not None
            first = keys[int(called[0])].as_py()
            rows = int(np.count_nonzero(codes == called[0]))
            raise InputError(
                f"{found.origin}: {name} is {first!r} in {rows:,} rows, as programs write that "
                "there is none; take them out, or set source.missing_ids: keep if it is a name"
            )
