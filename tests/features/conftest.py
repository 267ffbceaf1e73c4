"""A small catalogue and what encoders see of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mgstudy.config.pipeline import PipelineConfig
from mgstudy.data.encoded_rows import EncodedRows
from mgstudy.data.encoder import Encoded, Items
from mgstudy.data.pipeline import validate_pipeline
from mgstudy.files import Progress, no_progress

RECORDS = [
    {"parent_asin": "B1", "title": "Wooden train", "tags": ["toy", "wood"], "price": "10"},
    {"parent_asin": "B2", "title": "Steel train\nset", "tags": ["toy"], "price": 30},
    {"parent_asin": "B0", "title": "Not in the dataset", "tags": ["other"], "price": 99},
    {"parent_asin": "B3", "title": "Wooden spoon", "tags": ["wood", "kitchen"], "price": None},
    {"parent_asin": "B5", "title": None, "tags": []},
]
KEYS = ["B3", "B1", "B2", "B4", "B5"]
"""The dataset's items: B4 has no record, and B5's is empty."""


@pytest.fixture
def encode(tmp_path: Path) -> Callable[..., Encoded]:
    metadata = tmp_path / "meta.jsonl"

    def encode(
        encoder: str,
        *,
        records: list[dict[str, Any]] = RECORDS,
        keys: list[str] | None = KEYS,
        count: int | None = None,
        encoded: EncodedRows | None = None,
        progress: Progress = no_progress,
        **settings: Any,
    ) -> Encoded:
        metadata.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
        source = {"kind": "amazon_2023", "reviews": "r.jsonl", "metadata": str(metadata)}
        features = {"x": {"encoder": encoder, **settings}}
        config = {"name": "a", "source": source, "features": features}
        pipeline = validate_pipeline(PipelineConfig.model_validate(config))
        part = pipeline.features["x"].encoder
        assert part is not None
        keys_array = None if keys is None else pa.array(keys)
        items = Items(
            count or len(keys or ()),
            keys_array,
            pipeline.source,
            progress,
            encoded or EncodedRows(),
        )
        return part.resolved().encode(items)

    return encode
