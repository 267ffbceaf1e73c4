"""How interactions and feature tables lie in Parquet.

The schema's metadata says what a file is and what it was made from;
``pyarrow.parquet.read_schema`` alone shows it.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet
from numpy.typing import NDArray

from mgstudy.data.dataset import Interactions
from mgstudy.data.interactions import SPLITS, RawInteractions
from mgstudy.data.tables import (
    FORMAT,
    TableContent,
    read_as_written,
    read_facts,
    to_schema_metadata,
)
from mgstudy.environment import package_versions
from mgstudy.errors import InputError

_ROW_GROUP_BYTES = 32 << 20
_INTERACTIONS_PER_ROW_GROUP = 1 << 20


def library_versions() -> dict[str, str]:
    """Versions of what reads, makes and writes tables."""
    return {"python": platform.python_version()} | package_versions(("mgstudy", "numpy", "pyarrow"))


def interactions_content(raw: RawInteractions, facts: Mapping[str, Any]) -> TableContent:
    """Interactions as a table with the columns ``user``, ``item`` and ``split``, and with
    ``rating`` and ``timestamp`` where the raw data has them.

    Args:
        raw: The interactions, in the order they are to have.
        facts: What the metadata is to say, beyond format and versions.
    """
    columns = {
        "user": raw.users,
        "item": raw.items,
        "split": pa.DictionaryArray.from_arrays(raw.splits, SPLITS),
        "rating": raw.ratings,
        "timestamp": raw.timestamps,
    }
    present = {name: values for name, values in columns.items() if values is not None}
    return _columns_content("interactions", present, facts)


def read_interactions(path: Path) -> dict[str, Interactions]:
    """The interactions of every split of a table, in its order, as read-only arrays; with times and
    ratings where it has them."""
    columns = {"user": "users", "item": "items", "timestamp": "times", "rating": "ratings"}
    kinds = {"user": pa.int64(), "item": pa.int64(), "split": pa.string()}
    kinds |= {"timestamp": pa.int64(), "rating": pa.float64()}
    table = _read_table(path, kinds, optional=("timestamp", "rating"))
    present = [name for name in columns if name in table.column_names]
    splits: dict[str, Interactions] = {}
    for name in SPLITS:
        rows = table.filter(pyarrow.compute.equal(table.column("split"), name))
        splits[name] = Interactions(
            **{columns[column]: _read_only(rows.column(column).to_numpy()) for column in present}
        )
    return splits


def ids_content(keys: pa.Array, facts: Mapping[str, Any]) -> TableContent:
    """What the raw data calls each user or item, as a table with the columns ``id`` and ``key``."""
    return _columns_content("ids", {"id": np.arange(len(keys)), "key": keys}, facts)


def read_ids(path: Path) -> pa.Array:
    """What the raw data calls each user or item, by id."""
    return _read_table(path, {"key": pa.string()}).column(0).combine_chunks()


def texts_content(texts: Sequence[str], facts: Mapping[str, Any]) -> TableContent:
    """A text of each item, as a table with the columns ``item`` and ``text``."""
    return _columns_content("texts", {"item": np.arange(len(texts)), "text": texts}, facts)


def read_texts(path: Path) -> tuple[str, ...]:
    """A text of each item, by id."""
    return tuple(_read_table(path, {"text": pa.string()}).column(0).to_pylist())


def features_content(
    table: NDArray[np.floating[Any]],
    facts: Mapping[str, Any],
    place: Callable[[int, int], str],
    known: NDArray[np.bool_] | None = None,
    filled: bool = False,
) -> TableContent:
    """A modality's features as a table with the columns ``item`` and ``feature``, row = item id.

    A feature row is a fixed-size list of float32, without a dictionary; its bytes are stored by
    significance and lightly compressed, which is smaller than the plain values and faster to read.

    Args:
        table: Shape ``[items, width]``; another precision is converted to float32.
        facts: What the metadata is to say, beyond format and versions.
        place: How a message names a value, given row and column.
        known: Whether each item is known; it becomes the column ``known``.
        filled: Whether the rows of unknown items are filled already; they are zero otherwise.

    Raises:
        InputError: While the rows are taken, if a value is NaN, infinite or beyond float32.
    """
    item_count, width = table.shape
    feature = pa.list_(pa.field("element", pa.float32(), nullable=False), width)
    schema = pa.schema(
        [
            pa.field("item", pa.int64(), nullable=False),
            pa.field("feature", feature, nullable=False),
            *([] if known is None else [pa.field("known", pa.bool_(), nullable=False)]),
        ],
        metadata=_metadata("features", {**facts, "shape": [item_count, width], "dtype": "float32"}),
    )

    def batches() -> Iterator[pa.RecordBatch]:
        for rows in _slices(item_count, max(1, _ROW_GROUP_BYTES // (4 * width))):
            block = table[rows]
            if known is not None and not filled:
                block = np.where(known[rows, None], block, 0)
            values = _finite_float32(block, rows.start, place)
            lists = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), type=feature)
            items = np.arange(rows.start, rows.start + len(values))
            columns = [items, lists] if known is None else [items, lists, known[rows]]
            yield pa.record_batch(columns, schema=schema)

    encoding = {
        "compression": "zstd",
        "compression_level": 1,
        "use_dictionary": False,
        "use_byte_stream_split": ["feature.list.element"],
        "write_statistics": ["item"],
    }
    return TableContent(schema, batches(), item_count, encoding)


def read_features(path: Path) -> NDArray[np.float32]:
    """A feature table as one read-only float32 array of shape ``[items, width]``.

    Raises:
        InputError: If it is of another format, or not as it was written.
    """
    read_facts(path)  # Refuses a table of another format.
    with read_as_written(path), pyarrow.parquet.ParquetFile(path) as file:
        kind = file.schema_arrow.field("feature").type
        if not pa.types.is_fixed_size_list(kind) or kind.value_type != pa.float32():
            raise InputError(f"its features are {kind}")
        table = np.empty((file.metadata.num_rows, kind.list_size), dtype=np.float32)
        done = 0
        for group in range(file.num_row_groups):
            for chunk in file.read_row_group(group, columns=["feature"]).column(0).chunks:
                values = chunk.flatten().to_numpy().reshape(-1, kind.list_size)
                table[done : done + len(chunk)] = _finite_float32(values, done, _named_by_place)
                done += len(chunk)
        if done != len(table):
            raise InputError(f"has {done} of its {len(table)} rows")
    return _read_only(table)


def read_known(path: Path) -> NDArray[np.bool_] | None:
    """Whether each item of a table is known, where it has the column ``known``."""
    table = _read_table(path, {"known": pa.bool_()}, optional=("known",))
    if not table.column_names:
        return None
    return np.asarray(table.column(0).to_numpy(), dtype=np.bool_)


def _named_by_place(row: int, column: int) -> str:
    return f"row {row}, column {column}"


def _read_table(
    path: Path, kinds: Mapping[str, pa.DataType], optional: Collection[str] = ()
) -> pa.Table:
    """Columns of a table by name, each of the type that is written and with a value in every row;
    the optional ones where the table has them."""
    read_facts(path)  # Refuses a table of another format.
    with read_as_written(path), pyarrow.parquet.ParquetFile(path) as file:
        there = file.schema_arrow.names
        asked = [name for name in kinds if name in there or name not in optional]
        table = file.read(asked)
        table.validate(full=True)
        for name in asked:
            column = table.column(name)
            if column.type != kinds[name] or column.null_count:
                lacks = f" and {column.null_count} gaps" if column.null_count else ""
                raise InputError(
                    f"column {name!r} holds {column.type}{lacks}, expected {kinds[name]}"
                )
    return table


def _columns_content(
    content: str, columns: Mapping[str, Any], facts: Mapping[str, Any]
) -> TableContent:
    """Columns of one length as a table; text given by codes is written as text."""
    arrays = {name: pa.array(values) for name, values in columns.items()}
    types = {name: getattr(array.type, "value_type", array.type) for name, array in arrays.items()}
    schema = pa.schema(
        [pa.field(name, kind, nullable=False) for name, kind in types.items()],
        metadata=_metadata(content, facts),
    )
    length = len(next(iter(arrays.values())))

    def batches() -> Iterator[pa.RecordBatch]:
        for rows in _slices(length, _INTERACTIONS_PER_ROW_GROUP):
            taken = [array[rows].cast(types[name]) for name, array in arrays.items()]
            yield pa.record_batch(taken, schema=schema)

    return TableContent(schema, batches(), length, {"compression": "zstd"})


def _metadata(content: str, facts: Mapping[str, Any]) -> dict[str, str]:
    return to_schema_metadata(
        {
            **facts,
            "format_version": FORMAT,
            "content": content,
            "versions": library_versions(),
        }
    )


def _finite_float32(
    values: NDArray[np.floating[Any]], first_row: int, place: Callable[[int, int], str]
) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        converted = np.ascontiguousarray(values, dtype=np.float32)
    finite = np.isfinite(converted)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        value = float(values[row, column])
        fault = f"{value:g} is beyond float32" if np.isfinite(value) else f"is {value:g}"
        raise InputError(
            f"{place(first_row + int(row), int(column))}: {fault}; features must be finite"
        )
    return converted


def _slices(length: int, size: int) -> Iterator[slice]:
    for start in range(0, length, size):
        yield slice(start, min(length, start + size))


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    array.setflags(write=False)
    return array
