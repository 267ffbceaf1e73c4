"""A study file that has been read, checked and expanded; the start of everything else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mgstudy.config.document import Document, load_document
from mgstudy.config.factors import varying_factors
from mgstudy.config.study import StudyConfig
from mgstudy.data.dataset import Dataset
from mgstudy.errors import InputError
from mgstudy.study.definition.dataset_levels import load_levels
from mgstudy.study.definition.expansion import CellPlan, expand
from mgstudy.study.definition.manifest import DatasetEntry, StudyManifest
from mgstudy.study.definition.optuna_parts import check_search
from mgstudy.study.storage.layout import StudyFolder
from mgstudy.study.storage.optuna_storage import check_storage_url
from mgstudy.workspace import Workspace


@dataclass(frozen=True)
class Study:
    """A study file that has been read and found right; nothing has started.

    Attributes:
        config: The validated file.
        document: Where its values stood.
        workspace: Where its state lives.
        datasets: The datasets of its levels, by their labels.
        plan: Its cells, and the combinations left out.
    """

    config: StudyConfig
    document: Document
    workspace: Workspace
    datasets: dict[str, Dataset]
    plan: CellPlan

    @property
    def folder(self) -> StudyFolder:
        """The study's folder in the workspace."""
        return StudyFolder.of(self.workspace, self.config.name)

    @property
    def varying_factors(self) -> list[str]:
        """The factors with more than one level among the cells."""
        return varying_factors(cell.levels for cell in self.plan.cells)


def read_study(
    path: Path | str, overrides: Iterable[str] = (), home: Path | str | None = None
) -> Study:
    """Read and check a study file.

    Args:
        path: The study file.
        overrides: ``a.b=value`` changes to it.
        home: The workspace, a folder or URL; ``MGSTUDY_HOME`` or the
            current directory when not given.

    Raises:
        InputError: For anything that is wrong in it, with file and line.
    """
    return check_study(load_document(Path(path), overrides), Workspace.resolve(home))


def check_study(document: Document, workspace: Workspace) -> Study:
    """Check a study file that has been read: its names, spaces and datasets.

    Raises:
        InputError: For anything that is wrong in it, with its place.
    """
    config = document.validate(StudyConfig)
    _check_storage(config, document)
    datasets = load_levels(config.factors.dataset, document, workspace)
    plan = expand(config, document, datasets)
    check_search(config, document, plan.cells)
    return Study(config, document, workspace, datasets, plan)


def _check_storage(config: StudyConfig, document: Document) -> None:
    """Refuse what is no storage's URL."""
    if config.storage is None:
        return
    try:
        check_storage_url(config.storage)
    except InputError as error:
        raise document.error(("storage",), str(error)) from error


def as_launched(manifest: StudyManifest, folder: StudyFolder, workspace: Workspace) -> Study:
    """The study as its last launch wrote it down, checked against what is installed now.

    Raises:
        InputError: If its datasets are no longer there or others by now, or something that it names
            is not installed.
    """
    content = manifest.config.model_dump(mode="json")
    study = check_study(Document(str(folder.manifest), content), workspace)
    for label, recorded in manifest.datasets.items():
        if label in study.datasets and DatasetEntry.of(study.datasets[label]) != recorded:
            raise InputError(
                f"dataset {label!r} was prepared anew since study {manifest.name!r} ran; "
                "prepare it as it was, or launch the study again under another name"
            )
    return study
