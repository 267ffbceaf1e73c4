"""RecBole's atomic files: tab-separated tables whose header gives the type of each column.

https://recbole.io/atomic_files.html. ``NAME.inter`` has ``user_id:token``, ``item_id:token`` and
often ``rating:float`` and ``timestamp:float``; ``NAME.item`` has ``item_id:token`` and fields of
the types token, token_seq, float and float_seq. A sequence is separated by spaces.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from mgstudy.config.parameters import parameter
from mgstudy.data.interactions import RawInteractions
from mgstudy.data.logs import ITEM, RATING, TIME, USER, interactions_of
from mgstudy.data.reading import Malformed
from mgstudy.data.records import Column, read_delimited, read_header
from mgstudy.data.sources.base import LogParameters, RawPath, Recipe, Source
from mgstudy.data.sources.tabular import delimited_items
from mgstudy.errors import InputError

TYPES = ("token", "token_seq", "float", "float_seq")


class RecBole(Source):
    """RecBole atomic files: `NAME.inter`, and `NAME.item` with the items' fields."""

    name: ClassVar[str] = "recbole"

    class Parameters(LogParameters):
        path: RawPath = parameter(..., "folder of the atomic files")
        dataset: str | None = parameter(
            None, "NAME of the files; by default that of the folder's only `*.inter`"
        )
        user: str = parameter("user_id", "column of the users")
        item: str = parameter("item_id", "column of the items")
        rating: str = parameter("rating", "column of the ratings, if there is one")
        timestamp: str = parameter("timestamp", "column of the times in seconds, if there is one")

    parameters: Parameters

    def resolved(self) -> RecBole:
        folder = self.parameters.path
        if not folder.is_dir():
            raise InputError(
                f"{folder}: no such folder; set source.path to where the data was downloaded"
            )
        if self.parameters.dataset is not None:
            return self
        names = sorted(path.stem for path in folder.glob("*.inter"))
        if len(names) != 1:
            raise InputError(
                f"{folder}: expected one *.inter file, found {', '.join(names) or 'none'}; name it "
                "in source.dataset"
            )
        return RecBole(self.parameters.model_copy(update={"dataset": names[0]}))

    def interactions_recipe(self) -> Recipe:
        names = {"malformed_share", "user", "item", "rating", "timestamp"}
        settings = self.parameters.model_dump(include=names)
        return Recipe(settings, {"interactions": self._file("inter")})

    def interactions(self) -> RawInteractions:
        settings = self.parameters
        path = self._file("inter")
        header = typed_header(path, read_header(path, self.progress, "\t", "utf-8"))
        names = {USER: settings.user, ITEM: settings.item}
        names |= {
            role: column
            for role, column in ((RATING, settings.rating), (TIME, settings.timestamp))
            if column in header
        }
        types = {USER: Column(), ITEM: Column(), RATING: Column(pa.float64())}
        types[TIME] = Column(pa.float64(), is_time=True)
        columns = {}
        for role, name in names.items():
            if name not in header:
                raise InputError(
                    f"{path}: line 1: no column {name!r}; the header has {', '.join(header)}; set "
                    f"source.{role}"
                )
            columns[f"{name}:{header[name]}"] = types[role]
        full = {role: f"{name}:{header[name]}" for role, name in names.items()}
        malformed = Malformed(path, settings.malformed_share)
        tables = read_delimited(malformed, columns, self.progress, "\t", quoted=False)
        return interactions_of(tables, full, malformed)

    def item_recipe(self) -> Recipe:
        settings = self.parameters.model_dump(
            include={"malformed_share", "duplicate_items", "item"}
        )
        path = self._file("item")
        return Recipe(settings, {"items": path} if path.exists() else {})

    def item_fields(self) -> list[str]:
        path = self._file("item")
        if not path.exists():
            return []
        return list(typed_header(path, read_header(path, self.progress, "\t", "utf-8")))

    def item_records(
        self, fields: Collection[str], wanted: Collection[str]
    ) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        path, key = self._file("item"), self.parameters.item
        if not path.exists():
            yield from super().item_records(fields, wanted)
            return
        header = typed_header(path, read_header(path, self.progress, "\t", "utf-8"))
        if key not in header:
            raise InputError(f"{path}: line 1: no column {key!r}; set source.item")
        typed = {name: f"{name}:{kind}" for name, kind in header.items()}
        for place, item, record in delimited_items(
            path,
            typed[key],
            list(typed.values()),
            {typed[name] for name in fields if name in typed},
            wanted,
            self.progress,
            "\t",
            malformed_share=self.parameters.malformed_share,
            quoted=False,
        ):
            values = {
                name: _value(record[typed[name]], kind)
                for name, kind in header.items()
                if typed[name] in record
            }
            yield place, item, values

    def _file(self, kind: str) -> Path:
        assert self.parameters.dataset is not None, "the source is resolved first"
        return self.parameters.path / f"{self.parameters.dataset}.{kind}"


def typed_header(path: Path, names: list[str]) -> dict[str, str]:
    """Column to its type.

    Raises:
        InputError: If a column has no type that RecBole knows.
    """
    header = {}
    for written in names:
        name, _, kind = written.rpartition(":")
        if kind not in TYPES:
            raise InputError(
                f"{path}: line 1: column {written!r} has no type; expected NAME:TYPE with one of "
                f"the types {', '.join(TYPES)}"
            )
        header[name] = kind
    return header


def _value(text: str | None, kind: str) -> Any:
    if kind.endswith("_seq"):
        return (text or "").split()
    return text
