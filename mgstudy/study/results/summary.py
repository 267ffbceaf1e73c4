"""What a study has come to, read from its manifest and Optuna storage, also while it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mgstudy.config.factors import ChangedDataset, varying_factors
from mgstudy.errors import InputError, MgstudyError, suggestion
from mgstudy.study.definition.manifest import LeftOutEntry, StudyManifest
from mgstudy.study.results.popularity import Scores, read_popularity
from mgstudy.study.search.confirmation import replicates_of, trials_of
from mgstudy.study.search.hidden import Parent, hidden_cells, parent_of
from mgstudy.study.search.rounds import with_rounds
from mgstudy.study.search.state import CellState
from mgstudy.study.search.trials import RecordedTrial, Stage
from mgstudy.study.storage.layout import StudyFolder
from mgstudy.study.storage.lease import Driver, holder
from mgstudy.study.storage.optuna_storage import NOT_WRITTEN_BY_OPTUNA, close_storage, open_storage
from mgstudy.urls import first_line, redacted
from mgstudy.workspace import Workspace

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

T = TypeVar("T")


@dataclass(frozen=True)
class StudySummary:
    """A whole study.

    Attributes:
        manifest: What the study's last launch wrote down.
        cells: Where its cells stand, in the order of the study file; behind them those of earlier
            launches that the last one did not ask for.
        folder: Its folder.
        driver: The process that drives the study, or did last.
        popularity: Scores of ranking by popularity alone, by dataset, split and metric; empty
            before they are computed.
        parent: The study that it was forked from.
    """

    manifest: StudyManifest
    cells: Sequence[CellState]
    folder: StudyFolder = field(default_factory=lambda: StudyFolder(Path()))
    driver: Driver = field(default_factory=Driver)
    popularity: Scores = field(default_factory=dict)
    parent: Parent | None = None

    @property
    def name(self) -> str:
        """The study's name."""
        return self.manifest.name

    @property
    def question(self) -> str:
        """What it asks."""
        return self.manifest.config.question

    @property
    def objective(self) -> str:
        """The metric that selects, for example ``recall@20``."""
        return self.manifest.config.training.objective

    @property
    def clean_objective(self) -> str:
        """Its metric on the features as they are, also where it is measured after a risk."""
        return self.manifest.config.training.clean_objective

    @property
    def baselines(self) -> tuple[dict[str, str], ...]:
        """The levels of what its cells are compared with, for each of its questions."""
        return self.manifest.config.baselines

    @property
    def storage(self) -> str:
        """Optuna storage URL, without a password."""
        return redacted(self.folder.storage_url(self.manifest.config))

    @property
    def tracking_uri(self) -> str:
        """Where MLflow has its runs, without a password."""
        return self.manifest.tracking.uri or Workspace(self.folder.path.parents[2]).mlflow

    @property
    def left_out(self) -> Sequence[LeftOutEntry]:
        """Combinations that cannot be trained, with their reason."""
        return self.manifest.left_out

    @property
    def driven(self) -> bool:
        """Whether a process drives the study now."""
        return self.driver.is_alive

    @property
    def finished(self) -> bool:
        """Whether every cell has finished, with its confirmation."""
        return all(cell.finished for cell in self.cells)

    @property
    def hidden(self) -> list[str]:
        """Keys of the cells that the last launch did not ask for."""
        return [cell.key for cell in self.cells if cell.is_hidden]

    @property
    def forked(self) -> str:
        """A sentence on the study that it was forked from, empty if it was not."""
        if self.parent is None:
            return ""
        here = {cell.key for cell in self.cells}
        gone = [key for key in self.parent.cells if key not in here]
        had = f"forked from {self.parent.study}, which had begun {len(self.parent.cells)} cells"
        said = f"{had}; not here: {', '.join(gone)}" if gone else f"{had}, all of them here"
        tried = ", ".join(self.parent.tried)
        return (
            f"{said}; begun with its best configurations, trained anew: {tried}" if tried else said
        )

    @property
    def stale(self) -> int:
        """Trials whose driver is gone."""
        return sum(cell.stale for cell in self.cells)

    @property
    def changed_datasets(self) -> dict[str, str]:
        """Labels of the dataset levels whose features were changed before training, to the
        prepared dataset's name."""
        levels = self.manifest.config.factors.dataset
        return {level.label: level.name for level in levels if isinstance(level, ChangedDataset)}

    def comparable(self, other: StudySummary) -> bool:
        """Whether cells of the two studies were trained and measured alike, on the same data."""
        mine, theirs = self.manifest, other.manifest
        return _trained_by(mine) == _trained_by(theirs) and all(
            theirs.datasets.get(name, content) == content for name, content in mine.datasets.items()
        )

    def varying_factors(self) -> list[str]:
        """The factors with more than one level among the cells."""
        return varying_factors(cell.levels for cell in self.cells)

    def cell_of(self, name: str) -> CellState:
        """The cell of a key, or of a part of one that no other has, such as ``VBPR/plain``.

        Raises:
            InputError: If there is none, or more than one.
        """
        cells = {cell.key: cell for cell in self.cells}
        return self._only("cell", name, cells, [key for key in cells if name in key])

    def trial_of(self, name: str) -> RecordedTrial:
        """The trial of a key, ``CELL/NUMBER``; or of a number that one cell alone has; or of a
        number after a part of the cell's key, as in ``VBPR/plain/3``.

        Raises:
            InputError: If there is none, or more than one.
        """
        trials = {trial.key: trial for cell in self.cells for trial in cell.every_trial()}
        cell, _, number = name.rpartition("/")
        found = [
            key
            for key, trial in trials.items()
            if key.rpartition("/")[2] == number
            and cell in key
            and ("confirmation" in name or trial.stage is Stage.SEARCH)
        ]
        return self._only("trial", name, trials, found)

    def _only(self, kind: str, name: str, known: Mapping[str, T], found: Sequence[str]) -> T:
        """What has the name, else the one thing that was found by it."""
        keys = [name] if name in known else found
        if not keys:
            raise InputError(
                f"study {self.name!r} has no {kind} {name!r}; {suggestion(name, known)}"
            )
        if len(keys) > 1:
            raise InputError(f"{name!r} is in more than one cell; give one of {', '.join(keys)}")
        return known[keys[0]]


