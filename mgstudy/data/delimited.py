"""Delimited text (CSV, TSV and the like) read in tables, with line numbers."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from mgstudy.data.reading import Block, Malformed, line_blocks
from mgstudy.data.records import TEXT, Column, Columns, Record, read_tables
from mgstudy.errors import InputError
from mgstudy.files import Progress

_ONE_CHARACTER = "\x1f"
_DECIMAL = r"^\s*[+-]?[0-9]+\s*$"
_MOST_SHOWN = 200
csv.field_size_limit(sys.maxsize)  # How long a line may be is for ``mgstudy.limits`` to say.


@dataclass(frozen=True)
class Dialect:
    """How delimited text is written.

    Attributes:
        delimiter: Between fields; of several characters too.
        header: Names of all columns, where the first line does not give them.
        encoding: Of the text.
        quoted: Whether fields may be in double quotes, where the delimiter is one character; such a
            field may not hold a line break.
        all_text: Whether columns that are not read must be text in the encoding too.
    """

    delimiter: str
    header: tuple[str, ...] | None = None
    encoding: str = "utf-8"
    quoted: bool = True
    all_text: bool = False

    def fields(self, line: bytes) -> list[str]:
        """The fields of one line.

        Raises:
            UnicodeDecodeError: If it is not text in the encoding.
            csv.Error: If its quotes cannot be.
        """
        text = line.decode(self.encoding)
        if self.quoted and len(self.delimiter) == 1 and '"' in text:
            fields = next(csv.reader([f"{text}\n"], delimiter=self.delimiter))
            if fields[-1].endswith("\n"):
                raise csv.Error("the last quote is not closed")
            return fields
        return text.split(self.delimiter)

    def is_open(self, line: bytes) -> bool:
        """Whether a quote of the line is not closed."""
        try:
            self.fields(line)
        except csv.Error:
            return True
        return False

    def encoded(self, block: Block) -> bytes:
        """A block as Arrow reads it: UTF-8, with one character between fields."""
        content = block.content
        if self.encoding != "utf-8":
            content = content.decode(self.encoding).encode()
        elif self.all_text:
            content.decode(self.encoding)
        if self.is_one_byte:
            return content
        return content.replace(self.delimiter.encode(), _ONE_CHARACTER.encode())

    @property
    def is_one_byte(self) -> bool:
        """Whether Arrow can split at the delimiter itself."""
        return len(self.delimiter.encode()) == 1

    def fault(self, error: UnicodeDecodeError | csv.Error) -> str:
        """What is wrong with a line whose ``fields`` cannot be told."""
        if isinstance(error, csv.Error):  # Which advises programmers.
            return "a carriage return where none can be, or a quote that is not closed"
        name = self.encoding.upper()
        return f"not {name} text (byte {error.start + 1} of the line); save the file as {name}"


def read_delimited(
    malformed: Malformed, columns: Columns, dialect: Dialect, progress: Progress
) -> Iterator[pa.Table]:
    """The columns of delimited text, in tables of a few megabytes of text.

    Args:
        malformed: The file, and what becomes of lines that are malformed.
        columns: Those that are read.
        dialect: How it is written.
        progress: Told of the bytes read.

    Raises:
        InputError: If a column is missing, or more lines are malformed than may be.
    """
    separator = dialect.delimiter if dialect.is_one_byte else _ONE_CHARACTER
    quote = '"' if dialect.quoted else False
    parsing = pyarrow.csv.ParseOptions(delimiter=separator, quote_char=quote)
    integers = [name for name, column in columns.items() if pa.types.is_integer(column.type)]
    path, names = malformed.path, dialect.header

    def parsed(content: bytes, types: dict[str, pa.DataType]) -> pa.Table:
        reading = pyarrow.csv.ReadOptions(column_names=names, use_threads=False)
        converting = pyarrow.csv.ConvertOptions(
            include_columns=list(types),
            column_types=types,
            strings_can_be_null=False,
            null_values=[""],
        )
        return pyarrow.csv.read_csv(pa.BufferReader(content), reading, parsing, converting)

    def fast(block: Block) -> pa.Table:
        content = dialect.encoded(block)
        has_quotes = dialect.quoted and b'"' in content
        if has_quotes and not dialect.is_one_byte:
            raise pa.ArrowInvalid("the delimiter is replaced inside quotes, too")
        table = parsed(content, {name: column.type for name, column in columns.items()})
        if has_quotes:
            # Whatever Arrow is told of line breaks, a quote that is not closed swallows lines.
            last = block.content[block.content.rfind(b"\n", 0, -1) + 1 :]
            if table.num_rows != content.count(b"\n") or dialect.is_open(last.rstrip(b"\r\n")):
                raise pa.ArrowInvalid("a quote is not closed, or a line is empty")
        if integers and (b"0x" in content or b"0X" in content):
            # Arrow takes hexadecimal digits for a number.
            written = parsed(content, dict.fromkeys(integers, TEXT))
            for name in integers:
                if not pc.all(pc.match_substring_regex(written[name], _DECIMAL)).as_py():
                    raise pa.ArrowInvalid(f"{name} holds hexadecimal digits")
        return table

    def slow(line: bytes) -> Record | str:
        assert names is not None
        try:
            fields = dialect.fields(line)
        except (UnicodeDecodeError, csv.Error) as error:
            return dialect.fault(error)
        if len(fields) != len(names):
            return f"has {len(fields)} fields, expected {len(names)}"
        record = dict(zip(names, fields, strict=True))
        return {name: _number(record[name], column) for name, column in columns.items()}

    def blocks() -> Iterator[Block]:
        nonlocal names
        for block in line_blocks(path, progress):
            if names is None:
                first, _, rest = block.content.partition(b"\n")
                names = _header(path, first, dialect, columns)
                if rest:
                    yield Block(block.first_line + 1, rest)
            else:
                yield block
        if names is None:
            raise InputError(f"{path}: the file is empty")

    return read_tables(malformed, columns, blocks(), fast, slow)


def read_header(path: Path, dialect: Dialect, progress: Progress) -> tuple[str, ...]:
    """The names in a file's first line."""
    for block in line_blocks(path, progress):
        return _header(path, block.content.partition(b"\n")[0], dialect, ())
    raise InputError(f"{path}: the file is empty")


def _header(path: Path, line: bytes, dialect: Dialect, columns: Collection[str]) -> tuple[str, ...]:
    try:
        names = dialect.fields(line.rstrip(b"\r"))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: line 1: {dialect.fault(error)}") from error
    if any("\r" in name for name in names):
        raise InputError(
            f"{path}: line 1: ends in a carriage return alone; save the file with line feeds"
        )
    for name in columns:
        if names.count(name) > 1:
            raise InputError(f"{path}: line 1: has two columns {name!r}")
        if name not in names:
            shown = ", ".join(map(repr, names))
            if len(shown) > _MOST_SHOWN:
                shown = f"{shown[:_MOST_SHOWN]}..."
            at = {"\t": "tabs", ",": "commas"}.get(dialect.delimiter, repr(dialect.delimiter))
            raise InputError(
                f"{path}: line 1: no column {name!r}; the header has {shown}, split at {at}"
            )
    return tuple(names)


def _number(text: str, column: Column) -> Any:
    """A field of delimited text as what it is to be, or the text, for the complaint."""
    if column.type == TEXT or text == "":
        return text
    try:
        if pa.types.is_floating(column.type):
            return float(text) if "_" not in text else text
        return int(text) if re.match(_DECIMAL, text) else text
    except ValueError:
        return text
