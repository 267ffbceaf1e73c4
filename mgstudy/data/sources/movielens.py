"""MovieLens as GroupLens distributes it: ml-100k, ml-1m and ml-25m.

https://grouplens.org/datasets/movielens/. The layouts differ in separator, header and encoding, and
are told apart by the files of the folder: ``u.data`` and ``u.item``, ``ratings.dat`` and
``movies.dat``, or ``ratings.csv`` and ``movies.csv``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from mgstudy.config.parameters import parameter
from mgstudy.data.interactions import RawInteractions
from mgstudy.data.logs import ITEM, RATING, TIME, USER, interactions_of
from mgstudy.data.reading import Malformed
from mgstudy.data.records import Column, read_delimited
from mgstudy.data.sources.base import LogParameters, RawPath, Recipe, Source
from mgstudy.data.sources.tabular import delimited_items
from mgstudy.errors import InputError

_RATINGS = ["userId", "movieId", "rating", "timestamp"]
_MOVIES = ["movieId", "title", "genres"]
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
    rating_delimiter: str
    movie_delimiter: str
    encoding: str
    has_header: bool
    movie_columns: list[str]


LAYOUTS = (
    _Layout(
        "u.data", "u.item", "\t", "|", "latin-1", False,
        ["movieId", "title", "release_date", "video_release_date", "url", *GENRES],
    ),
    _Layout("ratings.dat", "movies.dat", "::", "::", "latin-1", False, _MOVIES),
    _Layout("ratings.csv", "movies.csv", ",", ",", "utf-8", True, _MOVIES),
)  # fmt: skip


class MovieLens(Source):
    """MovieLens 100K, 1M or 25M as GroupLens distributes it."""

    name: ClassVar[str] = "movielens"

    class Parameters(LogParameters):
        path: RawPath = parameter(..., "folder of the unpacked archive, such as `ml-100k`")

    parameters: Parameters

    def interactions_recipe(self) -> Recipe:
        settings = self.parameters.model_dump(include={"malformed_share"})
        return Recipe(settings, {"ratings": self.parameters.path / self._layout().ratings})

    def interactions(self) -> RawInteractions:
        layout = self._layout()
        malformed = Malformed(
            self.parameters.path / layout.ratings, self.parameters.malformed_share
        )
        types = [Column(), Column(), Column(pa.float64()), Column(pa.int64(), is_time=True)]
        tables = read_delimited(
            malformed,
            dict(zip(_RATINGS, types, strict=True)),
            self.progress,
            layout.rating_delimiter,
            None if layout.has_header else _RATINGS,
            quoted=False,
        )
        names = dict(zip((USER, ITEM, RATING, TIME), _RATINGS, strict=True))
        return interactions_of(tables, names, malformed)

    def item_recipe(self) -> Recipe:
        settings = self.parameters.model_dump(include={"malformed_share", "duplicate_items"})
        return Recipe(settings, {"movies": self.parameters.path / self._layout().movies})

    def item_fields(self) -> list[str]:
        return ["title", "year", "genres"]

    def item_records(
        self, fields: Collection[str], wanted: Collection[str]
    ) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        layout = self._layout()
        for place, key, record in delimited_items(
            self.parameters.path / layout.movies,
            "movieId",
            layout.movie_columns,
            layout.movie_columns,
            wanted,
            self.progress,
            layout.movie_delimiter,
            None if layout.has_header else layout.movie_columns,
            self.parameters.malformed_share,
            layout.encoding,
            quoted=layout.has_header,
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
        folder: Path = self.parameters.path
        for layout in LAYOUTS:
            if (folder / layout.ratings).exists():
                return layout
        raise InputError(
            f"{folder}: holds none of {', '.join(layout.ratings for layout in LAYOUTS)}; set "
            "source.path to the folder of an unpacked MovieLens archive"
        )
