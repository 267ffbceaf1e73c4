"""Records read from JSON lines, Python-literal lines and delimited text, with line numbers.

Blocks of lines are parsed by Arrow. Only a block in which that fails, or in which a value cannot be
right, is read again line by line, to find the line and to keep the others.
"""

from __future__ import annotations

import ast
import csv
import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json

from mgstudy.data.reading import Block, Malformed, line_blocks
from mgstudy.errors import InputError
from mgstudy.files import Progress

Record = Mapping[str, Any]
TEXT = pa.string()
LATEST = 4_102_444_800
"""A time in seconds after this (the year 2100) is one in milliseconds."""


@dataclass(frozen=True)
class Column:
    """A field that is read.

    Attributes:
        type: ``string``, ``float64`` or ``int64``.
        required: Whether a line without it is malformed.
        is_time: Whether it is a time in seconds since 1970.
    """

    type: pa.DataType = TEXT
    required: bool = True
    is_time: bool = False

    def fault(self, name: str, value: Any) -> str | None:
        """What is wrong with a value, if anything."""
        if value is None or value == "":
            return f"{name} is missing" if self.required else None
        if self.type == TEXT:
            return None if isinstance(value, str) else f"{name} is {value!r}, expected text"
        fault = self._fault_of_number(value)
        return f"{name} is {value!r}, {fault}" if fault else None

    def _fault_of_number(self, value: Any) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return "expected a number"
        if not math.isfinite(value):
            return "expected a finite number"
        if pa.types.is_integer(self.type) and value != int(value):
            return "expected a whole number"
        if self.is_time and not 0 <= value <= LATEST:
            like = "milliseconds, not " if value > LATEST else "no time in "
            return f"which looks like {like}seconds (source.timestamp_unit)"
        return None

    def is_plausible(self, values: pa.ChunkedArray) -> bool:
        """Whether a whole column can be right, without saying which value is not."""
        if self.required and values.null_count:
            return False
        if self.type == TEXT:
            return not (self.required and bool(pc.any(pc.equal(values, "")).as_py()))
        if pa.types.is_floating(self.type) and pc.all(pc.is_finite(values)).as_py() is not True:
            return bool(len(values) == values.null_count)
        if self.is_time:
            ends = pc.min_max(values).as_py()
            return bool(ends["min"] is None or (ends["min"] >= 0 and ends["max"] <= LATEST))
        return True


Columns = Mapping[str, Column]


def read_json_lines(
    malformed: Malformed, columns: Columns, progress: Progress
) -> Iterator[pa.Table]:
    """The fields of JSON lines, in tables of a few megabytes of text.

    Args:
        malformed: The file, and what becomes of lines that are malformed.
        columns: The fields that are read.
        progress: Told of the bytes read.

    Raises:
        InputError: If more lines are malformed than may be; names the first.
    """
    schema = pa.schema([(name, column.type) for name, column in columns.items()])
    options = pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")

    def fast(block: Block) -> pa.Table:
        # Blocks beyond the cache of the processor parse a tenth slower.
        reading = pyarrow.json.ReadOptions(use_threads=False, block_size=1 << 20)
        return pyarrow.json.read_json(
            pa.BufferReader(block.content), read_options=reading, parse_options=options
        )

    blocks = line_blocks(malformed.path, progress)
    return _tables(malformed, columns, blocks, fast, _parse_json)


def read_delimited(
    malformed: Malformed,
    columns: Columns,
    progress: Progress,
    delimiter: str,
    header: list[str] | None = None,
    encoding: str = "utf-8",
    quoted: bool = True,
) -> Iterator[pa.Table]:
    """The columns of delimited text, in tables of a few megabytes of text.

    Args:
        malformed: The file, and what becomes of lines that are malformed.
        columns: Those that are read.
        progress: Told of the bytes read.
        delimiter: Between fields; of several characters too.
        header: Names of all columns, where the first line does not give them.
        encoding: Of the text.
        quoted: Whether fields may be in double quotes; such a field may not hold a line break.

    Raises:
        InputError: If a column is missing, or more lines are malformed than may be.
    """
    separator = delimiter if len(delimiter) == 1 else "\x1f"
    parsing = pyarrow.csv.ParseOptions(delimiter=separator, quote_char='"' if quoted else False)
    converting = pyarrow.csv.ConvertOptions(
        include_columns=list(columns),
        column_types={name: column.type for name, column in columns.items()},
        strings_can_be_null=False,
        null_values=[""],
    )
    path, names = malformed.path, header

    def decoded(block: Block) -> bytes:
        content = block.content
        if encoding != "utf-8":
            content = content.decode(encoding).encode()
        return content if len(delimiter) == 1 else content.replace(delimiter.encode(), b"\x1f")

    def fast(block: Block) -> pa.Table:
        reading = pyarrow.csv.ReadOptions(column_names=names, use_threads=False)
        return pyarrow.csv.read_csv(pa.BufferReader(decoded(block)), reading, parsing, converting)

    def slow(line: bytes) -> Record | str:
        assert names is not None
        try:
            text = line.decode(encoding)
        except UnicodeDecodeError as error:
            return f"not {encoding} text (byte {error.start + 1} of the line)"
        fields = split_fields(text, delimiter, quoted)
        if len(fields) != len(names):
            return f"has {len(fields)} fields, expected {len(names)}"
        record = dict(zip(names, fields, strict=True))
        return {name: _number(record[name], column) for name, column in columns.items()}

    def blocks() -> Iterator[Block]:
        nonlocal names
        for block in line_blocks(path, progress):
            if names is None:
                first, _, rest = block.content.partition(b"\n")
                names = _header(path, first, delimiter, columns, encoding)
                if rest:
                    yield Block(block.first_line + 1, rest)
            else:
                yield block

    return _tables(malformed, columns, blocks(), fast, slow)


