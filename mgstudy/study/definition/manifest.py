"""The manifest that every launch writes into the study's folder: what was asked, and where its
records are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mgstudy.config.factors import Name, varying_factors
from mgstudy.config.study import StudyConfig
from mgstudy.config.training import RECORDED
from mgstudy.environment import describe_environment
from mgstudy.errors import MgstudyError
from mgstudy.files import content_of, written_whole
from mgstudy.registry import look_in, used_folders
from mgstudy.study.storage.layout import StudyFolder
from mgstudy.urls import recorded_url

if TYPE_CHECKING:  # Whoever reads a manifest waits for no model to be imported.
    from mgstudy.data.dataset import Dataset
    from mgstudy.study.definition.cell import Cell
    from mgstudy.study.definition.study import Study

FORMAT = 1
"""To be raised when what a study's folder and storage hold is read otherwise."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Place(_Part):
    """Where MLflow has the study's runs.

    Attributes:
        uri: Without a password; ``None`` for the workspace's own database, wherever that lies.
        experiment: The experiment.
    """

    uri: str | None
    experiment: str


class CellEntry(_Part):
    """A cell.

    Attributes:
        key: Its name inside its study.
        levels: Factor to the label of its level.
        study: Name of the Optuna study of its search.
        budget: Trials its search gets in all.
        fixed: The parameters that every trial has in common.
        spaces: Every parameter to its space, as a study file writes it.
    """

    key: str
    levels: dict[str, str]
    study: str
    budget: int
    fixed: dict[str, Any] = Field(default_factory=dict)
    spaces: dict[str, Any] = Field(default_factory=dict)

    @property
    def searched(self) -> frozenset[str]:
        """The parameters that are sampled."""
        return frozenset(self.spaces) - frozenset(self.fixed)

    @classmethod
    def of(cls, study: str, cell: Cell, budget: int) -> CellEntry:
        """The entry of a cell.

        Args:
            study: Name of the study.
            cell: The cell.
            budget: Trials its search gets.
        """
        return cls(
            key=cell.key,
            levels=dict(cell.levels),
            study=f"{study}/{cell.key}",
            budget=budget,
            fixed=cell.fixed,
            spaces=cell.describe()["spaces"],
        )


def cell_entries(study: Study) -> tuple[CellEntry, ...]:
    """The entries of a study's cells."""
    config = study.config
    return tuple(
        CellEntry.of(config.name, cell, cell.budget(config.trials)) for cell in study.plan.cells
    )


class LeftOutEntry(_Part):
    """A combination of levels that cannot be trained, and why."""

    levels: dict[str, str]
    reason: str


class DatasetEntry(_Part):
    """Fingerprints of a dataset's interactions, of each modality's features, of which items lack
    which (``None`` where none lacks any), and of its texts."""

    interactions: str
    features: dict[str, str]
    observed: str | None = None
    texts: dict[str, str] = {}

    @classmethod
    def of(cls, dataset: Dataset) -> DatasetEntry:
        """Those of a dataset."""
        return cls(
            interactions=dataset.fingerprint,
            features=dict(dataset.feature_fingerprints),
            observed=dataset.observed_fingerprint,
            texts={name: texts.fingerprint for name, texts in dataset.texts.items()},
        )


class Environment(_Part):
    """What a study ran with, as ``describe_environment`` finds it; see there."""

    model_config = ConfigDict(extra="ignore")

    python: str = "unknown"
    platform: str = "unknown"
    processor: str = "unknown"
    packages: dict[str, str] = Field(default_factory=dict)
    git_revision: str | None = None


