"""The record of a prepared dataset: what it is, and exactly how it was made."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from mgstudy.config.pipeline import PipelineConfig
from mgstudy.data.interactions import Counts, StepRecord
from mgstudy.data.source_files import SourceFile
from mgstudy.data.tables import FORMAT, StoredTable, refuse_other_format
from mgstudy.errors import InputError
from mgstudy.files import content_of, locked, written_whole


class FeatureTable(StoredTable):
    """A modality's table.

    Attributes:
        shape: Items and width.
        encoder: What made it; ``None`` where the source brings it.
        missing: Items that had no features and were filled.
        stages: The tables it was made from, each kept so that a change makes no more than it must.
    """

    shape: tuple[int, int]
    encoder: str | None = None
    missing: int = 0
    stages: tuple[StoredTable, ...] = ()

    @property
    def encoded(self) -> StoredTable:
        """The table as it was encoded, the only one that says which items had features."""
        return (*self.stages, self)[0]


class Manifest(BaseModel):
    """A prepared dataset.

    Attributes:
        format: How the manifest and its tables are written, see ``FORMAT``.
        name: The dataset's name.
        created: When it was prepared, ISO 8601 in UTC.
        pipeline: The pipeline file it was made by, resolved: absolute paths, nothing left to be
            found. Preparing this again makes the same dataset.
        counts: How large it is.
        steps: What was done to the interactions, in order.
        interactions: The table of the interactions.
        id_maps: What the raw data calls users and items: ``user_ids`` and ``item_ids`` to a table
            with the columns ``id`` and ``key``; none where the raw data counts from 0 itself. The
            same of the items' domains under ``item_domains``, where there are some.
        features: Modality to its table, in the order of the modalities.
        texts: Name to the table of a text of every item.
        source_files: The raw files it was made from.
        versions: Of the libraries that made it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    name: str
    created: str
    pipeline: PipelineConfig
    counts: Counts
    steps: tuple[StepRecord, ...]
    interactions: StoredTable
    id_maps: dict[str, StoredTable] = {}
    features: dict[str, FeatureTable]
    texts: dict[str, StoredTable] = {}
    source_files: tuple[SourceFile, ...]
    versions: dict[str, str]

    def tables(self) -> list[StoredTable]:
        """Every table that the dataset is made of, or was made from."""
        features = self.features.values()
        stages = [stage for table in features for stage in table.stages]
        made = [self.interactions, *self.id_maps.values(), *features, *stages]
        return [*made, *self.texts.values()]

    def write(self, path: Path) -> None:
        """Put the manifest at ``path``, whole or not at all."""
        with locked(path), written_whole(path) as file:
            file.write(self.model_dump_json(indent=2).encode() + b"\n")

    @classmethod
    def read(cls, path: Path) -> Manifest | None:
        """The manifest at ``path``, or ``None`` if there is none.

        Raises:
            InputError: If the file is not a manifest, or one of another format.
            MgstudyError: If it cannot be read.
        """
        content = content_of(path)
        if content is None:
            return None
        try:
            written = json.loads(content)
            if isinstance(written, dict) and "pipeline" in written:
                refuse_other_format(path, written.get("format"), written.get("versions"))
            return cls.model_validate_json(content)
        except ValidationError as error:
            fault = error.errors()[0]
            where = ".".join(str(step) for step in fault["loc"])
            why = f"{where}: {fault['msg']}"
        except (ValueError, RecursionError) as error:
            why = f"not JSON: {error}"
        raise InputError(f"{path}: not a manifest ({why}); prepare the dataset again")
