"""What is to be measured of which trained models of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from mgstudy.config.parameters import Value
from mgstudy.config.robustness import Robustness
from mgstudy.errors import InputError, suggestion
from mgstudy.files import sha256_of
from mgstudy.fingerprint import fingerprint
from mgstudy.models.base import models
from mgstudy.robustness.risks.base import Risk, make_risk
from mgstudy.study.definition.cell import Cell
from mgstudy.study.definition.study import Study
from mgstudy.study.results.summary import StudySummary
from mgstudy.study.search.state import CellState
from mgstudy.study.search.trials import RecordedTrial, State
from mgstudy.study.storage.layout import StudyFolder

_VERSION = 1
"""To be raised when what a measurement means changes."""


@dataclass(frozen=True)
class TrainedCell:
    """One trained model of a study.

    Attributes:
        cell: Its cell.
        key: The trial's name inside its study.
        replicate: Its number among the models of its cell.
        seed: The seed it was trained under.
        parameters: A value for every parameter of the cell.
        weights: The file of its weights.
        split: What it is ranked on: the test split if it is confirmed; a model that a search chose
            by validation is measured there, and the test is not looked at.
    """

    cell: Cell
    key: str
    replicate: int
    seed: int
    parameters: Mapping[str, Value]
    weights: Path
    split: Literal["validation", "test"]

    @cached_property
    def identity(self) -> str:
        """Changes when the model is trained anew."""
        return sha256_of(self.weights)[:16]


@dataclass(frozen=True)
class Point:
    """One measurement under a risk.

    Attributes:
        label: How the risk is called in this study.
        risk: Its name.
        parameters: Its parameters, without severities and seeds.
        severity: How severe.
        seed: Of the risk's random choices.
    """

    label: str
    risk: str
    parameters: Mapping[str, Any]
    severity: float
    seed: int


@dataclass(frozen=True)
class Task:
    """Something to measure of one model.

    Attributes:
        kind: ``clean`` for the score on clean features, ``risk`` for that under a risk,
            ``flatness``, or ``landscape`` for slices of the loss landscape.
        key: Identifies model, settings and what is measured: what has a result is not done again.
        point: Of a risk.
    """

    kind: Literal["clean", "risk", "flatness", "landscape"]
    key: str
    point: Point | None = None


@dataclass(frozen=True)
class RobustnessPlan:
    """Everything to be measured of a study.

    Attributes:
        study: The study.
        summary: What it has come to.
        settings: What is measured.
        trained: The models.
    """

    study: Study
    summary: StudySummary
    settings: Robustness
    trained: Sequence[TrainedCell]

    def tasks(self, trained: TrainedCell) -> list[Task]:
        """Everything to measure of one model."""
        training, settings = self.study.config.training, self.settings
        ranking = {
            "model": trained.identity,
            "split": trained.split,
            "metrics": [str(metric) for metric in training.metrics],
            "objective": training.clean_objective,
            "mask_validation": training.mask_validation_in_test,
            "resamples": settings.resamples,
            "version": _VERSION,
        }
        tasks = [Task("clean", _key("clean", **ranking))]
        for point in risk_points(settings):
            content = {
                "risk": point.risk,
                "parameters": dict(point.parameters),
                "severity": point.severity,
                "seed": point.seed,
            }
            tasks.append(Task("risk", _key("risk", **ranking, **content), point))
        if settings.flatness is not None and models.get(trained.cell.model).trainable:
            surface = {
                "model": trained.identity,
                "settings": settings.flatness.model_dump(),
                "batch_size": training.batch_size,
                "version": _VERSION,
            }
            tasks.append(Task("flatness", _key("flatness", **surface)))
            if trained.replicate < settings.landscapes:
                tasks.append(Task("landscape", _key("landscape", **surface)))
        return tasks


def risk_points(settings: Robustness) -> list[Point]:
    """Every severity and seed of every risk.

    Raises:
        InputError: If a risk or a parameter of it does not exist, or has a wrong value.
    """
    points = []
    for level in settings.risks:
        risk = make_risk(level.name, level.parameters)
        own = risk.parameters.model_dump(mode="json", exclude={"severities", "seeds"})
        points += [
            Point(level.label, level.name, own, severity, seed)
            for severity in risk.parameters.severities
            for seed in risk.parameters.seeds
        ]
    return points


def rebuild_risk(point: Point) -> Risk:
    """The risk of a point."""
    seeds = {"severities": [point.severity], "seeds": [point.seed]}
    return make_risk(point.risk, {**point.parameters, **seeds})


def plan_robustness(
    study: Study,
    summary: StudySummary,
    settings: Robustness | None = None,
    cells: Sequence[str] = (),
    risks: Sequence[str] = (),
) -> RobustnessPlan:
    """Find the trained models of a study, and what to measure of them.

    Args:
        study: The study.
        summary: What it has come to.
        settings: What to measure; what the study file says, or the defaults, when not given.
        cells: Parts of cell keys; only cells that match one are measured. All when not given.
        risks: Labels of the risks to measure, ``flatness`` among them; all when not given.

    Raises:
        InputError: If there is no such cell or risk, or nothing is trained yet.
    """
    chosen = _chosen(settings or study.config.robustness or Robustness(), risks)
    risk_points(chosen)
    by_key = {cell.key: cell for cell in study.plan.cells}
    wanted = _matching([cell.key for cell in summary.cells], cells)
    trained = [
        found
        for cell in summary.cells
        if cell.key in wanted and cell.key in by_key
        for found in trained_models(cell, by_key[cell.key], study.folder)
    ]
    if not trained:
        raise InputError(
            f"study {summary.name!r} has no trained model to measure yet; launch it first, or let "
            "it run on"
        )
    return RobustnessPlan(study, summary, chosen, trained)


def _chosen(settings: Robustness, labels: Sequence[str]) -> Robustness:
    if not labels:
        return settings
    known = [*(risk.label for risk in settings.risks), "flatness"]
    for label in labels:
        if label not in known:
            raise InputError(f"unknown risk {label!r}; {suggestion(label, known)}")
    return settings.model_copy(
        update={
            "risks": tuple(risk for risk in settings.risks if risk.label in labels),
            "flatness": settings.flatness if "flatness" in labels else None,
        }
    )


def _matching(keys: Sequence[str], parts: Sequence[str]) -> set[str]:
    for part in parts:
        if not any(part in key for key in keys):
            raise InputError(f"no cell matches {part!r}; {suggestion(part, keys)}")
    return {key for key in keys if not parts or any(part in key for part in parts)}


def trained_models(state: CellState, cell: Cell, folder: StudyFolder) -> list[TrainedCell]:
    """The confirmed models of a cell, else its best trial."""
    complete = [trial for trial in state.confirmations if trial.state is State.COMPLETE]
    confirmed = [trial for trial in complete if _present(trial.weights, folder)]
    best = state.best
    if confirmed:
        return [_trained(trial, cell, "test") for trial in confirmed]
    if best is None or "checkpoint" not in best.outcome or not _present(best.weights, folder):
        return []
    return [_trained(best, cell, "validation")]


def _trained(trial: RecordedTrial, cell: Cell, split: Literal["validation", "test"]) -> TrainedCell:
    return TrainedCell(
        cell=cell,
        key=trial.key,
        replicate=trial.number if split == "test" else 0,
        seed=trial.seed,
        parameters=trial.parameters,
        weights=trial.weights,
        split=split,
    )


def _present(weights: Path, folder: StudyFolder) -> bool:
    if folder.workspace is not None:
        folder.workspace.fetch(weights)
    return weights.is_file()


def _key(kind: str, **content: Any) -> str:
    return f"{kind}-{fingerprint(content)}"
