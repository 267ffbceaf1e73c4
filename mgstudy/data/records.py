"""Columns of a log and what may stand in them; records read from JSON and Python-literal lines.

Blocks of lines are parsed by Arrow. Only a block in which that fails, or in which a value cannot be
right, is read again line by line, to find the line and to keep the others.
"""

from __future__ import annotations

import ast
import json
import sys
import warnings
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from mgstudy.data.reading import Block, Malformed, line_blocks
from mgstudy.errors import InputError
from mgstudy.files import Progress
from mgstudy.limits import limit, more_than

Record = Mapping[str, Any]
Unit = Literal["seconds", "milliseconds", "microseconds", "nanoseconds"]
TEXT = pa.string()
PER_SECOND: dict[Unit, int] = {
    "seconds": 1,
    "milliseconds": 1_000,
    "microseconds": 1_000_000,
    "nanoseconds": 1_000_000_000,
}
_LATEST_SECONDS = 4_102_444_800
"""The latest plausible time, the year 2100; what is later is one in a smaller unit."""
_MOST_SHOWN = 60
_MARKS_OF_HALVES = (b"\\u", b"\\U", b"\xed")
"""One of these is in every line that holds half of a surrogate pair: as an escape, or as bytes."""


@dataclass(frozen=True)
class Column:
    """A field that is read.

    Attributes:
        type: ``string``, ``float64`` or ``int64``.
        required: Whether a line without it is malformed.
        unit: Of a time since 1970; ``None`` for what is no time.
        most: Limit of a number from 0; ``None`` for whatever the type holds.
        expected: What a message says of a number that is none of these.
    """

    type: pa.DataType = TEXT
    required: bool = True
    unit: Unit | None = None
    most: int | None = None
    expected: str = ""

    def fault(self, name: str, value: Any) -> str | None:
        """What is wrong with a value, if anything."""
        if value is None or value == "":
            return f"{name} is missing" if self.required else None
        fault = self._fault_of_text(value) if self.type == TEXT else self._fault_of_number(value)
        shown = repr(value)
        if len(shown) > _MOST_SHOWN:
            shown = f"{shown[:_MOST_SHOWN]}..."
        return f"{name} is {shown}, {fault}" if fault else None

    def held(self, value: Any) -> Any:
        """A value without fault as the column holds it: a float, whatever digits it drops."""
        is_whole = isinstance(value, int) and pa.types.is_floating(self.type)
        return float(value) if is_whole else value

    def is_plausible(self, values: pa.ChunkedArray) -> bool:
        """Whether a whole column can be right, without saying which value is not."""
        if self.required and values.null_count:
            return False
        if self.type == TEXT:
            return not (self.required and bool(pc.any(pc.equal(values, "")).as_py()))
        if len(values) == values.null_count:
            return True
        if pa.types.is_floating(self.type) and pc.all(pc.is_finite(values)).as_py() is not True:
            return False
        ends, latest = pc.min_max(values).as_py(), self._latest
        return latest is None or bool(ends["min"] >= 0 and ends["max"] <= latest)

    @property
    def _latest(self) -> int | None:
        return self.most if self.unit is None else _LATEST_SECONDS * PER_SECOND[self.unit]

    def _fault_of_text(self, value: Any) -> str | None:
        if not isinstance(value, str):
            return "expected text"
        return None if _is_text(value) else "which is not valid text"

    def _fault_of_number(self, value: Any) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"expected {self.expected or 'a number'}"
        if not abs(value) <= sys.float_info.max:  # NaN is not below it either.
            kind = "finite number" if isinstance(value, float) else "number below 1.8e308"
            return f"expected a {kind}"
        if pa.types.is_integer(self.type) and value != int(value):
            return f"expected {self.expected or 'a whole number'}"
        if self._latest is None or 0 <= value <= self._latest:
            return None
        return f"expected {self.expected}" if self.unit is None else self._fault_of_time(value)

    def _fault_of_time(self, value: float) -> str:
        if unit := likely_unit(value):
            advice = f"set source.timestamp_unit: {unit}"
            return f"which looks like {unit}, not {self.unit}; {advice}"
        return f"which looks like no time in {self.unit} (source.timestamp_unit)"


