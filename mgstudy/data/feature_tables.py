"""From items to the table of one modality, in stages that are kept under keys of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mgstudy.data.encoded_rows import EncodedRows
from mgstudy.data.encoder import Encoded, Encoder, EncoderParameters, FeatureStep, Items, Missing
from mgstudy.data.interaction_tables import TableMaker
from mgstudy.data.layouts import features_content, read_features, read_known
from mgstudy.data.manifest import FeatureTable
from mgstudy.data.sources.base import Recipe, Source
from mgstudy.data.tables import StoredTable, TableContent, TableStore, read_as_written
from mgstudy.environment import package_versions
from mgstudy.errors import InputError
from mgstudy.fingerprint import fingerprint

_ROWS_AT_ONCE = 4096


class OwnTable(Encoder):
    """The table of a modality that the source itself brings.

    Args:
        source: The source.
        modality: The modality.
    """

    name: ClassVar[str] = "source"
    keeps_unfilled: ClassVar[bool] = False
    reads_records = False

    def __init__(self, source: Source, modality: str) -> None:
        super().__init__(EncoderParameters())
        self.source, self.modality = source, modality

    def recipe(self) -> Recipe:
        recipes = self.source.feature_recipes()
        if self.modality not in recipes:
            known = ", ".join(recipes) or "none"
            raise InputError(
                f"features.{self.modality}.encoder: the source {self.source.name!r} brings no "
                f"table of this modality; it brings {known}"
            )
        return recipes[self.modality]

    def encode(self, items: Items) -> Encoded:
        rows, count = np.arange(items.count), items.count
        if items.keys is not None:
            rows = self.source.feature_rows(items.keys)
            count = self.source.interactions().item_count
        table = self.source.features(self.modality, count)
        known = self.source.observed(self.modality, count)[rows]

        def place(row: int, column: int) -> str:
            return self.source.place(self.modality, int(rows[row]), column)

        # Without keys the rows are the table's own, which may be mapped from a file.
        return Encoded(table if items.keys is None else table[rows], known, place)


@dataclass(frozen=True)
class FeatureMaker:
    """Makes the table of one modality.

    Attributes:
        tables: Makes and keeps what the dataset is made of.
        modality: Its name.
        items: The items it is made for.
        items_identity: Everything that tells these items from others, JSON-like.
    """

    tables: TableMaker
    modality: str
    items: Items
    items_identity: Any

    def ensure(self, encoder: Encoder, steps: Sequence[FeatureStep]) -> FeatureTable:
        """The table that an encoder and then these steps make, as the manifest lists it."""
        stages = self._encoded(encoder)
        known = read_known(self.tables.store.path(stages[0].key))
        for step in steps:
            made_from = {"step": step.content()}
            if known is not None and not known.all():
                made_from["learnt_from"] = "known items"
            stages.append(self._after(stages[-1], made_from, partial(step.apply, observed=known)))
        *before, last = stages
        facts = self.tables.facts(last)
        with read_as_written(self.tables.store.path(last.key)):
            return FeatureTable(
                **last.model_dump(),
                shape=facts["shape"],
                encoder=facts["encoder"],
                missing=facts["missing"],
                stages=tuple(before),
            )

    def _encoded(self, encoder: Encoder) -> list[StoredTable]:
        """What an encoder makes of the items, and with the missing ones filled."""
        choice = encoder.parameters.missing
        made_from = {**self._origin(encoder), "items": self.items_identity}
        if not encoder.keeps_unfilled:
            made_from["missing_filled_with"] = choice
        store = self.tables.store.folder
        rows = EncodedRows(store / f".{self.modality}-{fingerprint(made_from)}.partial")
        encode = partial(self._encode, encoder, replace(self.items, encoded=rows))
        first = self.tables.ensure(self.modality, made_from, encode)
        rows.discard()
        if not (encoder.keeps_unfilled and self.tables.facts(first).get("missing")):
            return [first]
        known = read_known(self.tables.store.path(first.key))
        assert known is not None

        def filled(values: NDArray[np.float32]) -> NDArray[np.floating[Any]]:
            return fill(values, known, choice, self.items.source.item_origin())

        self._refuse_missing(known, choice)
        return [first, self._after(first, {"missing_filled_with": choice}, filled)]

    def _origin(self, encoder: Encoder) -> dict[str, Any]:
        if isinstance(encoder, OwnTable):
            return {"encoder": None, **self.tables.source_origin(encoder.recipe())}
        origin = self.tables.origin("encoder", encoder.name, encoder.version, encoder.recipe())
        if encoder.reads_records:
            origin["records"] = self.tables.source_origin(self.items.source.item_recipe())
        return origin

    def _encode(self, encoder: Encoder, items: Items, facts: dict[str, Any]) -> TableContent:
        with items.encoded.held():
            encoded = encoder.encode(items)
        values, known = encoded.values, encoded.known
        facts |= {
            "modality": self.modality,
            "encoder_packages": package_versions(encoder.packages),
            "preprocessing": [f"{values.dtype} to float32"] if values.dtype != "float32" else [],
            "missing": int((~known).sum()),
        }
        if encoder.keeps_unfilled:
            return features_content(values, facts, encoded.place, known)
        choice = encoder.parameters.missing
        if known.all():
            return features_content(values, facts, encoded.place)
        if not isinstance(encoder, OwnTable):  # What a source brings is filled.
            self._refuse_missing(known, choice)
            values = fill(values, known, choice, self.items.source.item_origin())
        return features_content(values, facts, encoded.place, known, filled=True)

    def _after(
        self,
        before: StoredTable,
        made_from: Mapping[str, Any],
        change: Callable[[NDArray[np.float32]], NDArray[np.floating[Any]]],
    ) -> StoredTable:
        """What a change makes of a table."""

        def make(facts: dict[str, Any]) -> TableContent:
            facts = {**self.tables.facts(before), **facts}
            with read_as_written(self.tables.store.path(before.key)):
                facts["preprocessing"] += [made_from["step"]] if "step" in made_from else []
            values = change(read_features(self.tables.store.path(before.key)))
            return features_content(values, facts, partial(_place, self.modality))

        return self.tables.ensure(self.modality, {"made_from_table": before.key, **made_from}, make)

    def _refuse_missing(self, known: NDArray[np.bool_], choice: Missing) -> None:
        if choice == "error" and not known.all():
            items, missing = self.items, np.flatnonzero(~known)
            raise InputError(
                f"{items.source.item_origin()}: item {items.name(int(missing[0]))!r} has "
                f"interactions but no {self.modality} features, as have {len(missing):,} of "
                f"{items.count:,} items; set features.{self.modality}.missing to mean, zero or "
                "noise, or mend the file"
            )


def observed_rows(store: TableStore, modality: str, table: FeatureTable) -> NDArray[np.bool_]:
    """Which items had features in the raw data.

    Args:
        store: Where the table lies, and what it was made from.
        modality: The table's modality, for messages.
        table: As the manifest lists it.

    Raises:
        InputError: If that was not kept, or is not as it was written.
    """
    if not table.missing:
        return np.ones(table.shape[0], dtype=np.bool_)
    path = store.path(table.encoded.key)
    known = read_known(path)
    if known is None:
        raise InputError(
            f"it is not known which {table.missing:,} items lack {modality}: the dataset was "
            "prepared by an earlier version; prepare it again"
        )
    with read_as_written(path):
        if len(known) != table.shape[0]:
            raise InputError(f"has {len(known)} rows, expected {table.shape[0]}")
    return known


def fill(
    values: NDArray[np.floating[Any]], known: NDArray[np.bool_], choice: Missing, origin: str
) -> NDArray[np.floating[Any]]:
    """Fill the rows of unknown items, in place where the array can be written to.

    Args:
        values: Shape ``[items, width]``.
        known: Whether each row is known.
        choice: What the others get. Noise is normal, with the known rows' mean and deviation per
            column, and always the same.
        origin: Where the table comes from, for messages.

    Raises:
        InputError: If no row is known.
    """
    if known.all():
        return values
    if not known.any():
        raise InputError(f"{origin}: none of the {len(known):,} items has features")
    filled = values if values.flags.writeable else values.copy()
    missing = np.flatnonzero(~known)
    if choice == "zero":
        filled[missing] = 0
        return filled
    mean = mean_of_known(values, known)
    if not np.isfinite(mean).all():
        # A value that is not finite is named where it stands when the table is written.
        filled[missing] = 0
        return filled
    if choice == "mean":
        filled[missing] = mean
        return filled
    deviation = np.sqrt(mean_of_known(values, known, about=mean))
    generator = np.random.default_rng(0)
    filled[missing] = mean + deviation * generator.standard_normal((len(missing), len(mean)))
    return filled


def mean_of_known(
    values: NDArray[Any], known: NDArray[np.bool_], about: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Mean of the known rows, or of their squared distance, in blocks and in double precision."""
    total = np.zeros(values.shape[1])
    for start in range(0, len(values), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        block = values[rows][known[rows]].astype(np.float64)
        total += (block if about is None else (block - about) ** 2).sum(axis=0)
    mean: NDArray[np.float64] = total / known.sum()
    return mean


def _place(modality: str, row: int, column: int) -> str:
    return f"{modality} features of item {row}, column {column}"
