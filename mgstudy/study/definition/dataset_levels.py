"""The datasets of a study: prepared ones, also with features changed or taken before training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from mgstudy.config.document import Document
from mgstudy.config.factors import ChangedDataset, DatasetLevel, level_label
from mgstudy.config.reading import Location
from mgstudy.data.dataset import Dataset
from mgstudy.data.loading import load_dataset, load_without
from mgstudy.errors import InputError, UnknownNameError, suggestion
from mgstudy.robustness.before_training import AppliedRisk, with_risks_applied
from mgstudy.robustness.risks.base import Risk, risks
from mgstudy.workspace import Workspace

_SINGULAR = {"severities": "severity", "seeds": "seed"}
"""What is an axis when a trained model is measured is one value before training."""


def load_levels(
    levels: tuple[DatasetLevel, ...], document: Document, workspace: Workspace
) -> dict[str, Dataset]:
    """The dataset of every level of the dataset factor, by the level's label.

    Args:
        levels: As the study file gives them.
        document: Where they stood, for messages.
        workspace: Where the prepared datasets are.

    Raises:
        InputError: If a dataset is not prepared, or a risk, a parameter of it or a modality does
            not exist or has a wrong value; with its place.
    """
    prepared: dict[str, Dataset] = {}
    found: dict[str, Dataset] = {}
    for position, level in enumerate(levels):
        location: Location = ("factors", "dataset", position)
        name = level if isinstance(level, str) else level.name
        try:
            if name not in prepared:
                prepared[name] = load_dataset(workspace, name)
            dataset = prepared[name]
        except InputError as error:
            raise document.error(location, str(error)) from error
        if isinstance(level, ChangedDataset) and level.missing is not None:
            try:
                dataset = load_without(workspace, dataset, level.missing, level.label)
            except InputError as error:
                raise document.error((*location, "missing"), str(error)) from error
        if isinstance(level, ChangedDataset) and level.features:
            dataset = _changed(dataset, level, document, location)
        found[level_label(level)] = dataset
    return found


def _changed(
    dataset: Dataset, level: ChangedDataset, document: Document, location: Location
) -> Dataset:
    if not dataset.features:
        raise document.error(
            (*location, "features"), f"dataset {level.name!r} has no features that could change"
        )
    applied = []
    for name, settings in level.features.items():
        place = (*location, "features", name)
        each = _applied(name, settings, document, place)
        for modality in each.risk.parameters.modalities or ():
            if modality not in dataset.features:
                unknown = UnknownNameError("modality", modality, dataset.features)
                raise document.error((*place, "modalities"), str(unknown))
        applied.append(each)
    try:
        return with_risks_applied(dataset, applied, level.label)
    except InputError as error:
        raise document.error((*location, "features"), str(error)) from error


def _applied(
    name: str, settings: Mapping[str, Any], document: Document, place: Location
) -> AppliedRisk:
    try:
        kind: type[Risk] = risks.get(name)
    except InputError as error:
        raise document.error(place, str(error)) from error
    if kind.needs_model:
        raise document.error(
            place,
            f"{name} attacks a trained model, and before training there is none; "
            "`mgstudy robustness` measures it afterwards",
        )
    known = [_SINGULAR.get(field, field) for field in kind.Parameters.model_fields]
    for key in settings:
        if key not in known:
            raise document.error(
                (*place, key), f"{name} has no such parameter; {suggestion(key, known)}"
            )
    if "severity" not in settings:
        raise document.error(place, f"`severity` is missing: {kind.severity}")
    given = {"seed": 0, **settings}
    for key in _SINGULAR.values():
        if isinstance(given[key], bool) or not isinstance(given[key], int | float):
            raise document.error((*place, key), f"expected one number, got {given[key]!r}")
    axis = {plural: given.pop(singular) for plural, singular in _SINGULAR.items()}
    try:
        parameters = kind.Parameters.model_validate({**given, **axis})
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        field = str(detail["loc"][0]) if detail["loc"] else ""
        message = detail["msg"].removeprefix("Value error, ")
        raise document.error(
            (*place, _SINGULAR.get(field, field)) if field else place,
            f"{detail['input']!r} is not valid: {message[0].lower()}{message[1:]}",
        ) from error
    return AppliedRisk(name, kind(parameters), parameters.severities[0], parameters.seeds[0])
