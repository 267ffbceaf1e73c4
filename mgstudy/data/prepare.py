"""From raw files to a prepared dataset: tables in the store, and a manifest that refers to them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mgstudy.config.document import load_document
from mgstudy.config.pipeline import PipelineConfig, SourceConfig
from mgstudy.data.encoder import Items
from mgstudy.data.interactions import SPLITS, UNSPLIT, Counts, RawInteractions, StepRecord
from mgstudy.data.layouts import (
    FORMAT_VERSION,
    features_content,
    ids_content,
    interactions_content,
    library_versions,
    read_ids,
)
from mgstudy.data.manifest import FeatureTable, Manifest
from mgstudy.data.modality import ModalityMaker
from mgstudy.data.pipeline import ModalityPlan, WrongPartError, pipeline_model, validate_pipeline
from mgstudy.data.remote import Downloads
from mgstudy.data.sources.base import Recipe
from mgstudy.data.steps.base import steps as installed_steps
from mgstudy.data.steps.cold_start import ColdStart
from mgstudy.data.tables import StoredTable, TableContent, TableStore, read_facts
from mgstudy.errors import InputError
from mgstudy.files import Progress, identify, no_progress
from mgstudy.fingerprint import fingerprint
from mgstudy.workspace import Workspace

logger = logging.getLogger(__name__)


def prepare(
    config: PipelineConfig, workspace: Workspace, progress: Progress = no_progress
) -> Manifest:
    """Make the dataset a pipeline file describes, or find that it is already made.

    What did not change is neither read nor written again: raw files are recognised by size and
    time, tables by a fingerprint of everything that makes them.

    Args:
        config: The pipeline file.
        workspace: Where the dataset is kept.
        progress: Told what is being done.

    Returns:
        The manifest, also written to ``workspace.manifest(config.name)``.

    Raises:
        InputError: If the raw data is wrong, naming the file and the row; the dataset is as it was.
        WrongPartError: If a part that the file names does not exist.
        pydantic.ValidationError: If a setting of a part is wrong.
        MgstudyError: If the workspace cannot be written to.
    """
    previous = _previous_manifest(workspace, config.name)
    manifest = Preparation(config, workspace, previous, progress).run(previous)
    store = TableStore(workspace.tables)
    for table in manifest.tables():
        for path in store.files(table.key):
            workspace.publish(path)
    # Last: whoever finds the manifest finds its tables.
    workspace.publish(workspace.manifest(config.name), anew=True)
    return manifest


def prepare_file(
    path: Path,
    overrides: Iterable[str],
    workspace: Workspace,
    progress: Progress = no_progress,
) -> Manifest:
    """Make the dataset that a pipeline file describes.

    Args:
        path: The pipeline file.
        overrides: ``a.b=value`` changes to it.
        workspace: Where the dataset is kept.
        progress: Told what is being done.

    Raises:
        InputError: For a wrong setting, with file and line, or wrong raw data, with file and row.
        MgstudyError: If the workspace cannot be written to.
    """
    document = load_document(path, overrides)
    config = document.validate(PipelineConfig)
    try:
        return prepare(config, workspace, progress)
    except ValidationError as error:
        raise document.explain(error, model=pipeline_model(config)) from error
    except WrongPartError as error:
        raise document.error(error.location, str(error)) from error


def repair(manifest: Manifest, workspace: Workspace) -> Manifest:
    """Make those tables of a prepared dataset again that are missing or damaged.

    Raises:
        InputError: If the raw data is gone or is not what it was.
    """
    try:
        preparation = Preparation(manifest.pipeline, workspace, manifest)
        if not preparation.can_make(manifest):
            raise InputError("the source is not what it was")
    except (InputError, ValidationError) as error:
        raise InputError(
            f"dataset {manifest.name!r} has a missing or damaged table that cannot be made again: "
            f"{error}; prepare the dataset again"
        ) from error
    return preparation.run(manifest, verify=True)


class Preparation:
    """One pipeline's tables: their keys, and how each is made.

    Args:
        config: The pipeline file.
        workspace: Where the dataset is kept.
        previous: The dataset's manifest so far, to recognise raw files that did not change.
        progress: Told what is being done.
    """

    def __init__(
        self,
        config: PipelineConfig,
        workspace: Workspace,
        previous: Manifest | None = None,
        progress: Progress = no_progress,
    ) -> None:
        self.workspace = workspace
        self.store = TableStore(workspace.tables)
        self.progress = progress
        downloads = Downloads(workspace.downloads, progress)
        pipeline = validate_pipeline(_localised(config, downloads))
        self.source = pipeline.source.resolved()
        self.source.progress = progress
        self.steps = list(pipeline.steps)
        if not any(isinstance(step, ColdStart) for step in self.steps):
            self.steps.append(ColdStart(ColdStart.Parameters()))
        self.plans = {modality: ModalityPlan(None, ()) for modality in self.own_tables} | {
            modality: ModalityPlan(plan.encoder and plan.encoder.resolved(), plan.steps)
            for modality, plan in pipeline.features.items()
        }
        self.config = self._resolved(config, downloads)
        self.files = identify(
            (path for recipe in self._recipes() for path in recipe.files.values()),
            previous.source_files if previous else (),
            progress,
        )

    @cached_property
    def own_tables(self) -> Mapping[str, Recipe]:
        """Modality to what its table is made from, for those that the source itself brings."""
        return self.source.feature_recipes()

    @cached_property
    def interactions_key(self) -> str:
        """Key of the interactions' table."""
        recipe = self.source.interactions_recipe()
        return self._key("interactions", recipe, {"steps": [step.content() for step in self.steps]})

    def can_make(self, manifest: Manifest) -> bool:
        """Whether the raw files still make the tables of a manifest, as far as keys tell before
        anything is made."""
        untouched = [
            table.key == self._own_table_key(modality, None)
            for modality, table in manifest.features.items()
            if modality in self.own_tables and not table.stages and not manifest.id_maps
        ]
        return self.interactions_key == manifest.interactions.key and all(untouched)

    def run(self, previous: Manifest | None, verify: bool = False) -> Manifest:
        """Make what is missing and write the manifest.

        Args:
            previous: The manifest so far; it stays as it is if nothing changed.
            verify: Whether tables that are there must match their checksums, or are made again.
        """
        interactions, id_maps = self._ensure_interactions(verify)
        facts = read_facts(self.store.path(interactions.key))
        counts = Counts.model_validate(facts["counts"])
        keys = None
        if "item_ids" in id_maps:
            keys = read_ids(self.store.path(id_maps["item_ids"].key))
        items = Items(counts.items, keys, self.source, self.progress)
        identity = facts.get("items") or {"count": counts.items}
        manifest = Manifest(
            name=self.config.name,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            pipeline=self.config,
            counts=counts,
            steps=tuple(map(StepRecord.model_validate, facts["steps"])),
            interactions=interactions,
            id_maps=id_maps,
            features={
                modality: self._ensure_features(modality, plan, items, identity, verify)
                for modality, plan in self.plans.items()
            },
            source_files=tuple(self.files.values()),
            versions=library_versions(),
        )
        if previous is not None:
            same = {"created": previous.created, "versions": previous.versions}
            if manifest.model_copy(update=same) == previous:
                return previous
        manifest.write(self.workspace.manifest(manifest.name))
        return manifest

    def _ensure_interactions(self, verify: bool) -> tuple[StoredTable, dict[str, StoredTable]]:
        """The tables of the interactions and of what the raw data calls users and items."""
        made: list[RawInteractions] = []

        def interactions() -> RawInteractions:
            if not made:
                made.append(self._read_and_split())
            return made[0]

        def make() -> TableContent:
            raw = interactions()
            return interactions_content(raw, self._interactions_facts(raw))

        def make_ids(kind: str) -> TableContent:
            raw = interactions()
            keys = raw.user_keys if kind == "user_ids" else raw.item_keys
            return ids_content(keys, self._origin(self.source.interactions_recipe()))

        key = self.interactions_key
        stored = self.store.ensure(key, make, verify, self.progress)
        suffix = key.partition("-")[2]
        kinds = ("user_ids", "item_ids") if "items" in read_facts(self.store.path(key)) else ()
        ids = {
            kind: self.store.ensure(
                f"{kind}-{suffix}", partial(make_ids, kind), verify, self.progress
            )
            for kind in kinds
        }
        return stored, ids

    def _read_and_split(self) -> RawInteractions:
        raw = interactions = split = self.source.interactions()
        for step in self.steps:
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
        _refuse_empty_split(split, interactions)
        return interactions

    def _interactions_facts(self, kept: RawInteractions) -> dict[str, Any]:
        facts = {
            **self._origin(self.source.interactions_recipe()),
            "shape": [len(kept), 3],
            "counts": kept.counts().model_dump(),
            "steps": [step.model_dump(exclude_defaults=True) for step in kept.steps],
        }
        if kept.item_keys is not None:
            facts["items"] = {"keys": fingerprint({"keys": kept.item_keys.to_pylist()})}
        return facts

    def _ensure_features(
        self, modality: str, plan: ModalityPlan, items: Items, identity: Any, verify: bool
    ) -> FeatureTable:
        facts = {"dataset": self.config.name}
        maker = ModalityMaker(modality, items, identity, self.store, self.files, facts, verify)
        if plan.encoder is not None:
            stages = maker.encoded(plan.encoder)
        else:
            stages = [self._ensure_own_table(modality, items, identity, verify)]
        for step in plan.steps:
            stages.append(maker.stepped(stages[-1], step))
        return maker.described(stages)

    def _ensure_own_table(
        self, modality: str, items: Items, identity: Any, verify: bool
    ) -> StoredTable:
        if modality not in self.own_tables:
            known = ", ".join(self.own_tables) or "none"
            raise InputError(
                f"features.{modality}.encoder: the source {self.source.name!r} brings no table of "
                f"this modality; it brings {known}"
            )
        make = partial(self._make_own_table, modality, items)
        key = self._own_table_key(modality, None if items.keys is None else identity)
        stored = self.store.ensure(key, make, verify, self.progress)
        rows, _ = read_facts(self.store.path(key))["shape"]
        if rows != items.count:
            # The table fitted other interactions; reading the source says what is wrong with these.
            make()
            raise InputError(f"{modality} features have {rows:,} rows for {items.count:,} items")
        return stored

    def _own_table_key(self, modality: str, identity: Any) -> str:
        extra = {} if identity is None else {"items": identity}
        return self._key(modality, self.own_tables[modality], extra)

    def _make_own_table(self, modality: str, items: Items) -> TableContent:
        place = partial(self.source.place, modality)
        if items.keys is None:
            table = self.source.features(modality, items.count)
        else:
            rows = [int(key) for key in items.keys.to_pylist()]
            table = self.source.features(modality, self.source.interactions().item_count)[rows]
        facts = {
            **self._origin(self.own_tables[modality]),
            "modality": modality,
            "encoder": None,
            "preprocessing": [f"{table.dtype} to float32"] if table.dtype != "float32" else [],
        }
        return features_content(table, facts, place)

    def _recipes(self) -> Iterator[Recipe]:
        """Of everything that is read."""
        yield self.source.interactions_recipe()
        encoders = [plan.encoder for plan in self.plans.values() if plan.encoder is not None]
        yield from (
            self.own_tables[modality]
            for modality, plan in self.plans.items()
            if plan.encoder is None and modality in self.own_tables
        )
        if any(encoder.reads_records for encoder in encoders):
            yield self.source.item_recipe()
        yield from (encoder.recipe() for encoder in encoders)

    def _resolved(self, config: PipelineConfig, downloads: Downloads) -> PipelineConfig:
        """The pipeline file with absolute paths and nothing left to be found."""
        settings = downloads.restored(self.source.parameters.model_dump(mode="json"))
        features = {}
        for modality, declared in config.features.items():
            encoder = self.plans[modality].encoder
            own = declared.parameters
            if encoder is not None:
                own |= downloads.restored(encoder.parameters.model_dump(mode="json"))
            features[modality] = declared.model_copy(update=own)
        source = SourceConfig(kind=config.source.kind, **settings)
        return config.model_copy(update={"source": source, "features": features})

    def _origin(self, recipe: Recipe) -> dict[str, Any]:
        """Where a table comes from, for its metadata."""
        return {
            "dataset": self.config.name,
            "source": self.source.name,
            "source_version": self.source.version,
            "source_parameters": dict(recipe.parameters),
            "source_sha256": self._hashes(recipe),
        }

    def _key(self, content: str, recipe: Recipe, extra: dict[str, Any]) -> str:
        made_from = {
            "format": FORMAT_VERSION,
            "content": content,
            "source": self.source.name,
            "source_version": self.source.version,
            "parameters": dict(recipe.parameters),
            "files": self._hashes(recipe),
            **extra,
        }
        return f"{content}-{fingerprint(made_from)}"

    def _hashes(self, recipe: Recipe) -> dict[str, str]:
        return {role: self.files[path].sha256 for role, path in recipe.files.items()}


def _localised(config: PipelineConfig, downloads: Downloads) -> PipelineConfig:
    """The pipeline file with local paths in place of URLs."""
    source = downloads.localised(config.source.parameters)
    return config.model_copy(
        update={
            "source": SourceConfig(kind=config.source.kind, **source),
            "features": {
                modality: declared.model_copy(update=downloads.localised(declared.parameters))
                for modality, declared in config.features.items()
            },
        }
    )


def _previous_manifest(workspace: Workspace, name: str) -> Manifest | None:
    try:
        workspace.fetch(workspace.manifest(name), anew=True)
        return Manifest.read(workspace.manifest(name))
    except InputError as error:
        logger.warning("%s", error)
        return None


def _refuse_empty_split(before: RawInteractions, kept: RawInteractions) -> None:
    """Say which split is empty, and how many interactions it had before cold ones were dropped."""
    for code, name in enumerate(SPLITS):
        had, has = (int((rows.splits == code).sum()) for rows in (before, kept))
        if not has:
            why = f"all {had:,} are of users without training interactions" if had else ""
            raise InputError(f"{kept.origin}: the {name} split is empty{why and f': {why}'}")
