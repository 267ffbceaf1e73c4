"""Vectors that somebody else computed: images of the Amazon datasets, audio, and whatever else."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import model_validator

from mgstudy.config.parameters import parameter
from mgstudy.data.encoder import Encoded, Encoder, EncoderParameters, Items
from mgstudy.data.reading import open_stream
from mgstudy.data.sources.base import DuplicateItems, RawPath, Recipe
from mgstudy.data.sources.binary import open_array, open_parquet, parquet_text
from mgstudy.errors import InputError

AMAZON_KEY_BYTES = 10
_RECORDS_AT_ONCE = 256
Format = Literal["amazon", "npy", "parquet"]
_SUFFIXES: dict[str, Format] = {".b": "amazon", ".npy": "npy", ".parquet": "parquet"}


class Precomputed(Encoder):
    """Vectors from a file: Amazon's binary, a `.npy` array or Parquet.

    Amazon's binary is a sequence of records of a 10-byte ASIN and 4096 float32 values, and is
    streamed. A `.npy` array has a row per item: the one named in the same row of the text file
    `row_keys`, or the item whose raw id is the row plus `first_key`. Parquet has a column of keys
    and one of lists. Vectors of items that the dataset does not have are passed over.
    """

    name: ClassVar[str] = "precomputed"
    version: ClassVar[int] = 3
    keeps_unfilled: ClassVar[bool] = False
    reads_records = False

    class Parameters(EncoderParameters):
        file: RawPath = parameter(
            ..., "file of the vectors; *.b, also as *.b.gz, *.npy or *.parquet"
        )
        format: Format | None = parameter(None, "by default told by the file's name")
        width: int = parameter(4096, "values of a record in Amazon's binary", ge=1, le=1 << 20)
        row_keys: RawPath | None = parameter(
            None, "text file with the raw item id of each row of a .npy array, one a line"
        )
        first_key: int = parameter(
            0, "raw id of the item in the first row of a .npy array without `row_keys`"
        )
        key_column: str = parameter("item", "column of a Parquet file with the raw item ids")
        vector_column: str = parameter("feature", "column of a Parquet file with the vectors")
        duplicates: DuplicateItems = parameter(
            "error",
            "what to do about an item with two vectors; the published pipelines take the last",
        )

        @model_validator(mode="after")
        def _known_format(self) -> Precomputed.Parameters:
            if self.format is None and not set(self.file.suffixes) & set(_SUFFIXES):
                raise ValueError(
                    f"{self.file.name} ends in none of {', '.join(_SUFFIXES)}; say its format"
                )
            return self

    parameters: Parameters

    @property
    def format(self) -> Format:
        """The file's format."""
        if self.parameters.format is not None:
            return self.parameters.format
        return next(
            _SUFFIXES[suffix] for suffix in self.parameters.file.suffixes if suffix in _SUFFIXES
        )

    def recipe(self) -> Recipe:
        settings = self.parameters.model_dump(mode="json", exclude={"file", "row_keys", "missing"})
        files = {"vectors": self.parameters.file}
        if self.parameters.row_keys is not None:
            files["keys"] = self.parameters.row_keys
        return Recipe({**settings, "format": self.format}, files)

    def encode(self, items: Items) -> Encoded:
        if self.format == "npy":
            return self._encode_array(items)
        collected = _Collected(self.parameters.file, items, self.parameters.duplicates)
        if self.format == "amazon":
            self._collect_amazon(collected, items)
        else:
            self._collect_parquet(collected)
        return collected.encoded()

    def _collect_amazon(self, collected: _Collected, items: Items) -> None:
        path, width = self.parameters.file, self.parameters.width
        record = np.dtype([("key", f"S{AMAZON_KEY_BYTES}"), ("vector", "<f4", (width,))])
        collected.start(width)
        number = 0
        with open_stream(path, items.progress) as read:
            while content := read(_RECORDS_AT_ONCE * record.itemsize):
                while len(content) % record.itemsize and (more := read(record.itemsize)):
                    content += more
                if len(content) % record.itemsize:
                    number += len(content) // record.itemsize
                    raise InputError(
                        f"{path}: record {number} (from 0) is cut short: records of "
                        f"{AMAZON_KEY_BYTES} bytes of key and {width} float32 have "
                        f"{record.itemsize:,} bytes, {len(content) % record.itemsize:,} are left "
                        "at the end; download the file again, or set width"
                    )
                block = np.frombuffer(content, dtype=record)
                for key, vector in zip(block["key"].tolist(), block["vector"], strict=True):
                    collected.add(_decoded(key, path, number), vector, number)
                    number += 1

    def _collect_parquet(self, collected: _Collected) -> None:
        path, settings = self.parameters.file, self.parameters
        names = [settings.key_column, settings.vector_column]
        row = 0
        with open_parquet(path, names) as file:
            kind = file.schema_arrow.field(settings.vector_column).type
            value = getattr(kind, "value_type", pa.null())
            if not (pa.types.is_floating(value) or pa.types.is_integer(value)):
                name = settings.vector_column
                raise InputError(f"{path}: column {name!r} is {kind}, expected lists of numbers")
            for batch in file.iter_batches(columns=names, batch_size=_RECORDS_AT_ONCE):
                written = pa.chunked_array([batch.column(settings.key_column)])
                keys = parquet_text(path, settings.key_column, written, row).to_pylist()
                for key, vector in zip(keys, batch.column(settings.vector_column), strict=True):
                    if vector.is_valid and key is not None:
                        values = vector.values.to_numpy(zero_copy_only=False)
                        collected.start(len(values))
                        with np.errstate(over="ignore"):  # What is too large is said to be inf.
                            collected.add(key, values.astype(np.float32), row)
                    row += 1

    def _encode_array(self, items: Items) -> Encoded:
        path, keys_path = self.parameters.file, self.parameters.row_keys
        table = open_array(path)
        if keys_path is None:
            first = self.parameters.first_key
            row_of = {str(row + first): row for row in range(len(table))}
        else:
            try:
                keys = keys_path.read_text(encoding="utf-8-sig").split("\n")
            except (OSError, UnicodeDecodeError) as error:
                raise InputError(f"{keys_path}: cannot be read as UTF-8 text: {error}") from error
            keys = [key.removesuffix("\r") for key in (keys if keys[-1] else keys[:-1])]
            if len(keys) != len(table):
                raise InputError(
                    f"{keys_path}: has {len(keys):,} lines, but {path.name} has {len(table):,} rows"
                )
            row_of = {}
            for row, key in enumerate(keys):
                if key in row_of and self.parameters.duplicates == "error":
                    raise InputError(
                        f"{keys_path}: line {row + 1}: item {key!r} has a row already, line "
                        f"{row_of[key] + 1}; set duplicates to first or last"
                    )
                if key not in row_of or self.parameters.duplicates == "last":
                    row_of[key] = row
        rows = np.array([row_of.get(key, -1) for key in items.ids()], dtype=np.int64)
        known = rows >= 0
        values = items.table(table.shape[1])
        with np.errstate(over="ignore"):
            values[known] = table[rows[known]]
        return Encoded(
            values, known, lambda row, column: f"{path}: row {rows[row]}, column {column}"
        )


