"""Expand a study file into cells: every combination of factor levels, each with its own space."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mgstudy.config.document import Document
from mgstudy.config.factors import level_label, short_name
from mgstudy.config.study import StudyConfig
from mgstudy.data.dataset import Dataset
from mgstudy.errors import InputError, suggestion
from mgstudy.features.completions.base import Completion
from mgstudy.models.base import ModalityNeed, Recommender
from mgstudy.study.definition.cell import FACTORS, REGISTRIES, Cell, declared_parameters
from mgstudy.study.definition.cell_spaces import cell_spaces, each_level, refuse_unused_space
from mgstudy.study.definition.manifest import LeftOutEntry


@dataclass(frozen=True)
class CellPlan:
    """The cells of a study, and the combinations that were left out."""

    cells: tuple[Cell, ...]
    left_out: tuple[LeftOutEntry, ...]


def expand(
    config: StudyConfig, document: Document, datasets: Mapping[str, Dataset] | None = None
) -> CellPlan:
    """Cross the factors and give every cell its space.

    Args:
        config: The validated study file.
        document: Where the file's values stood, for messages.
        datasets: The datasets by their level's label, to leave out models that cannot work with
            one; without, that is not checked.

    Raises:
        InputError: For an unknown name, a space that is invalid for its parameter, a parameter
            that no level has, or when no combination can be trained.
    """
    parts = {factor: _resolve_parts(config, document, factor) for factor in REGISTRIES}
    _refuse_repeated_methods(config, document)
    refuse_unused_space(config, document, parts)
    cells: list[Cell] = []
    left_out: list[LeftOutEntry] = []
    # A factor without levels, completion, is not crossed.
    crossed = [getattr(config.factors, factor) or (None,) for factor in FACTORS]
    for combination in itertools.product(*crossed):
        choice = dict(zip(FACTORS, combination, strict=True))
        levels = {f: level_label(level) for f, level in choice.items() if level is not None}
        model = parts["model"][choice["model"].name]
        dataset = None if datasets is None else datasets[levels["dataset"]]
        reason = _completion_refusal(config, model, choice, parts["completion"], dataset)
        reason = reason or _refusal(model, choice, parts["robust"], dataset)
        if reason is not None:
            left_out.append(LeftOutEntry(levels=levels, reason=reason))
            continue
        cells.append(
            Cell(
                levels=levels,
                dataset=levels["dataset"],
                model=choice["model"].name,
                gradient=choice["gradient"].name,
                robust=tuple(level.name for level in choice["robust"]),
                optimizer=choice["optimizer"].name,
                seed=choice["seed"],
                spaces=cell_spaces(config, document, choice, parts, dataset),
                completion=choice["completion"] and choice["completion"].name,
            )
        )
    if not cells:
        reasons = sorted({entry.reason for entry in left_out})
        raise InputError(f"{document.source}: no combination can be trained: {'; '.join(reasons)}")
    return CellPlan(tuple(cells), tuple(left_out))


def _completion_refusal(
    config: StudyConfig,
    model: type[Recommender],
    choice: Mapping[str, Any],
    completions: Mapping[str, type[Completion]],
    dataset: Dataset | None,
) -> str | None:
    """Why a completion cannot act here: all of them but the first would give the same cell."""
    level = choice["completion"]
    if level is None:
        return None
    first = config.factors.completion[0]
    acts = "with nothing to fill, every completion is the same, and the first stands for all"
    if model.modality_need is ModalityNeed.NONE:
        return None if level is first else f"{model.name} reads no features; {acts}"
    if dataset is None:
        return None
    if all(dataset.observed[modality].all() for modality in dataset.features):
        return None if level is first else f"no item of {dataset.name} lacks a modality; {acts}"
    return completions[level.name].refusal(dataset)


def _refusal(
    model: type[Recommender],
    choice: Mapping[str, Any],
    methods: Mapping[str, type],
    dataset: Dataset | None,
) -> str | None:
    if dataset is not None:
        reason = model.refusal(dataset)
        if reason is not None:
            return reason
    if not model.trainable and (choice["gradient"].name != "plain" or choice["robust"]):
        return f"{model.name} is not trained: only gradient=plain and robust=none make sense"
    for level in choice["robust"]:
        reason = methods[level.name].refusal(model, dataset)  # type: ignore[attr-defined]
        if reason is not None:
            return str(reason)
    return None


def _resolve_parts(config: StudyConfig, document: Document, factor: str) -> dict[str, type]:
    found: dict[str, type] = {}
    for location, level in each_level(config, factor):
        try:
            found[level.name] = REGISTRIES[factor].get(level.name)
        except InputError as error:
            raise document.error(location, str(error)) from error
        source = getattr(found[level.name], "reconstructed_from", None)
        if source is not None and not level.label.startswith(short_name(level.name)):
            raise document.error(
                (*location, "label"),
                f"{level.name} is a reconstruction from {source}, which tables say at its name: a "
                "label must begin with that name",
            )
        declared = declared_parameters(found[level.name])
        for name in level.parameters:
            if name not in declared.model_fields:
                raise document.error(
                    (*location, "parameters", name),
                    f"{level.name} has no such parameter; "
                    f"{suggestion(name, declared.model_fields)}",
                )
    return found


def _refuse_repeated_methods(config: StudyConfig, document: Document) -> None:
    """Refuse a method twice in one composition, where one's parameters would be the other's."""
    for position, methods in enumerate(config.factors.robust):
        names = [short_name(level.name) for level in methods]
        for inner, name in enumerate(names):
            if name in names[:inner]:
                raise document.error(
                    ("factors", "robust", position, inner),
                    f"{name} stands twice in this list, and has one set of parameters; keep one",
                )
