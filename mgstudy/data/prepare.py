"""From raw files to a prepared dataset: tables in the store, and a manifest that refers to them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mgstudy.config.document import Document, load_document
from mgstudy.config.pipeline import PipelineConfig, TextConfig
from mgstudy.data.encoder import Encoder, FeatureStep, Items
from mgstudy.data.feature_tables import FeatureMaker, OwnTable
from mgstudy.data.interaction_tables import TableMaker, ensure_interactions
from mgstudy.data.interactions import Counts, StepRecord
from mgstudy.data.layouts import library_versions, read_ids, texts_content
from mgstudy.data.manifest import Manifest
from mgstudy.data.pipeline import validate_pipeline
from mgstudy.data.remote import Downloads, with_settings
from mgstudy.data.sentences import item_texts
from mgstudy.data.source_files import identify
from mgstudy.data.sources.base import Recipe
from mgstudy.data.steps.cold_start import ColdStart
from mgstudy.data.tables import (
    DamagedTableError,
    StoredTable,
    TableContent,
    TableStore,
    read_as_written,
)
from mgstudy.errors import InputError
from mgstudy.files import Progress, no_progress
from mgstudy.workspace import Workspace

logger = logging.getLogger(__name__)


def prepare(
    config: PipelineConfig,
    workspace: Workspace,
    progress: Progress = no_progress,
    document: Document | None = None,
) -> Manifest:
    """Make the dataset a pipeline file describes, or find that it is already made.

    What did not change is neither read nor written again: raw files are recognised by size and
    time, tables by a fingerprint of everything that makes them.

    Args:
        config: The pipeline file.
        workspace: Where the dataset is kept.
        progress: Told what is being done.
        document: What the pipeline file was read from, so that messages name its lines.

    Returns:
        The manifest, also written to ``workspace.manifest(config.name)``.

    Raises:
        InputError: If a part does not exist or a setting is wrong, or the raw data is, naming the
            file and the row; the dataset is as it was.
        MgstudyError: If the workspace cannot be written to.
    """
    previous = _previous_manifest(workspace, config.name)
    manifest = Preparation(config, workspace, previous, progress, document).make()
    if manifest is not previous:
        manifest.write(workspace.manifest(config.name))
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
    return prepare(document.validate(PipelineConfig), workspace, progress, document)


def with_tables(
    manifest: Manifest, workspace: Workspace, tables: Iterable[StoredTable]
) -> Manifest:
    """A prepared dataset of which these tables are on this machine and as they were written:
    fetched from where the workspace lies, or made again.

    Raises:
        InputError: As ``repair``.
        MgstudyError: If the workspace cannot be reached.
    """
    store, keys = TableStore(workspace.tables), [table.key for table in tables]
    for key in keys:
        for path in store.files(key):
            workspace.fetch(path)
    try:
        for key in keys:
            store.check(key)
    except DamagedTableError:
        return repair(manifest, workspace)
    return manifest


def repair(manifest: Manifest, workspace: Workspace) -> Manifest:
    """Make those tables of a prepared dataset again that are missing or damaged.

    Raises:
        InputError: If the raw data is gone or is not what it was.
    """
    try:
        made = Preparation(manifest.pipeline, workspace, manifest).make(verify=True)
        if [table.key for table in made.tables()] != [table.key for table in manifest.tables()]:
            raise InputError("the source is not what it was")
    except InputError as error:
        raise InputError(
            f"dataset {manifest.name!r} has a missing or damaged table that cannot be made again: "
            f"{error}; prepare the dataset again"
        ) from error
    if made is not manifest:
        made.write(workspace.manifest(manifest.name))
    return made


def encoded_without(
    manifest: Manifest, workspace: Workspace, modality: str, without: NDArray[np.bool_]
) -> NDArray[np.floating[Any]]:
    """What a prepared dataset's encoder makes of a modality where some items have no records.

    Args:
        manifest: The dataset.
        workspace: Where it is kept.
        modality: The modality.
        without: Which items have none, bool ``[items]``.

    Raises:
        InputError: If the raw data is gone or is not what it was, or nothing can be made of it.
    """
    try:
        preparation = Preparation(manifest.pipeline, workspace, manifest)
        before = {file.path: file.sha256 for file in manifest.source_files}
        if {path: file.sha256 for path, file in preparation.files.items()} != before:
            raise InputError("the source is not what it was")
        keys = None
        if "item_ids" in manifest.id_maps:
            with_tables(manifest, workspace, [manifest.id_maps["item_ids"]])
            keys = read_ids(preparation.store.path(manifest.id_maps["item_ids"].key))
        source = preparation.source
        items = Items(manifest.counts.items, keys, source, no_progress, without=without)
        encoder = preparation.encoders[modality]
        return encoder.encode(items).values
    except InputError as error:
        raise InputError(
            f"{modality} of dataset {manifest.name!r} is encoded anew, since its encoder looks at "
            f"all items: {error}"
        ) from error


class Preparation:
    """What a pipeline file names, found and validated, and from it the tables.

    Args:
        config: The pipeline file.
        workspace: Where the dataset is kept.
        previous: The dataset's manifest so far, to recognise raw files that did not change.
        progress: Told what is being done.
        document: What the pipeline file was read from.
    """

    def __init__(
        self,
        config: PipelineConfig,
        workspace: Workspace,
        previous: Manifest | None = None,
        progress: Progress = no_progress,
        document: Document | None = None,
    ) -> None:
        self.previous = previous
        self.store = TableStore(workspace.tables)
        self.progress = progress
        validate_pipeline(config, document)  # Before anything is fetched.
        downloads = Downloads(workspace.downloads, progress)
        pipeline = validate_pipeline(downloads.localised(config), document)
        self.source = pipeline.source.resolved()
        self.source.progress = progress
        self.steps = list(pipeline.steps)
        if not any(isinstance(step, ColdStart) for step in self.steps):
            self.steps.append(ColdStart(ColdStart.Parameters()))
        self.encoders: dict[str, Encoder] = {
            modality: OwnTable(self.source, modality) for modality in self.source.feature_recipes()
        }
        self.feature_steps: dict[str, Sequence[FeatureStep]] = {}
        settings = {}
        for modality, plan in pipeline.features.items():
            settings[modality] = config.features[modality].parameters
            if plan.encoder is None:
                self.encoders[modality] = OwnTable(self.source, modality)
            else:
                encoder = self.encoders[modality] = plan.encoder.resolved()
                found = encoder.parameters.model_dump(mode="json")
                settings[modality] |= downloads.restored(found)
            self.feature_steps[modality] = plan.steps
        found = self.source.parameters.model_dump(mode="json")
        # With absolute paths and nothing left to be found.
        self.config = with_settings(config, downloads.restored(found), settings)
        self.files = identify(
            [path for recipe in self._recipes() for path in recipe.paths()],
            previous.source_files if previous else (),
            progress,
        )

    def make(self, verify: bool = False) -> Manifest:
        """Make what is missing.

        Args:
            verify: Whether tables that are there must match their checksums, or are made again.

        Returns:
            The manifest, the previous one if nothing changed.
        """
        tables = TableMaker(
            self.config.name, self.source, self.store, self.files, verify, self.progress
        )
        interactions, id_maps = ensure_interactions(tables, self.steps)
        facts = tables.facts(interactions)
        with read_as_written(self.store.path(interactions.key)):
            counts = Counts.model_validate(facts["counts"])
            steps = tuple(map(StepRecord.model_validate, facts["step_records"]))
        keys = None
        if "item_ids" in id_maps:
            keys = read_ids(self.store.path(id_maps["item_ids"].key))
        items = Items(counts.items, keys, self.source, self.progress)
        identity = facts.get("items", {"count": counts.items})
        manifest = Manifest(
            name=self.config.name,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            pipeline=self.config,
            counts=counts,
            steps=steps,
            interactions=interactions,
            id_maps=id_maps,
            features={
                modality: FeatureMaker(tables, modality, items, identity).ensure(
                    encoder, self.feature_steps.get(modality, ())
                )
                for modality, encoder in self.encoders.items()
            },
            texts={
                name: self._texts(tables, name, settings, items, identity)
                for name, settings in self.config.texts.items()
            },
            source_files=tuple(self.files.values()),
            versions=library_versions(),
        )
        previous = self.previous
        if previous is not None:
            same = {"created": previous.created, "versions": previous.versions}
            if manifest.model_copy(update=same) == previous:
                return previous
        return manifest

    def _texts(
        self, tables: TableMaker, name: str, settings: TextConfig, items: Items, identity: Any
    ) -> StoredTable:
        """The table of a text of every item."""

        def make(facts: dict[str, Any]) -> TableContent:
            texts, missing = item_texts(items, name, settings)
            return texts_content(texts, {**facts, "missing": missing})

        made_from = {
            "texts": settings.model_dump(),
            "records": tables.source_origin(self.source.item_recipe()),
            "items": identity,
        }
        return tables.ensure("texts", made_from, make)

    def _recipes(self) -> Iterator[Recipe]:
        """Of everything that is read."""
        yield self.source.interactions_recipe()
        yield from (encoder.recipe() for encoder in self.encoders.values())
        reads_records = [encoder.reads_records for encoder in self.encoders.values()]
        if any(reads_records) or self.config.texts:
            yield self.source.item_recipe()


def _previous_manifest(workspace: Workspace, name: str) -> Manifest | None:
    try:
        workspace.fetch(workspace.manifest(name), anew=True)
        return Manifest.read(workspace.manifest(name))
    except InputError as error:
        logger.warning("%s", error)
        return None