class _Collected:
    """The vectors of the wanted items, as they come by."""

    def __init__(self, path: Path, items: Items, duplicates: DuplicateItems) -> None:
        self._path, self._items, self._duplicates = path, items, duplicates
        self._ids = items.ids()
        self._numbers = np.full(items.count, -1, dtype=np.int64)
        self._values: NDArray[np.float32] | None = None

    def start(self, width: int) -> None:
        """Say how wide the vectors are; once is enough."""
        if self._values is None:
            self._values = self._items.table(width)

    def add(self, key: str, vector: NDArray[Any], number: int) -> None:
        """Take the vector of record ``number``, unless its item is not wanted.

        Raises:
            InputError: If it has another width than the others, or its item has one already.
        """
        item = self._ids.get(key)
        if item is None:
            return
        assert self._values is not None, "the width is said first"
        if not len(vector):
            raise InputError(
                f"{self._path}: record {number} (from 0): the vector of item {key!r} has no value"
            )
        if len(vector) != self._values.shape[1]:
            raise InputError(
                f"{self._path}: record {number} (from 0): the vector of item {key!r} has "
                f"{len(vector):,} values, those before have {self._values.shape[1]:,}"
            )
        if self._numbers[item] >= 0:
            if self._duplicates == "error":
                raise InputError(
                    f"{self._path}: record {number} (from 0): item {key!r} has a vector already, "
                    f"record {self._numbers[item]}; set duplicates to first or last"
                )
            if self._duplicates == "first":
                return
        self._values[item] = vector
        self._numbers[item] = number

    def encoded(self) -> Encoded:
        """All of them.

        Raises:
            InputError: If no item has one.
        """
        known = self._numbers >= 0
        if self._values is None or not known.any():
            raise InputError(
                f"{self._path}: holds no vector of the dataset's {self._items.count:,} items, such "
                f"as {self._items.name(0)!r}"
            )
        numbers, path = self._numbers, self._path

        def place(row: int, column: int) -> str:
            return f"{path}: record {numbers[row]} (from 0), column {column}"

        return Encoded(self._values, known, place)


def _decoded(key: bytes, path: Path, number: int) -> str:
    try:
        return key.decode("ascii")
    except UnicodeDecodeError:
        raise InputError(
            f"{path}: record {number} (from 0): {key!r} is no ASIN; is the width of the vectors "
            "what was set?"
        ) from None
