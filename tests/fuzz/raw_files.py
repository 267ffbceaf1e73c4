"""A small dataset in the form of every source: its raw files, and the pipeline that reads them.

12 users with 6 of 12 items each, and a record, a vector and a few words of every item.
"""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

TIME = 1_600_000_000
ROWS = [
    (
        f"u{user}",
        f"i{(3 * user + step) % 12}",
        float(1 + (user + step) % 5),
        TIME + 60 * step + user,
    )
    for user in range(12)
    for step in range(6)
]
WORDS = [
    "red",
    "green",
    "blue",
    "old",
    "new",
    "toy",
    "car",
    "doll",
    "game",
    "book",
    "small",
    "large",
]
ITEMS = [
    (f"i{item}", f"{WORDS[item]} {WORDS[(item + 1) % 12]}", f"brand {item % 3}", f"{item}.99")
    for item in range(12)
]
STEPS: list[Any] = [
    {"deduplicate": {"keep": "last"}},
    {"k_core": {"users": 2, "items": 2}},
    "reindex",
    {"split_per_user_random": {"seed": 1}},
]
TEXT = {"encoder": "tfidf_svd", "template": "{title}", "dimensions": 2, "minimum_items": 1}


@dataclass(frozen=True)
class Raw:
    """Raw data and its pipeline.

    Attributes:
        source: What stands under ``source``.
        make: Makes the content of each file, by name.
        steps: What stands under ``steps``.
        features: What stands under ``features``.
    """

    source: dict[str, Any]
    make: Callable[[], dict[str, bytes]]
    steps: list[Any] = field(default_factory=lambda: STEPS)
    features: dict[str, Any] = field(default_factory=dict)

    @property
    def pipeline(self) -> dict[str, Any]:
        """The pipeline file."""
        own = {"source": self.source, "steps": self.steps, "features": self.features}
        return {"name": "d", **own}


def _lines(rows: Any, separator: str, header: str = "") -> bytes:
    lines = [header] * bool(header) + [separator.join(map(str, row)) for row in rows]
    return "".join(f"{line}\n" for line in lines).encode()


def _npy(array: Any) -> bytes:
    written = io.BytesIO()
    np.save(written, array)
    return written.getvalue()


def vectors() -> np.ndarray[Any, np.dtype[np.float32]]:
    """A vector of each item."""
    return np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)


def _amazon_binary() -> bytes:
    return b"".join(
        f"i{item}".encode().ljust(10, b"\0") + row.tobytes() for item, row in enumerate(vectors())
    )


def parquet(table: pa.Table) -> bytes:
    """A Parquet file."""
    written = io.BytesIO()
    pyarrow.parquet.write_table(table, written)
    return written.getvalue()


def _rows_parquet() -> bytes:
    columns = list(zip(*ROWS, strict=True))
    return parquet(pa.table(dict(zip(("user", "item", "rating", "time"), columns, strict=True))))


def _mmrec() -> dict[str, bytes]:
    labels = [(int(user[1:]), int(item[1:]), 2 * (step % 6 == 4) + (step % 6 == 5))
              for step, (user, item, _, _) in enumerate(ROWS)]  # fmt: skip
    return {
        "a.inter": _lines(labels, "\t", "userID\titemID\tx_label"),
        "image_feat.npy": _npy(vectors()),
        "text_feat.npy": _npy(vectors().astype(np.float16)),
    }


def _amazon_2014() -> dict[str, bytes]:
    names = ("reviewerID", "asin", "overall", "unixReviewTime")
    reviews = [json.dumps(dict(zip(names, row, strict=True))) for row in ROWS]
    metadata = [
        repr({"asin": key, "title": title, "categories": [[brand, "x"]], "price": float(price)})
        for key, title, brand, price in ITEMS
    ]
    return {
        "r.json": "\n".join(reviews).encode(),
        "m.json.gz": gzip.compress("\n".join(metadata).encode()),
        "image.b": _amazon_binary(),
    }


def _amazon_2023() -> dict[str, bytes]:
    names = ("user_id", "parent_asin", "rating", "timestamp")
    reviews = [
        json.dumps(dict(zip(names, (*row[:3], row[3] * 1000 + 7), strict=True))) for row in ROWS
    ]
    metadata = [
        json.dumps({"parent_asin": key, "title": title, "store": brand, "price": price})
        for key, title, brand, price in ITEMS
    ]
    return {"r.jsonl": "\n".join(reviews).encode(), "m.jsonl": "\n".join(metadata).encode()}


_INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float"


def _recbole() -> dict[str, bytes]:
    header = "item_id:token\ttitle:token_seq\tbrand:token\tprice:float"
    return {"x.inter": _lines(ROWS, "\t", _INTER), "x.item": _lines(ITEMS, "\t", header)}


def _recbole_split() -> dict[str, bytes]:
    parts = {"train": range(4), "valid": range(4, 5), "test": range(5, 6)}
    return {
        f"x.{name}.inter": _lines(
            [row for position, row in enumerate(ROWS) if position % 6 in steps], "\t", _INTER
        )
        for name, steps in parts.items()
    }


