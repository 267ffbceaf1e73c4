"""MovieLens as GroupLens distributes it: ml-100k, ml-1m and ml-25m.

https://grouplens.org/datasets/movielens/. The layouts differ in separator, header and encoding, and
are told apart by the files of the folder: ``u.data`` and ``u.item``, ``ratings.dat`` and
``movies.dat``, or ``ratings.csv`` and ``movies.csv``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pyarrow as pa

from mgstudy.config.parameters import parameter
from mgstudy.data.delimited import Dialect, read_delimited
from mgstudy.data.reading import Malformed
from mgstudy.data.records import Columns
from mgstudy.data.sources.base import RawPath
from mgstudy.data.sources.logs import ItemRecords, LogColumns, LogParameters, LogSource
from mgstudy.errors import InputError
from mgstudy.files import listed

_RATINGS = ("userId", "movieId", "rating", "timestamp")
_MOVIES = ("movieId", "title", "genres")
GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary",
    "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi",
    "Thriller", "War", "Western",
)  # fmt: skip
"""The flags at the end of each line of ml-100k's ``u.item``, in order."""
_YEAR = re.compile(r"^(.*?)\s*\((\d{4})\)\s*$")


@dataclass(frozen=True)
class _Layout:
    ratings: str
    movies: str
    rating_dialect: Dialect
    movie_dialect: Dialect
    movie_columns: tuple[str, ...] = _MOVIES


_FLAGGED = ("movieId", "title", "release_date", "video_release_date", "url", *GENRES)
LAYOUTS = (
    _Layout(
        "u.data",
        "u.item",
        Dialect("\t", _RATINGS, quoted=False),
        Dialect("|", _FLAGGED, "latin-1", quoted=False),
        _FLAGGED,
    ),
    _Layout(
        "ratings.dat",
        "movies.dat",
        Dialect("::", _RATINGS, quoted=False),
        Dialect("::", _MOVIES, "latin-1", quoted=False),
    ),
    _Layout("ratings.csv", "movies.csv", Dialect(",", quoted=False), Dialect(",")),
)


class MovieLens(LogSource):
    """MovieLens 100K, 1M or 25M as GroupLens distributes it."""

    name: ClassVar[str] = "movielens"
    version: ClassVar[int] = 2

    class Parameters(LogParameters):
        path: RawPath = parameter(..., "folder of the unpacked archive, such as `ml-100k`")

    parameters: Parameters

    def logs(self) -> list[Path]:
        return [self.parameters.path / self._layout().ratings]

    def items(self) -> Path | None:
        return self.parameters.path / self._layout().movies

    def columns(self) -> LogColumns:
        return LogColumns(*_RATINGS)

    def tables(self, malformed: Malformed, columns: Columns) -> Iterator[pa.Table]:
        return read_delimited(malformed, columns, self._layout().rating_dialect, self.progress)

    def item_fields(self) -> list[str]:
        return ["title", "year", "genres"]

    def records(
        self, malformed: Malformed, fields: Collection[str], wanted: Container[str]
    ) -> ItemRecords:
        layout = self._layout()
        for place, key, record in self.delimited_records(
            malformed, layout.movie_dialect, "movieId", layout.movie_columns, wanted
        ):
            if "genres" in record:
                genres = (record["genres"] or "").split("|")
            else:
                genres = [genre for genre in GENRES if record[genre] == "1"]
            title, year = record["title"] or "", None
            if match := _YEAR.match(title):
                title, year = match.groups()
            yield place, key, {"title": title, "year": year, "genres": genres}

    def _layout(self) -> _Layout:
        folder = self.parameters.path
        there = {path.name for path in listed(folder)}
        for layout in LAYOUTS:
            if layout.ratings in there:
                return layout
        raise InputError(
            f"{folder}: holds none of {', '.join(layout.ratings for layout in LAYOUTS)}; set "
            "source.path to the folder of an unpacked MovieLens archive"
        )