def read_header(path: Path, progress: Progress, delimiter: str, encoding: str) -> list[str]:
    """The names in a file's first line."""
    for block in line_blocks(path, progress):
        return _header(path, block.content.partition(b"\n")[0], delimiter, {}, encoding)
    raise InputError(f"{path}: the file is empty")


def read_item_records(
    malformed: Malformed, key: str, wanted: Collection[str], progress: Progress
) -> Iterator[tuple[int, str, Record]]:
    """Line, key and whole record of the wanted items of a file of JSON or Python-literal lines.

    The metadata of Amazon reviews 2014 is written as Python literals (single quotes). Those are
    parsed by ``ast.literal_eval``, which evaluates nothing.

    Raises:
        InputError: If more lines are malformed than may be; names the first.
    """
    read = 0
    parse: Callable[[bytes], Record | str] = _parse_json
    for block in line_blocks(malformed.path, progress):
        for number, line in block.lines():
            read += 1
            record = parse(line)
            if isinstance(record, str):
                # The dialect is that of the line: some files mix them.
                other = _parse_literal if parse is _parse_json else _parse_json
                tried = other(line)
                if isinstance(tried, str):
                    faults = {parse: record, other: tried}
                    is_json = line.lstrip().startswith(b'{"')
                    malformed.add(number, faults[_parse_json if is_json else _parse_literal])
                    continue
                record, parse = tried, other
            name = record.get(key)
            if not isinstance(name, str) or not name:
                malformed.add(number, f"{key} is missing")
            elif name in wanted:
                yield number, name, record
        malformed.check(read)


def split_fields(text: str, delimiter: str, quoted: bool) -> list[str]:
    """The fields of one line."""
    if quoted and len(delimiter) == 1 and '"' in text:
        return next(csv.reader([text], delimiter=delimiter))
    return text.split(delimiter)


def _tables(
    malformed: Malformed,
    columns: Columns,
    blocks: Iterator[Block],
    fast: Callable[[Block], pa.Table],
    slow: Callable[[bytes], Record | str],
) -> Iterator[pa.Table]:
    schema = pa.schema([(name, column.type) for name, column in columns.items()])
    rows = 0
    for block in blocks:
        try:
            table = fast(block)
            good = all(column.is_plausible(table[name]) for name, column in columns.items())
        except (pa.ArrowInvalid, pa.ArrowKeyError, UnicodeDecodeError):
            good = False
        if not good:
            table = pa.Table.from_pylist(
                list(_good_lines(block, columns, slow, malformed)), schema=schema
            )
        rows += table.num_rows
        malformed.check(rows + malformed.count)
        if table.num_rows:
            yield table.select(list(columns))
    if not rows:
        raise InputError(f"{malformed.path}: holds no record")


def _good_lines(
    block: Block,
    columns: Columns,
    parse: Callable[[bytes], Record | str],
    malformed: Malformed,
) -> Iterator[Record]:
    for number, line in block.lines():
        record = parse(line)
        if isinstance(record, str):
            malformed.add(number, record)
            continue
        values = {name: record.get(name) for name in columns}
        faults = [column.fault(name, values[name]) for name, column in columns.items()]
        fault = next((fault for fault in faults if fault), None)
        if fault:
            malformed.add(number, fault)
        else:
            yield values


def _parse_json(line: bytes) -> Record | str:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"not JSON: {str(error)[:120]}"
    return record if isinstance(record, dict) else "not a JSON object"


def _parse_literal(line: bytes) -> Record | str:
    try:
        record = ast.literal_eval(line.decode("utf-8"))
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        return f"neither JSON nor a Python literal: {str(error)[:120]}"
    return record if isinstance(record, dict) else "neither a JSON object nor a Python dictionary"


def _number(text: str, column: Column) -> Any:
    """A field of delimited text as what it is to be, or the text, for the complaint."""
    if column.type == TEXT or text == "":
        return text
    try:
        return float(text) if pa.types.is_floating(column.type) else int(text)
    except ValueError:
        return text


def _header(path: Path, line: bytes, delimiter: str, columns: Columns, encoding: str) -> list[str]:
    try:
        names = split_fields(line.decode(encoding).rstrip("\r"), delimiter, quoted=True)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: line 1: not {encoding} text: {error.reason}") from error
    for name in columns:
        if name not in names:
            raise InputError(
                f"{path}: line 1: no column {name!r}; the header has {', '.join(map(repr, names))}"
            )
    return names


Unit = Literal["seconds", "milliseconds"]
