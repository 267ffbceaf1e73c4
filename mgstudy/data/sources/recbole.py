"""RecBole's atomic files: tab-separated tables whose header gives the type of each column.

https://recbole.io/atomic_files.html. ``NAME.inter`` has ``user_id:token``, ``item_id:token`` and
often ``rating:float`` and ``timestamp:float``; ``NAME.item`` has ``item_id:token`` and fields of
the types token, token_seq, float and float_seq. A sequence is separated by spaces. Interactions
that are split already lie in ``NAME.train.inter``, ``NAME.valid.inter`` and ``NAME.test.inter``
(RecBole's ``benchmark_filename``).
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
from pydantic import field_validator

from mgstudy.config.parameters import parameter
from mgstudy.data.delimited import Dialect, read_delimited, read_header
from mgstudy.data.reading import Malformed
from mgstudy.data.records import Columns
from mgstudy.data.sources.base import RawPath, names_in, only_one
from mgstudy.data.sources.logs import ItemRecords, LogColumns, LogParameters, LogSource
from mgstudy.errors import InputError
from mgstudy.files import listed

TYPES = ("token", "token_seq", "float", "float_seq")
SPLIT_FILES = ["train", "valid", "test"]
_DIALECT = Dialect("\t", quoted=False)


class RecBole(LogSource):
    """RecBole atomic files: `NAME.inter`, whole or split, and `NAME.item` with items' fields."""

    name: ClassVar[str] = "recbole"
    time_type = pa.float64()
    interactions_settings = ("user", "item", "rating", "timestamp")
    items_settings = ("item",)

    class Parameters(LogParameters):
        path: RawPath = parameter(..., "folder of the atomic files")
        dataset: str | None = parameter(
            None, "NAME of the files; by default that of the folder's only `*.inter`"
        )
        splits: list[str] | None = parameter(
            None,
            "what follows NAME in the files of interactions that are split already, for training, "
            "validation and test; by default `[train, valid, test]` where there are such files and "
            "no `NAME.inter`; [] for one file",
        )
        user: str = parameter("user_id", "column of the users")
        item: str = parameter("item_id", "column of the items")
        rating: str = parameter("rating", "column of the ratings, if there is one")
        timestamp: str = parameter("timestamp", "column of the times, if there is one")

        @field_validator("splits")
        @classmethod
        def _three_or_none(cls, splits: list[str] | None) -> list[str] | None:
            if splits and len(set(splits)) != 3:
                raise ValueError(f"expected three different endings, or none, got {splits}")
            return splits

    parameters: Parameters

    def resolved(self) -> RecBole:
        settings, splits = self.parameters, self.parameters.splits
        there, endings = names_in(settings.path), SPLIT_FILES if splits is None else splits
        files = {name.removesuffix(".inter") for name in there if name.endswith(".inter")}
        parts = {
            name: {f"{name}.{ending}" for ending in endings}
            for name in {file.rpartition(".")[0] for file in files}
        }
        split = {name for name, expected in parts.items() if expected and expected <= files}
        names = split if splits else files.difference(*(parts[name] for name in split)) | split
        expected = f"NAME.{endings[0]}.inter" if splits else "*.inter file"
        dataset = settings.dataset or only_one(names, expected, settings.path, "source.dataset")
        if splits is None:
            splits = SPLIT_FILES if dataset in split - files else []
        return RecBole(settings.model_copy(update={"dataset": dataset, "splits": splits}))

    def logs(self) -> list[Path]:
        endings = [f"{split}.inter" for split in self.parameters.splits or ()] or ["inter"]
        return [self._file(ending) for ending in endings]

    def items(self) -> Path | None:
        path = self._file("item")
        return path if path in listed(path.parent) else None

    def columns(self) -> LogColumns:
        path = self.logs()[0]
        header = self._header(path)
        columns = {}
        for role in LogColumns._fields:
            name = getattr(self.parameters, role)
            if name in header:
                columns[role] = f"{name}:{header[name]}"
            elif role in ("user", "item"):
                raise InputError(
                    f"{path}: line 1: no column {name!r}; the header has {', '.join(header)}; set "
                    f"source.{role}"
                )
        return LogColumns(**columns)

    def tables(self, malformed: Malformed, columns: Columns) -> Iterator[pa.Table]:
        return read_delimited(malformed, columns, _DIALECT, self.progress)

    def item_fields(self) -> list[str]:
        path = self.items()
        return list(self._header(path)) if path else []

    def records(
        self, malformed: Malformed, fields: Collection[str], wanted: Container[str]
    ) -> ItemRecords:
        path, key = malformed.path, self.parameters.item
        header = self._header(path)
        if key not in header:
            raise InputError(f"{path}: line 1: no column {key!r}; set source.item")
        typed = {
            f"{name}:{kind}": (name, kind)
            for name, kind in header.items()
            if name == key or name in fields
        }
        for place, item, record in self.delimited_records(
            malformed, _DIALECT, f"{key}:{header[key]}", typed, wanted
        ):
            values = {name: _value(record[full], kind) for full, (name, kind) in typed.items()}
            yield place, item, values

    def _header(self, path: Path) -> dict[str, str]:
        return typed_header(path, read_header(path, _DIALECT, self.progress))

    def _file(self, kind: str) -> Path:
        assert self.parameters.dataset is not None, "the source is resolved first"
        return self.parameters.path / f"{self.parameters.dataset}.{kind}"


def typed_header(path: Path, names: Iterable[str]) -> dict[str, str]:
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
