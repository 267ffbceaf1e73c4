"""From items to one modality's table, in stages that are kept under keys of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mgstudy.data.encoder import Encoded, Encoder, FeatureStep, Items
from mgstudy.data.filling import fill, refuse_missing
from mgstudy.data.layouts import (
    FORMAT_VERSION,
    features_content,
    package_versions,
    read_features,
    read_known,
)
from mgstudy.data.manifest import FeatureTable
from mgstudy.data.tables import StoredTable, TableContent, TableStore, read_facts
from mgstudy.files import SourceFile
from mgstudy.fingerprint import fingerprint


@dataclass(frozen=True)
class ModalityMaker:
    """Makes the table of one modality.

    Attributes:
        modality: Its name.
        items: The items it is made for.
        items_identity: Everything that tells these items from others, JSON-like.
        store: Where tables are kept.
        files: Raw files by path, as they are now.
        facts: What every table says about itself.
        verify: Whether tables that are there must match their checksums, or are made again.
    """

    modality: str
    items: Items
    items_identity: Any
    store: TableStore
    files: Mapping[Path, SourceFile]
    facts: Mapping[str, Any]
    verify: bool

    def encoded(self, encoder: Encoder) -> list[StoredTable]:
        """What an encoder makes of the items, and with the missing ones filled."""
        made_from = self._made_from(encoder)
        if not encoder.keeps_unfilled:
            made_from["missing"] = encoder.parameters.missing
            key = self._key(made_from)
            return [self._ensure(key, partial(self._encode_and_fill, encoder))]
        first = self._ensure(self._key(made_from), partial(self._encode, encoder))
        if not read_facts(self.store.path(first.key))["missing"]:
            return [first]
        if encoder.parameters.missing == "error":
            known = read_known(self.store.path(first.key))
            refuse_missing(self.modality, self.items, known)
        filling = {"table": first.key, "missing": encoder.parameters.missing}
        make = partial(self._fill_stored, first.key, encoder)
        return [first, self._ensure(self._key(filling), make)]

    def stepped(self, table: StoredTable, step: FeatureStep) -> StoredTable:
        """What a step makes of a table."""
        key = self._key({"table": table.key, "step": step.content()})
        return self._ensure(key, partial(self._step, table.key, step))

    def described(self, stages: list[StoredTable]) -> FeatureTable:
        """The last of the stages, as the manifest lists it."""
        *before, last = stages
        facts = read_facts(self.store.path(last.key))
        return FeatureTable(
            **last.model_dump(),
            shape=facts["shape"],
            encoder=facts["encoder"],
            missing=facts.get("missing", 0),
            stages=tuple(before),
        )

    def _made_from(self, encoder: Encoder) -> dict[str, Any]:
        recipe, source = encoder.recipe(), self.items.source
        made_from = {
            "encoder": encoder.name,
            "encoder_version": encoder.version,
            "parameters": dict(recipe.parameters),
            "files": {role: self.files[path].sha256 for role, path in recipe.files.items()},
            "items": self.items_identity,
        }
        if encoder.reads_records:
            records = source.item_recipe()
            made_from["records"] = {
                "source": source.name,
                "source_version": source.version,
                "parameters": dict(records.parameters),
                "files": {role: self.files[path].sha256 for role, path in records.files.items()},
            }
        return made_from

    def _encode(self, encoder: Encoder) -> TableContent:
        encoded = encoder.encode(self.items)
        return features_content(
            encoded.values, self._facts(encoder, encoded), encoded.place, encoded.known
        )

    def _encode_and_fill(self, encoder: Encoder) -> TableContent:
        encoded = encoder.encode(self.items)
        missing = encoder.parameters.missing
        if not encoded.known.all() and missing == "error":
            refuse_missing(self.modality, self.items, encoded.known)
        values = fill(encoded.values, encoded.known, missing, self.items.source.item_origin())
        facts = {**self._facts(encoder, encoded), "missing_filled_with": missing}
        return features_content(values, facts, encoded.place)

    def _fill_stored(self, key: str, encoder: Encoder) -> TableContent:
        path, missing = self.store.path(key), encoder.parameters.missing
        known = read_known(path)
        values = fill(read_features(path), known, missing, self.items.source.item_origin())
        facts = {**read_facts(path), "made_from_table": key, "missing_filled_with": missing}
        return features_content(values, facts, partial(_place, self.modality))

    def _step(self, key: str, step: FeatureStep) -> TableContent:
        path = self.store.path(key)
        before = read_facts(path)
        table = step.apply(read_features(path))
        done = [*before.get("preprocessing", []), step.content()]
        facts = {**before, "made_from_table": key, "preprocessing": done}
        facts.pop("shape")
        return features_content(table, facts, partial(_place, self.modality))

    def _facts(self, encoder: Encoder, encoded: Encoded) -> dict[str, Any]:
        made_from = self._made_from(encoder)
        return {
            **self.facts,
            "modality": self.modality,
            "encoder": encoder.name,
            "encoder_version": encoder.version,
            "encoder_parameters": made_from["parameters"],
            "encoder_sha256": made_from["files"],
            "encoder_packages": package_versions(encoder.packages),
            "records": made_from.get("records"),
            "preprocessing": [],
            "missing": int((~encoded.known).sum()),
        }

    def _key(self, made_from: Mapping[str, Any]) -> str:
        content = {"format": FORMAT_VERSION, "content": self.modality, **made_from}
        return f"{self.modality}-{fingerprint(content)}"

    def _ensure(self, key: str, make: Any) -> StoredTable:
        return self.store.ensure(key, make, self.verify, self.items.progress)


def _place(modality: str, row: int, column: int) -> str:
    return f"{modality} features of item {row}, column {column}"
