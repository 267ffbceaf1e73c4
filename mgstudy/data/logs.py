"""From tables of a log's rows to interactions with ids."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mgstudy.data.interactions import UNSPLIT, RawInteractions, StepRecord
from mgstudy.data.reading import Malformed
from mgstudy.data.records import LATEST, Unit
from mgstudy.errors import InputError

USER, ITEM, RATING, TIME = "user", "item", "rating", "timestamp"


def interactions_of(
    tables: Iterable[pa.Table],
    names: dict[str, str],
    malformed: Malformed,
    timestamp_unit: Unit = "seconds",
) -> RawInteractions:
    """Number users and items of a log in order of first appearance.

    Only codes are kept of the names, so that memory grows with the number of different users and
    items and by a few bytes per row.

    Args:
        tables: The rows.
        names: ``USER`` and ``ITEM``, and, where the log has them, ``RATING`` and ``TIME``, to the
            names of the columns.
        malformed: The file, and how many of its lines were passed over.
        timestamp_unit: Of the timestamps.

    Raises:
        InputError: If a time is implausible in its unit.
    """
    path = malformed.path
    keys: dict[str, list[pa.Array]] = {USER: [], ITEM: []}
    numbers: dict[str, list[pa.Array]] = {name: [] for name in (RATING, TIME) if name in names}
    for table in tables:
        for name, chunks in keys.items():
            chunks.append(table[names[name]].combine_chunks().dictionary_encode())
        for name, chunks in numbers.items():
            chunks.extend(table[names[name]].chunks)
    codes, dictionaries = {}, {}
    for name, chunks in keys.items():
        unified = pa.chunked_array(chunks).unify_dictionaries()
        codes[name] = np.concatenate(
            [chunk.indices.to_numpy(zero_copy_only=False) for chunk in unified.chunks]
        ).astype(np.int64)
        dictionaries[name] = unified.chunk(0).dictionary
        chunks.clear()
    ratings = timestamps = None
    if RATING in numbers:
        ratings = pa.chunked_array(numbers[RATING]).to_numpy().astype(np.float64)
    if TIME in numbers:
        times = pa.chunked_array(numbers[TIME])
        if timestamp_unit == "milliseconds":
            _refuse_seconds(times, path, names[TIME])
            times = pc.divide(times.cast(pa.int64()), 1000)
        timestamps = times.to_numpy().astype(np.int64)
    rows = len(codes[USER])
    return RawInteractions(
        users=codes[USER],
        items=codes[ITEM],
        splits=np.full(rows, UNSPLIT, dtype=np.int8),
        user_count=len(dictionaries[USER]),
        item_count=len(dictionaries[ITEM]),
        origin=str(path),
        steps=(
            StepRecord(
                name=f"read {path.name}",
                rows_in=rows + malformed.count,
                rows_out=rows,
                counts={"malformed lines": malformed.count} if malformed.count else {},
            ),
        ),
        ratings=ratings,
        timestamps=timestamps,
        user_keys=dictionaries[USER],
        item_keys=dictionaries[ITEM],
    )


def _refuse_seconds(times: pa.ChunkedArray, path: Path, name: str) -> None:
    """Milliseconds of before 1970-02-17 are seconds, unless nobody wrote reviews then."""
    latest = pc.max(times).as_py()
    if latest is not None and latest <= LATEST:
        raise InputError(
            f"{path}: {name} is {latest} at most, which looks like seconds; set "
            "source.timestamp_unit: seconds"
        )