Columns = Mapping[str, Column]


def likely_unit(latest: float) -> Unit | None:
    """The largest unit in which a log's latest time is plausible, if there is one.

    What would be of before 1970-02-17 in it is taken for one in a larger unit: nobody wrote reviews
    then.
    """
    units = (unit for unit, n in PER_SECOND.items() if 0 <= latest <= _LATEST_SECONDS * n)
    return next(units, None)


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
        table = pyarrow.json.read_json(
            pa.BufferReader(block.content), read_options=reading, parse_options=options
        )
        table.validate(full=True)  # It takes any bytes for text.
        return table

    blocks = line_blocks(malformed.path, progress)
    return read_tables(malformed, columns, blocks, fast, _parse_json)


def read_item_records(
    malformed: Malformed, key: str, wanted: Container[str], progress: Progress
) -> Iterator[tuple[int, str, Record]]:
    """Line, key and whole record of the wanted items of a file of JSON or Python-literal lines.

    The metadata of Amazon reviews 2014 is written as Python literals (single quotes). Those are
    parsed by ``ast.literal_eval``, which evaluates nothing.

    Raises:
        InputError: If more lines are malformed than may be; names the first.
    """
    read, deepest = 0, limit("MGSTUDY_RECORD_DEPTH")
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
            if line.count(b"[") + line.count(b"{") > deepest and _is_deeper(record, deepest):
                levels = more_than("MGSTUDY_RECORD_DEPTH", "levels")
                malformed.add(number, f"is nested in {levels}")
            elif not isinstance(name, str) or not name:
                malformed.add(number, f"{key} is missing")
            elif name in wanted:
                is_suspect = any(mark in line for mark in _MARKS_OF_HALVES)
                if is_suspect and not _is_text(_all_text(record)):
                    malformed.add(number, "holds half of a surrogate pair, which is not valid text")
                else:
                    yield number, name, record
        malformed.check(read)


def read_tables(
    malformed: Malformed,
    columns: Columns,
    blocks: Iterator[Block],
    fast: Callable[[Block], pa.Table],
    slow: Callable[[bytes], Record | str],
) -> Iterator[pa.Table]:
    """Tables of blocks of lines.

    Args:
        malformed: The file, and what becomes of lines that are malformed.
        columns: The fields that are read.
        blocks: The lines.
        fast: Reads a block at once, or raises.
        slow: Reads one line, or says what is wrong with it.

    Raises:
        InputError: If more lines are malformed than may be, or there is none that is not.
    """
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
            yield {name: columns[name].held(value) for name, value in values.items()}


def _parse_json(line: bytes) -> Record | str:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"not JSON: {str(error)[:120]}"
    return record if isinstance(record, dict) else "not a JSON object"


def _parse_literal(line: bytes) -> Record | str:
    if len(line) > limit("MGSTUDY_LITERAL_BYTES"):
        most = more_than("MGSTUDY_LITERAL_BYTES", "bytes")
        return f"not JSON, and as a Python literal has {most}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of escapes that Python does not know.
            record = ast.literal_eval(line.decode("utf-8"))
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        return f"neither JSON nor a Python literal: {str(error)[:120]}"
    return record if isinstance(record, dict) else "neither a JSON object nor a Python dictionary"


def _is_deeper(record: Record, most: int) -> bool:
    """Whether values lie in one another in more levels."""
    values: list[Any] = [record]
    for _ in range(most):
        inside = [value.values() if isinstance(value, dict) else value
                  for value in values if isinstance(value, dict | list | tuple)]  # fmt: skip
        values = [value for container in inside for value in container]
    return any(isinstance(value, dict | list | tuple) for value in values)


def _all_text(record: Record) -> str:
    return json.dumps(record, ensure_ascii=False, skipkeys=True, default=str)


def _is_text(value: str) -> bool:
    """Whether text can be written: half of a surrogate pair cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