def summarize(workspace: Workspace, name: str) -> StudySummary:
    """Read a study.

    Raises:
        InputError: If the workspace has no study of that name.
        MgstudyError: If its manifest or storage cannot be read.
    """
    folder = StudyFolder.existing(workspace, name)
    manifest = StudyManifest.read(folder)
    return summarize_as(manifest, folder)


def summarize_as(
    manifest: StudyManifest, folder: StudyFolder, storage: BaseStorage | None = None
) -> StudySummary:
    """Read a study's trials as those of a manifest's cells.

    Args:
        manifest: The study, as it was launched last or as it would be launched now.
        folder: Its folder.
        storage: Where its trials are; what the manifest says when not given. It is closed.

    Raises:
        MgstudyError: If its storage cannot be read.
    """
    config = manifest.config
    url = folder.database(config)
    driver = holder(folder.path, url, manifest.name)
    storage = storage or open_storage(url, create=False)
    try:
        studies = storage.get_all_studies()
        names = [study.study_name for study in studies]
        cells = [
            CellState.from_trials(
                entry,
                config,
                trials_of(storage, entry.study, names),
                replicates_of(storage, entry.study, names),
                runs=lambda trial: driver.is_alive,
                checkpoints=folder.checkpoints,
            )
            for entry in manifest.cells
        ]
        parent = parent_of(studies, manifest.name)
        cells += hidden_cells(storage, studies, manifest.cells, config, folder.checkpoints)
    except NOT_WRITTEN_BY_OPTUNA as error:
        why = f"{type(error).__name__}: {first_line(error)}"
        raise MgstudyError(f"storage {redacted(url)} cannot be read: {why}") from error
    finally:
        close_storage(storage)
    if config.confirmation.up_to is not None:
        cells = with_rounds(cells, config)
    return StudySummary(manifest, cells, folder, driver, read_popularity(folder), parent)


def _trained_by(manifest: StudyManifest) -> Mapping[str, Any]:
    return manifest.config.training.model_dump(exclude={"evaluation_block_size"})
