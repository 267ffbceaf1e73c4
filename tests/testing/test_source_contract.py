"""The suite for sources finds one that breaks any one promise, for the reason it should."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mgstudy.config.parameters import ParameterSet, parameter
from mgstudy.data.interactions import UNSPLIT, RawInteractions, StepRecord
from mgstudy.data.sources.base import RawPath, Recipe, Source
from mgstudy.errors import InputError
from mgstudy.testing import SourceContract


class Pairs(Source):
    """Keeps every promise: reads ``user item`` lines, titles, and a feature of each item."""

    name = "pairs"

    class Parameters(ParameterSet):
        path: RawPath = parameter(..., "folder")

    parameters: Parameters

    @property
    def log(self) -> Path:
        return self.parameters.path / "log.txt"

    def interactions_recipe(self) -> Recipe:
        return Recipe(files={"log": self.log})

    def interactions(self) -> RawInteractions:
        try:
            lines = [line.split() for line in self.log.read_text().splitlines()]
        except FileNotFoundError:
            raise InputError(f"{self.log}: no such file") from None
        users, items = (sorted({line[column] for line in lines}) for column in (0, 1))
        return RawInteractions(
            users=np.array([users.index(user) for user, _ in lines]),
            items=np.array([items.index(item) for _, item in lines]),
            splits=np.full(len(lines), UNSPLIT, dtype=np.int8),
            user_count=len(users),
            item_count=len(items),
            origin=str(self.log),
            steps=(StepRecord(name="read", rows_in=len(lines), rows_out=len(lines)),),
            user_keys=pa.array(users),
            item_keys=pa.array(items),
        )

    def feature_recipes(self) -> Mapping[str, Recipe]:
        return {"image": Recipe(parameters={"width": 2})}

    def features(self, modality: str, item_count: int) -> np.ndarray:
        return np.ones((item_count, 2), dtype=np.float32)

    def item_recipe(self) -> Recipe:
        return Recipe(files={"items": self.log})

    def item_fields(self) -> list[str]:
        return ["title"]

    def item_records(
        self, fields: Collection[str], wanted: Collection[str]
    ) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        for number, item in enumerate(["i1", "i2"]):
            if item in wanted:
                yield f"line {number}", item, {"title": item.upper()} if "title" in fields else {}


class CountsFromOne(Pairs):
    def interactions(self) -> RawInteractions:
        found = super().interactions()
        return replace(found, users=found.users + 1)


class ReadsInAnyOrder(Pairs):
    reversed = False

    def interactions(self) -> RawInteractions:
        found = super().interactions()
        self.reversed = not self.reversed
        return (
            replace(found, users=found.users[::-1], items=found.items[::-1])
            if (self.reversed)
            else found
        )


class ForgetsAFile(Pairs):
    def feature_recipes(self) -> Mapping[str, Recipe]:
        return {"image": Recipe(files={"features": self.parameters.path / "gone.npy"})}


class StumblesOverAMissingFile(Pairs):
    def interactions(self) -> RawInteractions:
        try:
            return super().interactions()
        except InputError:
            raise InputError("something is missing") from None


class GivesTooFewRows(Pairs):
    def features(self, modality: str, item_count: int) -> np.ndarray:
        return np.ones((item_count - 1, 2), dtype=np.float32)


class GivesEveryItem(Pairs):
    def item_records(
        self, fields: Collection[str], wanted: Collection[str]
    ) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        return super().item_records(fields, {"i1", "i2"})


class NamesNoPlace(Pairs):
    def item_records(
        self, fields: Collection[str], wanted: Collection[str]
    ) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        for _, item, record in super().item_records(fields, wanted):
            yield "somewhere", item, record


BROKEN: list[tuple[str, type[Pairs], str]] = [
    ("test_interactions_are_whole_and_in_range", CountsFromOne, "user_count"),
    ("test_reading_again_gives_the_same", ReadsInAnyOrder, "Arrays are not equal"),
    (
        "test_a_recipe_is_the_same_for_the_same_source_and_names_files_that_exist",
        ForgetsAFile,
        r"gone\.npy",
    ),
    ("test_a_file_that_is_gone_is_refused_by_name", StumblesOverAMissingFile, "something is"),
    ("test_features_are_a_finite_row_per_item", GivesTooFewRows, "1 == 2"),
    (
        "test_item_records_are_of_the_wanted_items_and_fields",
        GivesEveryItem,
        r"not \[",
    ),
    ("test_item_records_are_of_the_wanted_items_and_fields", NamesNoPlace, "no line or row"),
]


def held(kind: type[Pairs]) -> SourceContract:
    class Held(SourceContract):
        def make(self, folder: Path) -> Source:
            (folder / "log.txt").write_text("u1 i1\nu2 i1\nu1 i2\n", "utf-8")
            return kind(kind.Parameters(path=folder))

    return Held()


@pytest.mark.parametrize(
    ("check", "kind", "reason"), BROKEN, ids=[kind.__name__ for _, kind, _ in BROKEN]
)
def test_a_broken_promise_is_found(
    check: str, kind: type[Pairs], reason: str, tmp_path: Path
) -> None:
    getattr(held(Pairs), check)(tmp_path)
    with pytest.raises(AssertionError, match=reason):
        getattr(held(kind), check)(tmp_path)


def test_every_check_can_fail() -> None:
    checks = {name for name in dir(SourceContract) if name.startswith("test_")}
    assert checks == {check for check, *_ in BROKEN}
