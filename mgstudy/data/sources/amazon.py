"""Amazon reviews as McAuley's group distributes them, of 2014 and of 2023.

2014, https://cseweb.ucsd.edu/~jmcauley/datasets/amazon/links.html (McAuley et al.): reviews are
JSON lines (``reviews_CATEGORY_5.json.gz``: reviewerID, asin, overall, unixReviewTime) or a CSV
without header (``ratings_CATEGORY.csv``: user, item, rating, timestamp; those of 2018,
https://nijianmo.github.io/amazon, begin with the item). Metadata
(``meta_CATEGORY.json.gz``) has one record per line, written as a Python literal. The vectors of
``image_features_CATEGORY.b`` are read by the encoder ``precomputed``.

2023, https://amazon-reviews-2023.github.io (Hou et al.): reviews and metadata are JSON lines. An
item is a ``parent_asin``: the metadata has one record for all variants of a product. Timestamps are
in milliseconds.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import pyarrow as pa
import pyarrow.compute as pc

from mgstudy.config.parameters import parameter
from mgstudy.data.delimited import Dialect, read_delimited
from mgstudy.data.interactions import RawInteractions
from mgstudy.data.reading import Malformed
from mgstudy.data.records import Columns, Unit, read_item_records, read_json_lines
from mgstudy.data.sources.base import RawPath
from mgstudy.data.sources.logs import ItemRecords, LogColumns, LogParameters, LogSource
from mgstudy.errors import InputError

CATEGORY_PATH = "category_path"
"""The elements of an item's first category path: what the published sentences are made of."""
_USER, _ITEM = "^A[0-9A-Z]{11,}$", "^[0-9A-Z]{10}$"
"""What Amazon calls nearly all of its users and items."""


class _Amazon(LogSource):
    """Reviews, and metadata as one record per line."""

    key: ClassVar[str]
    """What a record of the metadata calls its item."""

    class Parameters(LogParameters):
        reviews: RawPath = parameter(..., "`CATEGORY.jsonl.gz`: the reviews")
        metadata: RawPath | None = parameter(None, "`meta_CATEGORY.jsonl.gz`")

    parameters: Parameters

    def logs(self) -> list[Path]:
        return [self.parameters.reviews]

    def items(self) -> Path | None:
        return self.parameters.metadata

    def tables(self, malformed: Malformed, columns: Columns) -> Iterator[pa.Table]:
        return read_json_lines(malformed, columns, self.progress)

    def records(
        self, malformed: Malformed, fields: Collection[str], wanted: Container[str]
    ) -> ItemRecords:
        for line, item, record in read_item_records(malformed, self.key, wanted, self.progress):
            yield f"{malformed.path}: line {line}", item, record


class Amazon2014(_Amazon):
    """Amazon reviews 2014: JSON lines or a ratings CSV, and metadata."""

    name: ClassVar[str] = "amazon_2014"
    key = "asin"

    class Parameters(_Amazon.Parameters):
        reviews: RawPath = parameter(
            ..., "`reviews_CATEGORY_5.json.gz`, or a `ratings_CATEGORY.csv` without header"
        )
        metadata: RawPath | None = parameter(None, "`meta_CATEGORY.json.gz`")
        first_column: Literal["user", "item"] = parameter(
            "user", "of a ratings CSV; `item` in those of 2018"
        )

    parameters: Parameters
    interactions_settings = ("first_column",)

    def columns(self) -> LogColumns:
        if self._is_csv:
            return LogColumns("user", "item", "rating", "timestamp")
        return LogColumns("reviewerID", self.key, "overall", "unixReviewTime")

    def tables(self, malformed: Malformed, columns: Columns) -> Iterator[pa.Table]:
        if not self._is_csv:
            return super().tables(malformed, columns)
        first = self.parameters.first_column
        header = (first, *(name for name in columns if name != first))
        dialect = Dialect(",", header=header, quoted=False)
        return read_delimited(malformed, columns, dialect, self.progress)

    def interactions(self) -> RawInteractions:
        found = super().interactions()
        users: Any = found.user_keys
        items: Any = found.item_keys
        # Both are text: nothing else would tell that they have changed places.
        if self._is_csv and _are(_USER, items) and _are(_ITEM, users):
            first = self.parameters.first_column
            raise InputError(
                f"{found.origin}: has items such as {users[0].as_py()!r} for users, and users such "
                f"as {items[0].as_py()!r} for items; set "
                f"source.first_column: {'item' if first == 'user' else 'user'}"
            )
        return found

    def item_fields(self) -> list[str]:
        return ["title", "brand", "price", "description", "categories", CATEGORY_PATH, "imUrl"]

    def records(
        self, malformed: Malformed, fields: Collection[str], wanted: Container[str]
    ) -> ItemRecords:
        for place, item, record in super().records(malformed, fields, wanted):
            paths = record.get("categories")
            first = paths[0] if isinstance(paths, list) and paths else []
            yield place, item, {**record, CATEGORY_PATH: first}

    @property
    def _is_csv(self) -> bool:
        return ".csv" in self.parameters.reviews.suffixes


class Amazon2023(_Amazon):
    """Amazon Reviews 2023: reviews and metadata as JSON lines."""

    name: ClassVar[str] = "amazon_2023"
    key = "parent_asin"

    class Parameters(_Amazon.Parameters):
        timestamp_unit: Unit = parameter("milliseconds", "of the times since 1970")

    parameters: Parameters

    def columns(self) -> LogColumns:
        return LogColumns("user_id", self.key, "rating", "timestamp")

    def item_fields(self) -> list[str]:
        return ["title", "store", "main_category", "categories", "features", "description", "price"]


def _are(pattern: str, names: Any) -> bool:
    """Whether most of them are of a form."""
    return bool(pc.mean(pc.match_substring_regex(names, pattern)).as_py() > 0.5)