class StudyManifest(_Part):
    """A study as it was launched last. Nothing in it names the workspace's own place, so that one
    that was moved or copied is read as well.

    Attributes:
        format: Of the study's folder and storage.
        name: The study's name.
        config: The study file as it was understood, without passwords.
        tracking: Where MLflow has its runs.
        cells: Its cells, in the order of the study file.
        left_out: The combinations that cannot be trained.
        datasets: Its datasets by their level's label.
        modules_in: Folders in which modules of its own parts were found, beside its study file.
        launched: When, ISO 8601 in UTC.
        environment: Versions, machine and git revision.
    """

    format: int = FORMAT
    name: Name
    config: StudyConfig
    tracking: Place
    cells: tuple[CellEntry, ...]
    left_out: tuple[LeftOutEntry, ...] = ()
    datasets: dict[str, DatasetEntry] = Field(default_factory=dict)
    modules_in: tuple[str, ...] = ()
    launched: str
    environment: Environment = Field(default_factory=Environment)

    @classmethod
    def of(cls, study: Study, tracking: Mapping[str, str | None]) -> StudyManifest:
        """Describe a study that is launched.

        Args:
            study: The study.
            tracking: Where MLflow has its record, see ``Place``.
        """
        return cls(
            name=study.config.name,
            config=_without_passwords(study.config),
            tracking=Place.model_validate(tracking),
            cells=cell_entries(study),
            left_out=study.plan.left_out,
            datasets={name: DatasetEntry.of(dataset) for name, dataset in study.datasets.items()},
            modules_in=used_folders(),
            launched=datetime.now(UTC).isoformat(timespec="seconds"),
            environment=Environment.model_validate(describe_environment()),
        )

    @classmethod
    def read(cls, folder: StudyFolder, is_from_here: bool = True) -> StudyManifest:
        """The manifest in a study's folder.

        Args:
            folder: The folder.
            is_from_here: Whether it was launched here, so that its own modules are found where
                they were found then.

        Raises:
            MgstudyError: If it is missing, damaged, or of another format.
        """
        path = folder.manifest
        written = content_of(path)
        if written is None:
            raise MgstudyError(f"{path}: cannot be read: No such file")
        advice = (
            "; delete it and launch the study file again, which goes on with the recorded trials"
            if is_from_here
            else ""
        )
        try:
            content = json.loads(written)
            if not (isinstance(content, dict) and content):
                raise ValueError("it holds no study")
            if content.get("format") != FORMAT:
                raise MgstudyError(
                    f"{path}: has format {content.get('format', 'none')}, and this version reads "
                    f"{FORMAT}; {_writer(content)} wrote it and reads it"
                )
            if is_from_here and isinstance(folders := content.get("modules_in"), list):
                look_in(map(str, folders))
            return cls.model_validate(content, context=RECORDED)
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            where = ".".join(str(step) for step in fault["loc"])
            if fault["type"] == "extra_forbidden":  # To go on with it would lose what this says.
                raise MgstudyError(
                    f"{path}: has `{where}`, which this version does not know; {_writer(content)} "
                    "wrote it and reads it"
                ) from error
            said = f"{path}: cannot be read: {where}: {fault['msg']}{advice}"
            raise MgstudyError(said) from error
        except (ValueError, RecursionError) as error:
            raise MgstudyError(f"{path}: cannot be read: {error}{advice}") from error

    def write(self, folder: StudyFolder) -> None:
        """Replace the manifest in a study's folder, in one step."""
        folder.path.mkdir(parents=True, exist_ok=True)
        with written_whole(folder.manifest) as file:
            file.write(self.model_dump_json(indent=2).encode() + b"\n")
        if folder.workspace is not None:
            folder.workspace.publish(folder.manifest, anew=True)

    def renamed(self, name: str, storage: str | None = None) -> StudyManifest:
        """The same study under another name, with another storage.

        Args:
            name: The name.
            storage: URL of its Optuna storage; a file in its folder when not given.
        """
        place = self.tracking
        if place.experiment == self.name:
            place = place.model_copy(update={"experiment": name})
        config = {"name": name, "storage": storage and recorded_url(storage)}
        return self.model_copy(
            update={
                "name": name,
                "config": self.config.model_copy(update=config),
                "tracking": place,
                "cells": tuple(
                    cell.model_copy(update={"study": f"{name}/{cell.key}"}) for cell in self.cells
                ),
            }
        )

    @property
    def varying_factors(self) -> list[str]:
        """The factors with more than one level among the cells."""
        return varying_factors(cell.levels for cell in self.cells)

    def table_keys(self) -> list[str]:
        """Keys of the tables that the study's datasets are made of."""
        return [
            key
            for of in self.datasets.values()
            for key in (of.interactions, *of.features.values(), *of.texts.values())
        ]


def _without_passwords(config: StudyConfig) -> StudyConfig:
    storage, uri = config.storage, config.tracking.uri
    return config.model_copy(
        update={
            "storage": storage and recorded_url(storage),
            "tracking": config.tracking.model_copy(update={"uri": uri and recorded_url(uri)}),
        }
    )


def _writer(content: Mapping[str, Any]) -> str:
    """The version that wrote a manifest which this one does not read."""
    environment = content.get("environment")
    packages = environment.get("packages") if isinstance(environment, dict) else None
    version = packages.get("mgstudy") if isinstance(packages, dict) else None
    return f"mgstudy {version}" if version else "another version of mgstudy"
