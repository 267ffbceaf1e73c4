"""Amazon Reviews 2023 (Hou et al.): reviews and metadata as JSON lines.

https://amazon-reviews-2023.github.io. An item is a ``parent_asin``: the metadata has one record for
all variants of a product. Timestamps are in milliseconds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, ClassVar

import pyarrow as pa

from mgstudy.config.parameters import parameter
from mgstudy.data.interactions import RawInteractions
from mgstudy.data.logs import ITEM, RATING, TIME, USER, interactions_of
from mgstudy.data.reading import Malformed
from mgstudy.data.records import Column, Unit, read_item_records, read_json_lines
from mgstudy.data.sources.base import LogParameters, RawPath, Recipe, Source

_KEY = "parent_asin"


class Amazon2023(Source):
    """Amazon Reviews 2023: reviews and metadata as JSON lines."""

    name: ClassVar[str] = "amazon_2023"

    class Parameters(LogParameters):
        reviews: RawPath = parameter(..., "`CATEGORY.jsonl.gz`: the reviews")
        metadata: RawPath | None = parameter(None, "`meta_CATEGORY.jsonl.gz`")
        timestamp_unit: Unit = parameter("milliseconds", "of the timestamps")

    parameters: Parameters

    def interactions_recipe(self) -> Recipe:
        settings = self.parameters.model_dump(include={"malformed_share", "timestamp_unit"})
        return Recipe(settings, {"reviews": self.parameters.reviews})

    def interactions(self) -> RawInteractions:
        unit = self.parameters.timestamp_unit
        malformed = Malformed(self.parameters.reviews, self.parameters.malformed_share)
        names = {USER: "user_id", ITEM: _KEY, RATING: "rating", TIME: "timestamp"}
        time = Column(pa.int64(), is_time=unit == "seconds")
        types = [Column(), Column(), Column(pa.float64()), time]
        columns = dict(zip(names.values(), types, strict=True))
        tables = read_json_lines(malformed, columns, self.progress)
        return interactions_of(tables, names, malformed, unit)

    def item_recipe(self) -> Recipe:
        settings = self.parameters.model_dump(include={"malformed_share", "duplicate_items"})
        path = self.parameters.metadata
        return Recipe(settings, {"metadata": path} if path else {})

    def item_fields(self) -> list[str]:
        return ["title", "store", "main_category", "categories", "features", "description", "price"]

    def item_records(
        self, fields: Collection[str], wanted: Collection[str]
    ) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        path = self.parameters.metadata
        if path is None:
            yield from super().item_records(fields, wanted)
            return
        malformed = Malformed(path, self.parameters.malformed_share)
        for line, key, record in read_item_records(malformed, _KEY, wanted, self.progress):
            yield f"{path}: line {line}", key, record
