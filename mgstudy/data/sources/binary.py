"""Binary files that others wrote: ``.npy`` arrays of features, and columns of Parquet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from numpy.typing import NDArray

from mgstudy.data.reading import refuse_too_much
from mgstudy.data.records import TEXT, Column, Columns
from mgstudy.errors import InputError
from mgstudy.files import refuse_what_is_no_file

_ARCHIVE_PREFIX = b"PK"
_FLOATS_ARE_EXACT = 2.0**53
_ARROW_UNITS = {"seconds": "s", "milliseconds": "ms", "microseconds": "us", "nanoseconds": "ns"}


def map_array(path: Path) -> NDArray[Any]:
    """Map a ``.npy`` file without reading it.

    Raises:
        InputError: If the file is not one: pickled, or of another size than it says.
    """
    try:
        refuse_what_is_no_file(path)
        with path.open("rb") as file:
            magic = file.read(len(np.lib.format.MAGIC_PREFIX))
        if magic.startswith(_ARCHIVE_PREFIX):
            raise InputError(f"{path}: an archive of several arrays, expected one .npy array")
        if magic != np.lib.format.MAGIC_PREFIX:
            raise InputError(
                f"{path}: not a .npy file (pickles are never loaded); write the array with "
                "numpy.save"
            )
        with np.errstate(over="ignore"):  # A header may promise more than a number holds.
            array: Any = np.load(path, mmap_mode="r", allow_pickle=False)
        size = path.stat().st_size
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # Python's tokenizer and parser read the header; each has its own.
        fault = f"not a complete .npy array: {str(error).splitlines()[0]}"
        if "Python objects" in str(error):
            fault = "holds pickled Python objects, which are never loaded; save an array of floats"
        raise InputError(f"{path}: {fault}") from error
    promised = array.offset + array.nbytes
    if size != promised and array.size:
        raise InputError(
            f"{path}: has {size:,} bytes, its header promises {promised:,}; download it again in "
            "binary mode"
        )
    return array  # type: ignore[no-any-return]


def open_array(path: Path) -> NDArray[np.floating[Any]]:
    """Map a two-dimensional floating-point ``.npy`` file without reading it.

    Raises:
        InputError: As ``map_array``, and if it is of another kind or dimension.
    """
    array = map_array(path)
    if array.ndim != 2 or array.shape[1] == 0:
        raise InputError(
            f"{path}: has shape {list(array.shape)}, expected one row of features per item"
        )
    if array.dtype.kind != "f":
        raise InputError(
            f"{path}: holds {array.dtype}, expected float16, float32 or float64 features"
        )
    return array


@contextmanager
def open_parquet(path: Path, columns: Sequence[str] = ()) -> Iterator[pyarrow.parquet.ParquetFile]:
    """Open a Parquet file that has these columns.

    Raises:
        InputError: If it is none, has not exactly one column of each name, holds more than
            ``mgstudy.limits`` allows, or is damaged; also inside the block.
    """
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            for name in columns:
                if name not in names:
                    raise InputError(f"{path}: no column {name!r}; it has {', '.join(names)}")
                if names.count(name) > 1:
                    raise InputError(f"{path}: has two columns {name!r}")
            groups = map(file.metadata.row_group, range(file.num_row_groups))
            values = sum(
                group.column(position).num_values
                for group in groups
                for position in range(group.num_columns)
                if group.column(position).path_in_schema.partition(".")[0] in columns
            )
            refuse_too_much(path, 8 * values, path.stat().st_size)
            yield file
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        fault = str(error).splitlines()[0]
        raise InputError(
            f"{path}: cannot be read as Parquet: {fault}; download it again"
        ) from error


def parquet_tables(path: Path, columns: Columns) -> Iterator[pa.Table]:
    """The columns of a Parquet file, a row group at a time.

    Times may be numbers or what Parquet itself calls timestamps and dates.

    Raises:
        InputError: If a column is missing or of another type, or a value is wrong; names the row.
    """
    first = 0
    with open_parquet(path, list(columns)) as file:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=list(columns))
            read = {}
            for name, column in columns.items():
                read[name] = _converted(path, name, table[name], column, first)
                if not column.is_plausible(read[name]):
                    for row, value in enumerate(read[name].to_pylist()):
                        if fault := column.fault(name, value):
                            raise InputError(f"{path}: row {first + row}: {fault}")
            first += table.num_rows
            if table.num_rows:
                yield pa.table(read)
    if not first:
        raise InputError(f"{path}: holds no record")


def parquet_records(
    path: Path, key: str, names: Sequence[str]
) -> Iterator[tuple[int, str, Mapping[str, Any]]]:
    """Row, key and fields of every record of a Parquet file.

    Args:
        path: The file.
        key: The column of the keys, text or whole numbers.
        names: The other columns.

    Raises:
        InputError: If a column is missing or the key is of another type.
    """
    row = 0
    with open_parquet(path, [key, *names]) as file:
        for batch in file.iter_batches(columns=[key, *names]):
            keys = parquet_text(path, key, pa.chunked_array([batch.column(key)]), row)
            for name, record in zip(keys.to_pylist(), batch.to_pylist(), strict=True):
                yield row, name, record
                row += 1


def parquet_text(path: Path, name: str, values: pa.ChunkedArray, first: int) -> pa.ChunkedArray:
    """What the raw data calls users or items, as text.

    Args:
        path: The file, for messages.
        name: The column.
        values: Text or whole numbers.
        first: The row of the first of them, from 0.

    Raises:
        InputError: If they are something else.
    """
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    kind = values.type
    if pa.types.is_floating(kind):
        # A column of whole numbers with a gap is one of floats to pandas; from 2**53 on, several
        # whole numbers are one float.
        numbers = values.cast(pa.float64())
        exact = pc.and_(
            pc.equal(numbers, pc.round(numbers)), pc.less(pc.abs(numbers), _FLOATS_ARE_EXACT)
        )
        if pc.all(pc.fill_null(exact, True)).as_py() is False:
            for row, value in enumerate(numbers.to_pylist(), start=first):
                if value is None:
                    continue
                if not value.is_integer():
                    fault = "expected text or a whole number"
                elif abs(value) >= _FLOATS_ARE_EXACT:
                    fault = "where floats pass over whole numbers; write such ids as text"
                else:
                    continue
                raise InputError(f"{path}: row {row}: {name} is {value}, {fault}")
        return numbers.cast(pa.int64()).cast(TEXT)
    is_text = kind in (TEXT, pa.large_string(), pa.string_view())
    if not (is_text or pa.types.is_integer(kind) or pa.types.is_null(kind)):
        raise InputError(
            f"{path}: column {name!r} is {values.type}, expected text or whole numbers"
        )
    try:
        return values.cast(TEXT).cast(pa.binary()).cast(TEXT)  # Which looks at every character.
    except pa.ArrowInvalid as error:
        raise InputError(f"{path}: column {name!r} holds text that is not UTF-8") from error


def _converted(
    path: Path, name: str, values: pa.ChunkedArray, column: Column, first: int
) -> pa.ChunkedArray:
    if column.type == TEXT:
        return parquet_text(path, name, values, first)
    kind, expected = values.type, "numbers"
    if column.unit is not None:
        expected = f"numbers of {column.unit} since 1970, timestamps or dates"
        if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
            unit = pa.timestamp(_ARROW_UNITS[column.unit])
            values = values.cast(unit, safe=False).cast(pa.int64())
    try:
        if not (pa.types.is_nested(kind) or pa.types.is_boolean(kind)):
            # A time in nanoseconds has more digits than a float holds, and none that matter; nor
            # do a rating's.
            return values.cast(column.type, safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        pass
    raise InputError(f"{path}: column {name!r} is {kind}, expected {expected}")
