"""A prepared dataset as a source: what was joined, encoded and split once is taken as it is.

Two prepared datasets become the domains of one by ``cross_domain``; one becomes another by further
steps, without its raw files and without encoding an item again.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mgstudy.config.parameters import ParameterSet, parameter
from mgstudy.config.pipeline import OWN_TABLE
from mgstudy.data.encoder import encoders
from mgstudy.data.feature_tables import observed_rows
from mgstudy.data.interactions import SPLITS, RawInteractions, StepRecord
from mgstudy.data.layouts import (
    read_features,
    read_ids,
    read_interactions,
    read_texts,
)
from mgstudy.data.manifest import Manifest
from mgstudy.data.sources.base import RawPath, Recipe, Source, rows_of
from mgstudy.data.tables import TableStore
from mgstudy.errors import InputError


class Prepared(Source):
    """A dataset that ``mgstudy prepare`` made: its interactions in their splits, its features and
    its texts, with what the raw data called users and items."""

    name: ClassVar[str] = "prepared"

    class Parameters(ParameterSet):
        path: RawPath = parameter(
            ...,
            "folder of the dataset, such as `.mgstudy/datasets/NAME`; relative to the current "
            "directory. Its splits are taken, too, unless a step splits anew",
        )

    parameters: Parameters

    @cached_property
    def _manifest(self) -> Manifest:
        path = self.parameters.path / "manifest.json"
        manifest = Manifest.read(path)
        if manifest is None:
            raise InputError(
                f"{path}: there is no such file; source.path is the folder of a prepared dataset, "
                "which `mgstudy data describe` lists"
            )
        if "item_domains" in manifest.id_maps:
            raise InputError(
                f"{path}: the dataset {manifest.name} consists of domains, which a source cannot; "
                "name what it was made from instead"
            )
        return manifest

    @cached_property
    def _store(self) -> TableStore:
        # A workspace's datasets and tables lie side by side.
        return TableStore(self.parameters.path.parent.parent / "tables")

    def _table(self, key: str) -> Path:
        """A table as it was written.

        Raises:
            InputError: If it is missing or damaged; loading the dataset once mends it.
        """
        self._store.check(key)
        return self._store.path(key)

    def interactions_recipe(self) -> Recipe:
        keys = {"interactions": self._manifest.interactions.key}
        keys |= {name: table.key for name, table in self._manifest.id_maps.items()}
        return Recipe(files={role: self._table(key) for role, key in keys.items()})

    def interactions(self) -> RawInteractions:
        manifest = self._manifest
        read = read_interactions(self._table(manifest.interactions.key))
        sizes = [len(read[name]) for name in SPLITS]
        splits = np.repeat(np.arange(len(SPLITS), dtype=np.int8), sizes)
        columns = {
            name: np.concatenate([getattr(read[split], name) for split in SPLITS])
            for name in read["train"].columns()
        }
        rows = len(splits)
        record = StepRecord(name=f"take {manifest.name} as prepared", rows_in=rows, rows_out=rows)
        return RawInteractions(
            users=columns["users"],
            items=columns["items"],
            splits=splits,
            user_count=manifest.counts.users,
            item_count=manifest.counts.items,
            origin=f"the dataset {manifest.name}",
            steps=(*manifest.steps, record),
            ratings=columns.get("ratings"),
            timestamps=columns.get("times"),
            user_keys=self._keys("user_ids"),
            item_keys=self._keys("item_ids"),
        )

    def feature_recipes(self) -> Mapping[str, Recipe]:
        return {
            modality: Recipe(files={"features": self._table(table.key)})
            for modality, table in self._manifest.features.items()
        }

    def features(self, modality: str, item_count: int) -> NDArray[np.floating[Any]]:
        return read_features(self._table(self._manifest.features[modality].key))

    def observed(self, modality: str, item_count: int) -> NDArray[np.bool_]:
        table = self._manifest.features[modality]
        if table.missing:
            self._store.check(table.encoded.key)
        return observed_rows(self._store, modality, table)

    def encoding(self, modality: str) -> Mapping[str, Any] | None:
        declared = self._manifest.pipeline.features.get(modality)
        if declared is None:
            return None
        names = ("library", "model", "revision", "weights")
        chosen = {name: declared.parameters.get(name) for name in names}
        made = {"encoder": declared.encoder, **{k: v for k, v in chosen.items() if v is not None}}
        own = declared.encoder == OWN_TABLE
        if declared.steps or (not own and encoders.get(declared.encoder).learns_from_items):
            made["learnt_from"] = self._manifest.name
        return made

    def feature_rows(self, keys: pa.Array) -> NDArray[np.int64]:
        named = self._keys("item_ids")
        if named is None:
            return super().feature_rows(keys)
        return rows_of(keys, named.to_pylist())

    def item_recipe(self) -> Recipe:
        texts = self._manifest.texts.items()
        return Recipe(files={name: self._table(table.key) for name, table in texts})

    def item_fields(self) -> list[str]:
        return list(self._manifest.texts)

    def item_records(
        self, fields: Collection[str], wanted: Container[str]
    ) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        texts = {
            name: read_texts(self._table(table.key))
            for name, table in self._manifest.texts.items()
            if name in fields
        }
        if not texts:
            yield from super().item_records(fields, wanted)
        named = self._keys("item_ids")
        for row in range(self._manifest.counts.items):
            item = str(row) if named is None else named[row].as_py()
            if item in wanted:
                record = {name: text[row] for name, text in texts.items()}
                yield f"the dataset {self._manifest.name}, item {row}", item, record

    def _keys(self, name: str) -> pa.Array | None:
        table = self._manifest.id_maps.get(name)
        return None if table is None else read_ids(self._table(table.key))
