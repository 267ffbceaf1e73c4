"""Arrays and Parquet columns of every type, also where it means nothing."""

from __future__ import annotations

import datetime
import decimal
import io
import random
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
from raw_files import ITEMS, ROWS, parquet, vectors

MOMENT = datetime.datetime(2020, 5, 1, 12, tzinfo=datetime.UTC)
VALUES: list[tuple[pa.DataType, Any]] = [
    (pa.null(), None),
    (pa.bool_(), True),
    *[(kind, 3) for kind in (pa.int8(), pa.uint16(), pa.int32(), pa.int64(), pa.uint64())],
    (pa.uint64(), 2**64 - 1),
    (pa.int64(), -(2**63)),
    *[(kind, 1.5) for kind in (pa.float16(), pa.float32(), pa.float64())],
    (pa.float64(), float("nan")),
    (pa.float64(), float("inf")),
    (pa.float64(), 1e300),
    *[(kind, "a") for kind in (pa.string(), pa.large_string())],
    (pa.string(), ""),
    (pa.string(), "a\0b"),
    (pa.binary(), b"\xff"),
    (pa.binary(4), b"abcd"),
    (pa.date32(), MOMENT.date()),
    (pa.date64(), MOMENT.date()),
    (pa.time64("us"), MOMENT.time()),
    *[(pa.timestamp(unit), MOMENT) for unit in ("s", "ms", "us", "ns")],
    (pa.timestamp("us", "UTC"), MOMENT),
    (pa.timestamp("s"), datetime.datetime(9999, 1, 1, tzinfo=datetime.UTC)),
    (pa.duration("us"), datetime.timedelta(days=1)),
    (pa.decimal128(5, 2), decimal.Decimal("1.25")),
    (pa.decimal128(38, 0), decimal.Decimal(10**30)),
    (pa.list_(pa.string()), ["a"]),
    (pa.list_(pa.float32()), []),
    (pa.list_(pa.float32()), [None, 1.0]),
    (pa.list_(pa.float64()), [1e300]),
    (pa.list_(pa.bool_()), [True]),
    (pa.list_(pa.date32()), [MOMENT.date()]),
    (pa.list_(pa.list_(pa.float32())), [[1.0]]),
    (pa.list_(pa.float32(), 3), [1.0, 2.0, 3.0]),
    (pa.large_list(pa.float32()), [1.0]),
    (pa.struct([("x", pa.int64())]), {"x": 1}),
    (pa.map_(pa.string(), pa.int64()), [("x", 1)]),
    (pa.dictionary(pa.int8(), pa.string()), "a"),
    (pa.dictionary(pa.int32(), pa.float64()), 1.5),
]
NAMES = ("user", "item", "rating", "time")
DTYPES = ["?", "b", "i8", "u8", "f2", "f4", "f8", ">f4", "g", "c8", "U3", "S3", "M8[s]", "m8[s]",
          "O", "V4", [("x", "f4")]]  # fmt: skip
SHAPES = [(), (0,), (12,), (12, 0), (0, 4), (11, 4), (13, 4), (12, 4), (12, 2, 2), (1, 12, 4)]


def odd_array(number: int, draw: random.Random) -> tuple[str, str, Callable[[], bytes]]:
    """Which raw data it is part of, which file of it, and what makes its content."""
    if number % 3 == 0:
        return draw.choice(
            [
                ("mmrec", "image_feat.npy", lambda: _npy(draw)),
                ("csv", "v.npy", lambda: _npy(draw)),
                ("mmrec", "text_feat.npy", lambda: _odd_npy(draw)),
            ]
        )
    kind, one = VALUES[number % len(VALUES)]
    rows = {name: list(column) for name, column in zip(NAMES, zip(*ROWS, strict=True), strict=True)}
    items = {"item": [key for key, *_ in ITEMS], "title": [title for _, title, *_ in ITEMS],
             "brand": [brand for _, _, brand, _ in ITEMS]}  # fmt: skip
    items["price"] = [price for *_, price in ITEMS]
    file, columns = draw.choice(
        [
            ("i.parquet", rows),
            ("items.parquet", items),
            ("v.parquet", {"item": items["item"], "feature": vectors().tolist()}),
        ]
    )
    return "parquet", file, lambda: _odd_parquet(columns, kind, one, draw)


def _odd_parquet(
    columns: dict[str, list[Any]], kind: pa.DataType, one: Any, draw: random.Random
) -> bytes:
    odd = draw.choice(sorted(columns))
    arrays = {name: pa.array(values) for name, values in columns.items()}
    length = draw.choice([len(arrays[odd])] * 4 + [0])
    values = [one if draw.random() < 0.9 else None for _ in range(length)]
    try:
        arrays[odd] = pa.array(values, kind)
    except pa.ArrowInvalid:
        arrays[odd] = pa.nulls(length, kind)
    arrays = {name: array[:length] for name, array in arrays.items()}
    names = list(arrays)
    if draw.random() < 0.1:
        names = ["item"] * len(names)
    if draw.random() < 0.1:
        names[draw.randrange(len(names))] = "other"
    return parquet(pa.table(list(arrays.values()), names))


def _npy(draw: random.Random) -> bytes:
    written = io.BytesIO()
    array = np.zeros(draw.choice(SHAPES), dtype=draw.choice(DTYPES))
    if array.dtype.kind in "f" and array.size:
        array.flat[draw.randrange(array.size)] = draw.choice([1, np.nan, -np.inf, 6e4])
    np.save(written, np.asfortranarray(array) if draw.random() < 0.3 else array, allow_pickle=True)
    return written.getvalue()


def _odd_npy(draw: random.Random) -> bytes:
    """A header that says something else than what follows."""
    content = bytearray(_npy(draw))
    head = content.index(b"{") if b"{" in content else 10
    end = content.index(b"\n") if b"\n" in content else len(content)
    header = draw.choice(
        [
            b"{'descr': '<f4', 'fortran_order': False, 'shape': (12, 4), }",
            b"{'descr': '<f4', 'fortran_order': 3, 'shape': (12, 4)}",
            b"{'descr': [], 'fortran_order': False, 'shape': (10**9,)}",
            b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999, 99999999999)}",
            b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 4)}",
            b"{'descr': 7, 'shape': 3}",
            b"{" * 60,
            b"(" * 100,
            b"\xff" * 9,
        ]
    )
    content[head:end] = header.ljust(end - head)[: end - head]
    if draw.random() < 0.1:
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("x.npy", bytes(content))
        return archive.getvalue()
    return bytes(content)
