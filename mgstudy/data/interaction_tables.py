"""From a source to the tables of interactions and ids; what making every table has in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mgstudy.data.interactions import SPLITS, UNSPLIT, RawInteractions
from mgstudy.data.layouts import ids_content, interactions_content
from mgstudy.data.source_files import SourceFile
from mgstudy.data.sources.base import Recipe, Source
from mgstudy.data.steps.base import Step
from mgstudy.data.steps.base import steps as installed_steps
from mgstudy.data.steps.cold_start import ColdStart
from mgstudy.data.tables import FORMAT, StoredTable, TableContent, TableStore, read_facts
from mgstudy.errors import InputError
from mgstudy.files import Progress
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
        hashes = {role: self.files[path].sha256 for role, path in recipe.files.items()}
        for role, paths in recipe.folders.items():
            named = [[path.name, self.files[path].sha256] for path in paths]
            hashes[role] = fingerprint({"files": named})
        return {
            kind: name,
            f"{kind}_version": version,
            f"{kind}_parameters": dict(recipe.parameters),
            f"{kind}_sha256": hashes,
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
    """The table of the interactions, and of what the raw data calls users and items, where it does
    not count them from 0 itself, and of the items' domains, where there are some."""
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
        if kept.domains:
            facts["domains"] = list(kept.domains)
        return interactions_content(kept, facts)

    def domains() -> pa.Array:
        kept = read()
        assert kept.item_domains is not None
        return pa.DictionaryArray.from_arrays(kept.item_domains, kept.domains).cast(pa.string())

    stored = maker.ensure("interactions", made_from, interactions)
    facts = maker.facts(stored)
    names: dict[str, Callable[[], pa.Array]] = {}
    if "items" in facts:
        names = {"user_ids": lambda: read().user_keys, "item_ids": lambda: read().item_keys}
    if "domains" in facts:
        names["item_domains"] = domains
    return stored, {
        table: maker.ensure(table, made_from, partial(_ids, of)) for table, of in names.items()
    }


def _read_and_split(source: Source, steps: Sequence[Step]) -> RawInteractions:
    of_domains = source.domain_interactions()
    if of_domains:
        own = [isinstance(step, ColdStart) for step in steps].index(True)
        before_cold_start, steps = steps[:own], steps[own:]
        for name, rows in of_domains.items():
            for step in before_cold_start:
                of_domains[name] = _after(step, of_domains[name], rows.origin)
        raw = interactions = split = source.joined(of_domains)
    else:
        raw = interactions = split = source.interactions()
    for step in steps:
        if isinstance(step, ColdStart) and (interactions.splits == UNSPLIT).any():
            splits = [name for name in installed_steps.names() if name.startswith("split_")]
            raise InputError(
                f"{raw.origin}: the interactions are in no split; declare one of "
                f"{', '.join(splits)} under `steps`, before cold_start"
            )
        split = interactions if isinstance(step, ColdStart) else split
        interactions = _after(step, interactions, raw.origin)
    for code, name in enumerate(SPLITS):
        had, has = (int(np.sum(rows.splits == code)) for rows in (split, interactions))
        if not has:
            why = f": all {had:,} are of users without training interactions" if had else ""
            raise InputError(f"{raw.origin}: the {name} split is empty{why}")
    return interactions


def _ids(of: Callable[[], pa.Array], facts: dict[str, Any]) -> TableContent:
    return ids_content(of(), facts)


def _after(step: Step, interactions: RawInteractions, origin: str) -> RawInteractions:
    """What a step leaves, which must be something."""
    kept = step.apply(interactions)
    if not isinstance(step, ColdStart) and not len(kept):
        raise InputError(
            f"{origin}: the step {step.name!r} leaves nothing of {len(interactions):,} interactions"
        )
    return kept
