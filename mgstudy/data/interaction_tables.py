"""From a source to the tables of interactions and ids; what making every table has in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from mgstudy.data.interactions import SPLITS, UNSPLIT, RawInteractions
from mgstudy.data.layouts import ids_content, interactions_content
from mgstudy.data.sources.base import Recipe, Source
from mgstudy.data.steps.base import Step
from mgstudy.data.steps.base import steps as installed_steps
from mgstudy.data.steps.cold_start import ColdStart
from mgstudy.data.tables import FORMAT, StoredTable, TableContent, TableStore, read_facts
from mgstudy.errors import InputError
from mgstudy.files import Progress, SourceFile
from mgstudy.fingerprint import fingerprint


@dataclass(frozen=True)
class TableMaker:
    """Makes the tables of one dataset, each under a key of everything that it is made from.

    Attributes:
        dataset: The dataset's name.
        source: Where its data comes from.
        store: Where tables are kept.
        files: Raw files by path, as they are now.
        verify: Whether tables that are there must match their checksums, or are made again.
        progress: Told what is being done.
    """

    dataset: str
    source: Source
    store: TableStore
    files: Mapping[Path, SourceFile]
    verify: bool
    progress: Progress

    def origin(self, kind: str, name: str, version: int, recipe: Recipe) -> dict[str, Any]:
        """A part and all that its recipe names, for keys and for what a table says of itself."""
        return {
            kind: name,
            f"{kind}_version": version,
            f"{kind}_parameters": dict(recipe.parameters),
            f"{kind}_sha256": {
                role: self.files[path].sha256 for role, path in recipe.files.items()
            },
        }

    def source_origin(self, recipe: Recipe) -> dict[str, Any]:
        """The source and one of its recipes."""
        return self.origin("source", self.source.name, self.source.version, recipe)

    def ensure(
        self,
        content: str,
        made_from: Mapping[str, Any],
        make: Callable[[dict[str, Any]], TableContent],
    ) -> StoredTable:
        """Return a table, making it if it is not there.

        Args:
            content: What it holds.
            made_from: Everything that it is made from, JSON-like.
            make: Makes its content, given what the table is to say of itself at least.
        """
        key = fingerprint({"format": FORMAT, "content": content, **made_from})
        make_it = partial(make, {"dataset": self.dataset, **made_from})
        return self.store.ensure(f"{content}-{key}", make_it, self.verify, self.progress)

    def facts(self, table: StoredTable) -> dict[str, Any]:
        """What a table says about itself."""
        return read_facts(self.store.path(table.key))


def ensure_interactions(
    maker: TableMaker, steps: Sequence[Step]
) -> tuple[StoredTable, dict[str, StoredTable]]:
    """The table of the interactions, and of what the raw data calls users and items; there are
    none where it counts them from 0 itself."""
    made_from = {
        **maker.source_origin(maker.source.interactions_recipe()),
        "steps": [step.content() for step in steps],
    }

    @cache
    def read() -> RawInteractions:
        return _read_and_split(maker.source, steps)

    def interactions(facts: dict[str, Any]) -> TableContent:
        kept = read()
        facts |= {
            "shape": [len(kept), 3],
            "counts": kept.counts().model_dump(),
            "step_records": [record.model_dump(exclude_defaults=True) for record in kept.steps],
        }
        if kept.item_keys is not None:
            facts["items"] = {"keys": fingerprint({"keys": kept.item_keys.to_pylist()})}
        return interactions_content(kept, facts)

    stored = maker.ensure("interactions", made_from, interactions)
    if "items" not in maker.facts(stored):
        return stored, {}
    return stored, {
        "user_ids": maker.ensure(
            "user_ids", made_from, lambda facts: ids_content(read().user_keys, facts)
        ),
        "item_ids": maker.ensure(
            "item_ids", made_from, lambda facts: ids_content(read().item_keys, facts)
        ),
    }


def _read_and_split(source: Source, steps: Sequence[Step]) -> RawInteractions:
    raw = interactions = split = source.interactions()
    for step in steps:
        if isinstance(step, ColdStart) and (interactions.splits == UNSPLIT).any():
            splits = [name for name in installed_steps.names() if name.startswith("split_")]
            raise InputError(
                f"{raw.origin}: the interactions are in no split; declare one of "
                f"{', '.join(splits)} under `steps`, before cold_start"
            )
        before = interactions
        split = interactions if isinstance(step, ColdStart) else split
        interactions = step.apply(interactions)
        if not isinstance(step, ColdStart) and not len(interactions):
            raise InputError(
                f"{raw.origin}: the step {step.name!r} leaves nothing of {len(before):,} "
                "interactions"
            )
    for code, name in enumerate(SPLITS):
        had, has = (int(np.sum(rows.splits == code)) for rows in (split, interactions))
        if not has:
            why = f": all {had:,} are of users without training interactions" if had else ""
            raise InputError(f"{raw.origin}: the {name} split is empty{why}")
    return interactions
