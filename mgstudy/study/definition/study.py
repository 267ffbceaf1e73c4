"""A study file that has been read, checked and expanded; the start of everything else."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from mgstudy.config.document import Document, load_document
from mgstudy.config.factors import varying_factors
from mgstudy.config.metrics import DOMAINS, split_group
from mgstudy.config.parameters import Fixed, Value
from mgstudy.config.reading import Location
from mgstudy.config.study import StudyConfig, unknown_level
from mgstudy.config.training import parse_objective
from mgstudy.data.dataset import Dataset
from mgstudy.errors import InputError, UnknownNameError, suggestion
from mgstudy.models.base import models
from mgstudy.robustness.objectives import risk_of
from mgstudy.robustness.risks.base import Risk, risks
from mgstudy.study.definition.dataset_levels import load_levels
from mgstudy.study.definition.expansion import CellPlan, expand
from mgstudy.study.definition.manifest import DatasetEntry, StudyManifest
from mgstudy.study.definition.optuna_parts import check_search
from mgstudy.study.definition.trial_parts import check_parts
from mgstudy.study.storage.layout import StudyFolder
from mgstudy.study.storage.optuna_storage import check_storage_url
from mgstudy.training.metrics.groups import refusal
from mgstudy.workspace import Workspace

_LONGEST_FOLDER = 255
"""Of what file systems take as the name of one folder."""
_LONGEST_STUDY = 512
"""Of what Optuna's tables take as the name of a study."""
_MOST_SEVERE = 1e6


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

    def with_values(self, values: Mapping[str, Mapping[str, Value]]) -> Study:
        """The study with values, by cell and parameter, in place of what cells would search."""
        cells = tuple(
            replace(
                cell,
                spaces={
                    **cell.spaces,
                    **{name: Fixed(value=value) for name, value in values[cell.key].items()},
                },
            )
            if cell.key in values
            else cell
            for cell in self.plan.cells
        )
        return replace(self, plan=replace(self.plan, cells=cells))


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


def read_launched_study(name: str, home: Path | str | None = None) -> Study:
    """Read a study as it was launched last, from the workspace.

    Raises:
        InputError: If there is no such study, or its datasets are no longer there.
        MgstudyError: If what is kept of it is damaged.
    """
    workspace = Workspace.resolve(home)
    folder = StudyFolder.existing(workspace, name)
    return as_launched(StudyManifest.read(folder), folder, workspace)


def check_study(document: Document, workspace: Workspace) -> Study:
    """Check a study file that has been read: its names, spaces, datasets and risks.

    Raises:
        InputError: For anything that is wrong in it, with its place.
    """
    config = document.validate(StudyConfig)
    _check_storage(config, document)
    datasets = load_levels(config.factors.dataset, document, workspace)
    _check_objective(config, document, datasets)
    _check_risks(config, document, datasets)
    _check_questions(config, document)
    _check_names(config, document)
    plan = expand(config, document, datasets)
    _check_lengths(config, document, plan)
    check_search(config, document, plan.cells)
    check_parts(config, document, plan.cells, datasets)
    reads_order = {cell.dataset for cell in plan.cells if models.get(cell.model).reads_order}
    read = {
        label: dataset if label in reads_order else dataset.pairs_only()
        for label, dataset in datasets.items()
    }
    return Study(config, document, workspace, read, plan)


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
    if manifest.config.parameters_from is not None:
        study = study.with_values({entry.key: entry.fixed for entry in manifest.cells})
    for label, recorded in manifest.datasets.items():
        if label in study.datasets and DatasetEntry.of(study.datasets[label]) != recorded:
            raise InputError(
                f"dataset {label!r} was prepared anew since study {manifest.name!r} ran; "
                "prepare it as it was, or launch the study again under another name"
            )
    return study


def _check_objective(
    config: StudyConfig, document: Document, datasets: Mapping[str, Dataset]
) -> None:
    """Refuse an objective that every model reaches."""
    for name, (label, dataset) in itertools.product(config.training.objectives, datasets.items()):
        measure, cutoff = parse_objective(name).metric
        for of, reason in (
            (measure, refusal(measure, dataset)),
            (name, _refusal_after_risk(name, document, dataset)),
        ):
            if reason is not None:
                raise document.error(("training", "objective"), f"{of} means nothing: {reason}")
        items = dataset.item_count
        if split_group(measure)[1] == DOMAINS and dataset.item_domains is not None:
            items = int(np.bincount(dataset.item_domains).min())
        if cutoff >= items:
            raise document.error(
                ("training", "objective"),
                f"{name} ranks all {items} items of {label}, where no model is better than another",
            )


