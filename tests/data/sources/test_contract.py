"""Every installed source is held to what a source owes, over a few files as they are published."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mgstudy.config.pipeline import PipelineConfig
from mgstudy.data.prepare import prepare
from mgstudy.data.sources.base import Source, sources
from mgstudy.testing import SourceContract
from mgstudy.workspace import Workspace

LOG = [("u1", "i1", 5.0, 1_000_000_000), ("u2", "i1", 3.0, 1_000_000_010), ("u1", "i2", 4.0, 20)]
"""User, item, rating, time in seconds."""


def amazon_2014(folder: Path) -> dict[str, Any]:
    keys = ("reviewerID", "asin", "overall", "unixReviewTime")
    _write_json(folder / "reviews.json", [dict(zip(keys, row, strict=True)) for row in LOG])
    _write_json(folder / "meta.json", [{"asin": "i1", "title": "A"}, {"asin": "i2", "title": "B"}])
    return {"reviews": folder / "reviews.json", "metadata": folder / "meta.json"}


def amazon_2023(folder: Path) -> dict[str, Any]:
    keys = ("user_id", "parent_asin", "rating", "timestamp")
    rows = [(user, item, rating, time * 1000) for user, item, rating, time in LOG[:2]]
    _write_json(folder / "reviews.jsonl", [dict(zip(keys, row, strict=True)) for row in rows])
    _write_json(folder / "meta.jsonl", [{"parent_asin": "i1", "title": "A"}])
    return {"reviews": folder / "reviews.jsonl", "metadata": folder / "meta.jsonl"}


def cross_domain(folder: Path) -> dict[str, Any]:
    header = ("user_id:token", "item_id:token", "rating:float", "timestamp:float")
    domains = {}
    for name, rows in (("books", LOG), ("films", LOG[1:])):
        (folder / name).mkdir(exist_ok=True)
        _write_table(folder / name / "x.inter", "\t", header, rows)
        items = [("i1", f"{name} A"), ("i2", "B")]
        _write_table(folder / name / "x.item", "\t", ("item_id:token", "title:token_seq"), items)
        domains[name] = {"kind": "recbole", "path": str(folder / name)}
    return {"domains": domains}


def microlens(folder: Path) -> dict[str, Any]:
    rows = [(user, item, time * 1000) for user, item, _, time in LOG[:2]]
    _write_table(folder / "pairs.csv", ",", ("user", "item", "timestamp"), rows)
    _write_table(folder / "titles.csv", ",", ("item", "title"), [("i1", "A"), ("i2", "B")])
    return {"pairs": folder / "pairs.csv", "titles": folder / "titles.csv"}


def mmrec(folder: Path) -> dict[str, Any]:
    rows = [(0, 0, 0), (0, 1, 1), (1, 2, 0), (1, 0, 2)]
    _write_table(folder / "toy.inter", "\t", ("userID", "itemID", "x_label"), rows)
    np.save(folder / "image_feat.npy", np.arange(6, dtype=np.float32).reshape(3, 2))
    return {"path": folder}


def movielens(folder: Path) -> dict[str, Any]:
    rows = [(user, item, rating, time) for (user, item, rating, time) in _numbered()]
    _write_table(folder / "ratings.csv", ",", ("userId", "movieId", "rating", "timestamp"), rows)
    movies = [(1, "A (1995)", "Comedy|Drama"), (2, "B (1996)", "War")]
    _write_table(folder / "movies.csv", ",", ("movieId", "title", "genres"), movies)
    return {"path": folder}


def prepared(folder: Path) -> dict[str, Any]:
    raw = mmrec(folder)
    workspace = Workspace(folder)
    declared = {"name": "toy", "source": {"kind": "mmrec", "path": str(raw["path"])}}
    prepare(PipelineConfig.model_validate(declared), workspace)
    return {"path": workspace.manifest("toy").parent}


def recbole(folder: Path) -> dict[str, Any]:
    header = ("user_id:token", "item_id:token", "rating:float", "timestamp:float")
    _write_table(folder / "toys.inter", "\t", header, LOG)
    items = [("i1", "A toy"), ("i2", "B")]
    _write_table(folder / "toys.item", "\t", ("item_id:token", "title:token_seq"), items)
    return {"path": folder}


def synthetic(folder: Path) -> dict[str, Any]:
    return {"users": 30, "items": 40, "interactions_per_user": 6.0}


def table(folder: Path) -> dict[str, Any]:
    _write_table(folder / "log.csv", ",", ("user", "item", "rating", "time"), LOG)
    _write_table(folder / "items.csv", ",", ("item", "title"), [("i1", "A"), ("i2", "B")])
    return {
        "interactions": folder / "log.csv",
        "items": folder / "items.csv",
        "rating": "rating",
        "timestamp": "time",
    }


def _numbered() -> list[tuple[int, int, float, int]]:
    return [(int(user[1:]), int(item[1:]), rating, time) for user, item, rating, time in LOG]


def _write_json(path: Path, records: list[dict[str, Any]]) -> None:
    path.write_text("\n".join(map(json.dumps, records)) + "\n", "utf-8")


def _write_table(path: Path, separator: str, header: Any, rows: Any) -> None:
    lines = [separator.join(map(str, row)) for row in (header, *rows)]
    path.write_text("\n".join(lines) + "\n", "utf-8")


WRITTEN: dict[str, Callable[[Path], dict[str, Any]]] = {
    maker.__name__: maker
    for maker in (
        amazon_2014,
        amazon_2023,
        cross_domain,
        microlens,
        mmrec,
        movielens,
        prepared,
        recbole,
        synthetic,
        table,
    )
}


def contract_of(
    kind: type[Source], written: Callable[[Path], dict[str, Any]]
) -> type[SourceContract]:
    class TestSource(SourceContract):
        def make(self, folder: Path) -> Source:
            return kind(kind.Parameters.validated(f"source {kind.name}", written(folder)))

    return TestSource


for name, maker in WRITTEN.items():
    source = sources.get(name)
    globals()[f"Test{source.__name__}"] = contract_of(source, maker)


def test_every_source_is_held_to_it() -> None:
    assert set(WRITTEN) == set(sources.names())
