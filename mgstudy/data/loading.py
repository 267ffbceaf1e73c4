"""Read prepared datasets from a workspace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mgstudy.config.factors import MissingModalities, name_fault
from mgstudy.data.dataset import Dataset, Interactions, ItemTexts
from mgstudy.data.derived import DerivedArrays
from mgstudy.data.encoder import FeatureStep
from mgstudy.data.feature_tables import fill, observed_rows
from mgstudy.data.interactions import Counts
from mgstudy.data.layouts import (
    read_features,
    read_ids,
    read_interactions,
    read_texts,
)
from mgstudy.data.manifest import Manifest
from mgstudy.data.missing import observed_after, taken
from mgstudy.data.pipeline import validate_pipeline
from mgstudy.data.prepare import encoded_without, with_tables
from mgstudy.data.tables import StoredTable, TableStore, read_as_written, read_facts
from mgstudy.errors import InputError, suggestion
from mgstudy.fingerprint import fingerprint, fingerprint_arrays
from mgstudy.workspace import Workspace


def load_dataset(workspace: Workspace, name: str) -> Dataset:
    """Read a prepared dataset, making damaged tables again from their source.

    Its fingerprints are the keys of its tables: what they were made from.

    Raises:
        InputError: If no dataset of that name is prepared, its manifest is not that of its tables,
            or a table is damaged and its source is gone or has changed.
    """
    manifest = read_manifest(workspace, name)
    features = manifest.features.values()
    read = [manifest.interactions, *features, *manifest.texts.values()]
    read += [table.encoded for table in features if table.missing]
    read += [table for name, table in manifest.id_maps.items() if name == "item_domains"]
    manifest = with_tables(manifest, workspace, read)
    store = TableStore(workspace.tables)
    interactions = store.path(manifest.interactions.key)
    facts = read_facts(interactions)
    if facts.get("counts") != manifest.counts.model_dump():
        raise InputError(
            f"{workspace.manifest(name)}: its counts are not those of {interactions.name}; prepare "
            "the dataset again"
        )
    splits = read_interactions(interactions)
    with read_as_written(interactions):
        _refuse_other_than(manifest.counts, splits)
        domains = _domains(store, manifest, facts["domains"]) if "domains" in facts else None
    return Dataset(
        name=name,
        user_count=manifest.counts.users,
        item_count=manifest.counts.items,
        **splits,
        features={
            modality: _features(store.path(table.key), manifest.counts.items, table.shape[1])
            for modality, table in manifest.features.items()
        },
        fingerprint=manifest.interactions.key,
        feature_fingerprints={modality: table.key for modality, table in manifest.features.items()},
        derived=DerivedArrays(workspace.derived),
        observed={
            modality: observed_rows(store, modality, table)
            for modality, table in manifest.features.items()
        },
        domains=tuple(facts.get("domains", ())),
        item_domains=domains,
        texts={
            name: ItemTexts(
                table.key, partial(_read_texts, workspace, table.key, manifest.counts.items)
            )
            for name, table in manifest.texts.items()
        },
    )


def raw_ids(workspace: Workspace, name: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """What the raw data calls the users and the items of a prepared dataset, by id: text, or
    numbers where it numbers them.

    Raises:
        InputError: If no dataset of that name is prepared.
    """
    manifest, store = read_manifest(workspace, name), TableStore(workspace.tables)
    counts = {"user_ids": manifest.counts.users, "item_ids": manifest.counts.items}
    found: list[NDArray[Any]] = []
    for kind, count in counts.items():
        table = manifest.id_maps.get(kind)
        if table is None:  # The raw data counts from 0 itself.
            found.append(np.arange(count))
            continue
        with_tables(manifest, workspace, [table])
        found.append(read_ids(store.path(table.key)).to_numpy(zero_copy_only=False))
    return found[0], found[1]


def load_without(
    workspace: Workspace, dataset: Dataset, missing: MissingModalities, label: str
) -> Dataset:
    """A prepared dataset without some of its items' modalities, as if they had never had them.

    What the pipeline's feature steps learn (a mean, principal components) is learnt again from the
    rows that are left, and the others become the mean of these until something else completes them.
    An encoder that learns from all items, such as ``tfidf_svd``, encodes those that are left anew,
    from the raw data.

    Args:
        workspace: Where the dataset is prepared.
        dataset: As ``load_dataset`` gives it.
        missing: What is taken.
        label: What the new dataset is called.

    Raises:
        InputError: If the pattern cannot take so much, or raw data is needed and gone.
    """
    masks = taken(dataset, missing)
    observed = observed_after(dataset, masks)
    manifest, store = read_manifest(workspace, dataset.name), TableStore(workspace.tables)
    plans = validate_pipeline(manifest.pipeline).features
    tables, fingerprints = dict(dataset.features), dict(dataset.feature_fingerprints)
    for modality in [name for name, mask in masks.items() if mask.any()]:
        plan = plans.get(modality)
        steps = plan.steps if plan else ()
        anew = plan is not None and plan.encoder is not None and plan.encoder.learns_from_items
        made = [*manifest.features[modality].stages, manifest.features[modality]]
        before_steps = made[-1 - len(steps)]
        inputs = {
            "features": fingerprints[modality],
            "observed": fingerprint_arrays({"observed": observed[modality]}),
            "version": 2 if anew else 1,
        }

        def without(
            modality: str = modality,
            anew: bool = anew,
            table: StoredTable = before_steps,
            steps: Sequence[FeatureStep] = steps,
            known: NDArray[np.bool_] = observed[modality],
        ) -> dict[str, NDArray[Any]]:
            if anew:
                values = encoded_without(manifest, workspace, modality, ~known)
            else:
                with_tables(manifest, workspace, [table])
                values = read_features(store.path(table.key))
            values = fill(values, known, "zero", table.key)
            for step in steps:
                values = step.apply(np.asarray(values, dtype=np.float32), known)
            return {"table": np.asarray(fill(values, known, "mean", table.key), dtype=np.float32)}

        tables[modality] = dataset.derived.get("features_without_lost", inputs, without)["table"]
        fingerprints[modality] = fingerprint({"without_lost": modality, **inputs})
    return replace(
        dataset,
        name=label,
        features=tables,
        feature_fingerprints=fingerprints,
        observed=observed,
    )


def _refuse_other_than(counts: Counts, splits: Mapping[str, Interactions]) -> None:
    for name, split in splits.items():
        if len(split) != (expected := getattr(counts, name)):
            raise InputError(f"has {len(split)} interactions for {name}, expected {expected}")
        for ids, count in ((split.users, counts.users), (split.items, counts.items)):
            if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < count:
                raise InputError(f"holds ids outside 0 to {count - 1}")


def _features(path: Path, items: int, width: int) -> NDArray[np.float32]:
    table = read_features(path)
    with read_as_written(path):
        if table.shape != (items, width):
            raise InputError(f"has shape {list(table.shape)}, expected {[items, width]}")
    return table


def _domains(store: TableStore, manifest: Manifest, names: list[str]) -> NDArray[np.int8]:
    """Each item's domain, as a position among the names."""
    of_items = read_ids(store.path(manifest.id_maps["item_domains"].key))
    positions = pc.index_in(of_items, pa.array(names, pa.string()))
    if len(positions) != manifest.counts.items or positions.null_count:
        raise InputError("not every item has one of its domains")
    return np.asarray(positions.to_numpy(), dtype=np.int8)