def _refusal_after_risk(objective: str, document: Document, dataset: Dataset) -> str | None:
    """Why an objective's risk cannot happen to a dataset, or ``None``."""
    try:
        applied = risk_of(objective)
    except InputError as error:
        raise document.error(("training", "objective"), str(error)) from error
    if applied is None:
        return None
    if applied.severity > _MOST_SEVERE:
        return f"features would not be finite beyond a severity of {_MOST_SEVERE:,.0f}"
    if not dataset.features:
        return f"{dataset.name} has no features"
    return applied.risk.refusal(dataset)


def _check_risks(config: StudyConfig, document: Document, datasets: Mapping[str, Dataset]) -> None:
    """Refuse what cannot be measured of the trained models."""
    for position, level in enumerate(config.robustness.risks if config.robustness else ()):
        place: Location = ("robustness", "risks", position)
        try:
            kind: type[Risk] = risks.get(level.name)
        except InputError as error:
            raise document.error(place, str(error)) from error
        try:
            parameters = kind.Parameters.model_validate(level.parameters)
        except ValidationError as error:
            raise document.explain(error, (*place, "parameters"), kind.Parameters) from error
        if parameters.severities[-1] > _MOST_SEVERE:
            raise document.error(
                (*place, "parameters", "severities"),
                f"expected at most {_MOST_SEVERE:,.0f}, got {parameters.severities[-1]:g}: "
                "features would not be finite",
            )
        for dataset in datasets.values():
            reason = kind(parameters).refusal(dataset)
            if reason is not None:
                raise document.error((*place, "parameters"), f"{reason} ({dataset.name})")
        for modality in parameters.modalities or ():
            for dataset in datasets.values():
                if modality not in dataset.features:
                    unknown = UnknownNameError("modality", modality, dataset.features)
                    raise document.error(
                        (*place, "parameters", "modalities"), f"{unknown} in {dataset.name}"
                    )


def _check_questions(config: StudyConfig, document: Document) -> None:
    """Refuse a baseline that no cell can have."""
    factors = config.factors
    levels = {factor: factors.labels(factor) for factor in type(factors).model_fields}
    for position, question in enumerate(config.questions):
        if fault := unknown_level(question.baseline, levels):
            raise document.error(("questions", position, "baseline"), fault)


def _check_names(config: StudyConfig, document: Document) -> None:
    """Refuse a name for what no table of the study has, and one for two things."""
    factors = config.factors
    labels = [label for factor in type(factors).model_fields for label in factors.labels(factor)]
    known = {part for label in labels for part in (label, *label.split("+"))}
    known |= {*type(factors).model_fields, *map(str, config.training.metrics)}
    known |= set(config.training.objectives)
    for word in config.names:
        if word not in known:
            raise document.error(
                ("names", word),
                f"no level, metric or factor is called {word!r}; {suggestion(word, sorted(known))}",
            )
        others = [other for other, name in config.names.items() if name == config.names[word]]
        if others[0] != word:
            raise document.error(
                ("names", word), f"{others[0]} is called {config.names[word]!r} already"
            )


def _check_lengths(config: StudyConfig, document: Document, plan: CellPlan) -> None:
    """Refuse names too long for a file system, or for the tables of a database."""
    for cell in plan.cells:
        for factor, label in cell.levels.items():
            if len(label) > _LONGEST_FOLDER:
                raise document.error(
                    ("factors", factor),
                    f"the name of the level {label[:60]}... has {len(label)} characters, expected "
                    f"at most {_LONGEST_FOLDER}; give its parts a shorter `label`",
                )
        name = f"{config.name}/{cell.key}/confirmation/{config.trials}"
        if len(name) > _LONGEST_STUDY:
            raise document.error(
                ("factors",),
                f"the labels of cell {cell.key[:60]}... have {len(name)} characters with the "
                f"study's name, expected at most {_LONGEST_STUDY}; shorten one by a `label`",
            )
