"""Amazon reviews of 2014 (McAuley et al.): reviews or ratings, and metadata.

https://cseweb.ucsd.edu/~jmcauley/datasets/amazon/links.html. Reviews are JSON lines
(``reviews_CATEGORY_5.json.gz``: reviewerID, asin, overall, unixReviewTime) or a CSV without header
(``ratings_CATEGORY.csv``: user, item, rating, timestamp). Metadata (``meta_CATEGORY.json.gz``) has
one record per line, written as a Python literal. The vectors of ``image_features_CATEGORY.b`` are
read by the encoder ``precomputed``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, ClassVar

import pyarrow as pa

from mgstudy.config.parameters import parameter
from mgstudy.data.interactions import RawInteractions
from mgstudy.data.logs import ITEM, RATING, TIME, USER, interactions_of
from mgstudy.data.reading import Malformed
from mgstudy.data.records import (
    Column,
    Unit,
    read_delimited,
    read_item_records,
    read_json_lines,
)
from mgstudy.data.sources.base import LogParameters, RawPath, Recipe, Source

CATEGORY_PATH = "category_path"
"""The elements of an item's first category path: what the published sentences are made of."""


class Amazon2014(Source):
    """Amazon reviews 2014: JSON lines or a ratings CSV, and metadata."""

    name: ClassVar[str] = "amazon_2014"

    class Parameters(LogParameters):
        reviews: RawPath = parameter(
            ..., "`reviews_CATEGORY_5.json.gz`, or a `ratings_CATEGORY.csv` without header"
        )
        metadata: RawPath | None = parameter(None, "`meta_CATEGORY.json.gz`")
        timestamp_unit: Unit = parameter("seconds", "of the timestamps")

    parameters: Parameters

    def interactions_recipe(self) -> Recipe:
        settings = self.parameters.model_dump(include={"malformed_share", "timestamp_unit"})
        return Recipe(settings, {"reviews": self.parameters.reviews})

    def interactions(self) -> RawInteractions:
        path, unit = self.parameters.reviews, self.parameters.timestamp_unit
        malformed = Malformed(path, self.parameters.malformed_share)
        time = Column(pa.int64(), is_time=unit == "seconds")
        if ".csv" in path.suffixes:
            names = {USER: "user", ITEM: "item", RATING: "rating", TIME: "timestamp"}
            types = [Column(), Column(), Column(pa.float64()), time]
            columns = dict(zip(names.values(), types, strict=True))
            header = list(columns)
            tables = read_delimited(malformed, columns, self.progress, ",", header, quoted=False)
        else:
            names = {USER: "reviewerID", ITEM: "asin", RATING: "overall", TIME: "unixReviewTime"}
            types = [Column(), Column(), Column(pa.float64()), time]
            columns = dict(zip(names.values(), types, strict=True))
            tables = read_json_lines(malformed, columns, self.progress)
        return interactions_of(tables, names, malformed, unit)

    def item_recipe(self) -> Recipe:
        settings = self.parameters.model_dump(include={"malformed_share", "duplicate_items"})
        path = self.parameters.metadata
        return Recipe(settings, {"metadata": path} if path else {})

    def item_fields(self) -> list[str]:
        return ["title", "brand", "price", "description", "categories", CATEGORY_PATH, "imUrl"]

    def item_records(
        self, fields: Collection[str], wanted: Collection[str]
    ) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        path = self.parameters.metadata
        if path is None:
            yield from super().item_records(fields, wanted)
            return
        malformed = Malformed(path, self.parameters.malformed_share)
        for line, key, record in read_item_records(malformed, "asin", wanted, self.progress):
            paths = record.get("categories")
            first = paths[0] if isinstance(paths, list) and paths else []
            yield f"{path}: line {line}", key, {**record, CATEGORY_PATH: first}