def _numbered(separator: str, header: str = "") -> bytes:
    rows = [(user[1:], item[1:], rating, time) for user, item, rating, time in ROWS]
    return _lines(rows, separator, header)


def _movielens_100k() -> dict[str, bytes]:
    flags = "|".join("01"[step % 2] for step in range(19))
    movies = "".join(f"{item}|Film {item} (19{80 + item})|x||u|{flags}\n" for item in range(12))
    return {"u.data": _numbered("\t"), "u.item": movies.encode("latin-1")}


def _movielens_1m() -> dict[str, bytes]:
    movies = "".join(f"{item}::Film {item} (1980)::Comedy|Drama\n" for item in range(12))
    return {"ratings.dat": _numbered("::"), "movies.dat": movies.encode()}


def _microlens() -> dict[str, bytes]:
    rows = [(user[1:], item[1:], time * 1000) for user, item, _, time in ROWS]
    titles = [(key[1:], title) for key, title, _, _ in ITEMS]
    return {
        "p.csv": _lines(rows, ",", "user,item,timestamp"),
        "t.csv": _lines(titles, ","),
        "v.npy": _npy(vectors()),
    }


def _table(separator: str, ending: str) -> Callable[[], dict[str, bytes]]:
    names = (("user", "item", "rating", "time"), ("item", "title", "brand", "price"))
    return lambda: {
        f"i.{ending}": _lines(ROWS, separator, separator.join(names[0])),
        f"items.{ending}": _lines(ITEMS, separator, separator.join(names[1])),
        "v.npy": _npy(vectors()),
        "keys.txt": _lines([[key] for key, *_ in ITEMS], ""),
    }


def _table_parquet() -> dict[str, bytes]:
    items = dict(zip(("item", "title", "brand", "price"), zip(*ITEMS, strict=True), strict=True))
    keys = [key for key, *_ in ITEMS]
    return {
        "i.parquet": _rows_parquet(),
        "items.parquet": parquet(pa.table(items)),
        "v.parquet": parquet(pa.table({"item": keys, "feature": vectors().tolist()})),
    }


def _log(kind: str, **settings: Any) -> dict[str, Any]:
    return {"kind": kind, **settings}


_PRICES = {"encoder": "table", "multi_hot": ["brand"], "scaled": ["price"]}
_NPY = {"encoder": "precomputed", "file": "v.npy", "first_key": 1, "missing": "zero"}
RAW: dict[str, Raw] = {
    "mmrec": Raw(_log("mmrec", path="."), _mmrec, []),
    "amazon 2014": Raw(
        _log("amazon_2014", reviews="r.json", metadata="m.json.gz"),
        _amazon_2014,
        features={
            "text": TEXT,
            "price": {"encoder": "table", "multi_hot": ["categories"], "scaled": ["price"]},
            "image": {"encoder": "precomputed", "file": "image.b", "width": 4, "missing": "mean"},
        },
    ),
    "amazon 2014 csv": Raw(
        _log("amazon_2014", reviews="r.csv"), lambda: {"r.csv": _lines(ROWS, ",")}
    ),
    "amazon 2023": Raw(
        _log("amazon_2023", reviews="r.jsonl", metadata="m.jsonl"),
        _amazon_2023,
        features={"text": TEXT, "price": {"encoder": "table", "scaled": ["price"]}},
    ),
    "recbole": Raw(_log("recbole", path="."), _recbole, features={"text": TEXT, "price": _PRICES}),
    "recbole split": Raw(_log("recbole", path="."), _recbole_split, ["reindex"]),
    "movielens 100k": Raw(_log("movielens", path="."), _movielens_100k, features={"text": TEXT}),
    "movielens 1m": Raw(
        _log("movielens", path="."),
        _movielens_1m,
        features={"genres": {"encoder": "table", "multi_hot": ["genres"]}},
    ),
    "microlens": Raw(
        _log("microlens", pairs="p.csv", titles="t.csv"),
        _microlens,
        [*STEPS[:3], {"split_leave_out": {"k": 1}}],
        {"text": TEXT, "image": {**_NPY, "steps": [{"normalize": {"by": "column_range"}}]}},
    ),
    "csv": Raw(
        _log("table", interactions="i.csv", items="items.csv", rating="rating", timestamp="time"),
        _table(",", "csv"),
        [{"rating_threshold": {"minimum": 2}}, *STEPS[:3], {"split_per_user_temporal": {}}],
        {"text": TEXT, "image": {**_NPY, "row_keys": "keys.txt"}, "price": _PRICES},
    ),
    "tsv": Raw(
        _log("table", interactions="i.tsv", timestamp="time", items="items.tsv"),
        _table("\t", "tsv"),
        [*STEPS[:3], {"split_global_temporal": {}}, {"cold_start": {"items": "drop"}}],
        {"image": {**_NPY, "row_keys": "keys.txt", "steps": [{"pca": {"dimensions": 2}}]}},
    ),
    "parquet": Raw(
        _log("table", interactions="i.parquet", items="items.parquet", rating="rating"),
        _table_parquet,
        features={
            "text": TEXT,
            "image": {"encoder": "precomputed", "file": "v.parquet", "missing": "noise"},
        },
    ),
}