def _read_texts(workspace: Workspace, key: str, items: int) -> tuple[str, ...]:
    """A table of texts, which a process on another machine may have to fetch."""
    store = TableStore(workspace.tables)
    for path in store.files(key):
        workspace.fetch(path)
    store.check(key)
    texts = read_texts(store.path(key))
    with read_as_written(store.path(key)):
        if len(texts) != items:
            raise InputError(f"has {len(texts)} texts, expected {items}")
    return texts


def read_manifest(workspace: Workspace, name: str) -> Manifest:
    """The manifest of a prepared dataset.

    Raises:
        InputError: If no dataset of that name is prepared, or it is no name.
    """
    if fault := name_fault(name):
        raise InputError(f"a dataset's name: {fault}")
    workspace.fetch(workspace.manifest(name), anew=True)
    manifest = Manifest.read(workspace.manifest(name))
    if manifest is None:
        near = suggestion(name, prepared_names(workspace))
        raise InputError(
            f"dataset {name!r} is not prepared in {workspace.place} ({near}); "
            f"type `mgstudy prepare pipelines/{name}.yaml`"
        )
    return manifest


def prepared_names(workspace: Workspace) -> list[str]:
    """Names of the datasets that are prepared in a workspace."""
    names = workspace.names(workspace.datasets)
    if workspace.shared is not None:  # There, a folder is there because of its manifest.
        return names
    return [name for name in names if workspace.manifest(name).exists()]
