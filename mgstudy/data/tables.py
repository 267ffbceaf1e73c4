"""A content-addressed store of Parquet tables.

A table's key is made from everything that makes the table, so a table in the store is never out of
date: it is there, or it is made. Each lies beside a small record of its size and checksum, written
after it: a table without a record, or of another size, is an unfinished or damaged one.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
from pydantic import BaseModel, ConfigDict, ValidationError

from mgstudy.errors import InputError
from mgstudy.files import (
    Progress,
    locked,
    no_progress,
    refuse_what_is_no_file,
    sha256_of,
    written_whole,
)

logger = logging.getLogger(__name__)

FORMAT = 2
"""Of tables and manifests; raised whenever one of before could not be read as one of now."""
METADATA_PREFIX = "mgstudy."

_verified: set[tuple[Path, int, int, str]] = set()
"""Tables whose bytes this process has compared with their checksum, as they were then."""


class DamagedTableError(InputError):
    """A stored table is missing, cut short or altered."""


class StoredTable(BaseModel):
    """A table that lies in the store.

    Attributes:
        key: Its name in the store: what it holds, and the fingerprint of what made it.
        size: Bytes.
        sha256: Of its bytes, hexadecimal.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    size: int
    sha256: str


@dataclass(frozen=True)
class TableContent:
    """What is to be written.

    Attributes:
        schema: Columns and metadata.
        batches: The rows; each batch becomes a row group.
        row_count: Rows of all batches together, for showing progress.
        encoding: Options of ``pyarrow.parquet.ParquetWriter``.
    """

    schema: pa.Schema
    batches: Iterable[pa.RecordBatch]
    row_count: int
    encoding: Mapping[str, Any]


class TableStore:
    """Tables by key in one folder, shared by processes.

    Args:
        folder: Where they lie; created when the first is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, key: str) -> Path:
        """The Parquet file of a table."""
        return self.folder / f"{key}.parquet"

    def files(self, key: str) -> tuple[Path, Path]:
        """The Parquet file of a table, and then its record, without which it is unfinished."""
        return self.path(key), self._record_path(key)

    def ensure(
        self,
        key: str,
        make: Callable[[], TableContent],
        verify: bool = False,
        progress: Progress = no_progress,
    ) -> StoredTable:
        """Return the table, making it if it is not there; of several processes, one makes it.

        Args:
            key: The table.
            make: Makes its content.
            verify: Whether a table that is there must also match its checksum, or is made again.
            progress: Told of the rows written.

        Raises:
            MgstudyError: If the table cannot be written; nothing is left half-written.
        """
        try:
            return self.check(key, verify)
        except DamagedTableError:
            pass
        with locked(self.path(key)):
            try:
                return self.check(key, verify)
            except DamagedTableError as damage:
                if self._record(key) is not None:
                    logger.warning("%s; making it again from its source", damage)
                return self._write(key, make(), progress)

    def check(self, key: str, verify: bool = True) -> StoredTable:
        """Return the record of a table that is what was written.

        Args:
            key: The table.
            verify: Whether to compare its bytes with its checksum, once per process, or its size
                alone.

        Raises:
            DamagedTableError: If it is missing or another than was written.
        """
        path, stored = self.path(key), self._record(key)
        if stored is None or not path.exists():
            raise DamagedTableError(f"{path}: is missing")
        try:
            status = path.stat()
            if status.st_size != stored.size:
                raise DamagedTableError(
                    f"{path}: damaged: has {status.st_size:,} bytes, "
                    f"was written with {stored.size:,}"
                )
            state = (path, status.st_size, status.st_mtime_ns, stored.sha256)
            if verify and state not in _verified:
                if sha256_of(path) != stored.sha256:
                    raise DamagedTableError(f"{path}: damaged: does not match its checksum")
                _verified.add(state)
        except OSError as error:
            raise DamagedTableError(f"{path}: damaged: {error.strerror}") from error
        return stored

    def _record_path(self, key: str) -> Path:
        return self.folder / f"{key}.json"

    def _record(self, key: str) -> StoredTable | None:
        try:
            return StoredTable.model_validate_json(self._record_path(key).read_bytes(), strict=True)
        except (OSError, ValidationError):
            return None

    def _write(self, key: str, content: TableContent, progress: Progress) -> StoredTable:
        path = self.path(key)
        logger.info("table %s: writing %d rows", key, content.row_count)
        with written_whole(path) as file:
            writer = pyarrow.parquet.ParquetWriter(file, content.schema, **content.encoding)
            with writer:
                done = 0
                for batch in content.batches:
                    writer.write_batch(batch, row_group_size=max(1, batch.num_rows))
                    done += batch.num_rows
                    progress(f"write {key.partition('-')[0]}", done, content.row_count)
        stored = StoredTable(key=key, size=path.stat().st_size, sha256=sha256_of(path))
        with written_whole(self._record_path(key)) as file:
            file.write(stored.model_dump_json(indent=2).encode() + b"\n")
        return stored


def to_schema_metadata(facts: Mapping[str, Any]) -> dict[str, str]:
    """Facts about a table as Parquet schema metadata: one entry each, the value as JSON."""
    return {f"{METADATA_PREFIX}{name}": json.dumps(value) for name, value in facts.items()}


def from_schema_metadata(schema: pa.Schema) -> dict[str, Any]:
    """The facts that ``to_schema_metadata`` wrote."""
    return {
        name.decode().removeprefix(METADATA_PREFIX): json.loads(value)
        for name, value in (schema.metadata or {}).items()
        if name.decode().startswith(METADATA_PREFIX)
    }


@contextmanager
def read_as_written(path: Path) -> Iterator[None]:
    """Say which table it is that is not as this program writes them.

    Its checksum may fit: whoever writes another table there can write its record, too.

    Raises:
        DamagedTableError: In place of whatever a reader stumbles over inside the block.
    """
    try:
        yield
    except DamagedTableError:
        raise
    except (
        *(pa.ArrowException, ArithmeticError, AttributeError, InputError, LookupError),
        *(OSError, RecursionError, TypeError, ValueError),
    ) as error:
        fault = " ".join(str(error).split())[:200]
        raise DamagedTableError(
            f"{path}: damaged: {fault}; delete it and prepare the dataset again"
        ) from error


def read_facts(path: Path) -> dict[str, Any]:
    """What a table says about itself, from its schema's metadata alone.

    Raises:
        DamagedTableError: If the file is not a Parquet file.
        InputError: If it has another format.
    """
    with read_as_written(path):
        refuse_what_is_no_file(path)
        facts = from_schema_metadata(pyarrow.parquet.read_schema(path))
    refuse_other_format(path, facts.get("format_version"), facts.get("versions"))
    return facts


def refuse_other_format(path: Path, found: Any, versions: Any) -> None:
    """Say which version reads a file that this one cannot.

    Args:
        path: The file.
        found: The format it says it has; ``None`` where it says none.
        versions: Those it says it was made with, with that of ``mgstudy`` among them.

    Raises:
        InputError: If its format is another than ``FORMAT``.
    """
    if found != FORMAT:
        writer = versions.get("mgstudy") if isinstance(versions, Mapping) else None
        form = "before formats were numbered" if found is None else f"in format {found}"
        raise InputError(
            f"{path}: written {form}, this version of mgstudy reads format {FORMAT}; use mgstudy "
            f"{writer or 'of then'} (the version that wrote it), or prepare the dataset again"
        )
