"""Item records and interactions read from delimited text, as several sources do."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from mgstudy.data.reading import Malformed
from mgstudy.data.records import Column, read_delimited
from mgstudy.files import Progress


def delimited_items(
    path: Path,
    key: str,
    names: list[str],
    fields: Collection[str],
    wanted: Collection[str],
    progress: Progress,
    delimiter: str,
    header: list[str] | None = None,
    malformed_share: float = 0.0,
    encoding: str = "utf-8",
    quoted: bool = True,
) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Place, key and fields of the wanted items of a file; its arguments are those of
    ``read_delimited``, and which of the columns ``names`` is the ``key``."""
    present = [name for name in names if name in fields and name != key]
    columns = {name: Column(required=False) for name in present} | {key: Column()}
    malformed = Malformed(path, malformed_share)
    row = 0
    for table in read_delimited(malformed, columns, progress, delimiter, header, encoding, quoted):
        for record in table.to_pylist():
            row += 1
            if record[key] in wanted:
                yield f"{path}: row {row}", record[key], record
