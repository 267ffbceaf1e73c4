"""Objectives that are measured after a risk: which risk, and what the model then sees."""

from __future__ import annotations

from mgstudy.config.training import parse_objective
from mgstudy.data.dataset import Dataset
from mgstudy.errors import InputError
from mgstudy.robustness.before_training import AppliedRisk
from mgstudy.robustness.risks.base import make_risk, risks
from mgstudy.robustness.trained_model import ChangedFeatures, with_changed_features
from mgstudy.training.robust.base import prepare_dataset
from mgstudy.training.trainer import Trainer


def risk_of(objective: str) -> AppliedRisk | None:
    """The risk after which an objective is measured, with its default parameters and first seed;
    ``None`` of a metric alone.

    Raises:
        UnknownNameError: If there is no such risk.
        InputError: If it has no such severity, or attacks a model, which would train against it.
    """
    _, name, severity = parse_objective(objective)
    if name is None:
        return None
    if risks.get(name).needs_model:
        others = [other for other in risks.names() if not risks.get(other).needs_model]
        raise InputError(
            f"{objective}: {name} attacks a trained model, anew in each validation; an objective "
            f"takes {', '.join(others[:-1])} or {others[-1]}"
        )
    risk = make_risk(name, {} if severity is None else {"severities": [severity]})
    severities, seeds = risk.parameters.severities, risk.parameters.seeds
    return AppliedRisk(name, risk, severities[(len(severities) - 1) // 2], seeds[0])


def change_after(risk: AppliedRisk, trainer: Trainer, dataset: Dataset) -> ChangedFeatures:
    """What the model of a trainer sees after a risk, its graphs between items left as they are.

    Args:
        risk: What happens to the features.
        trainer: Of the model.
        dataset: What the trainer was built from, before robust methods prepared it.
    """
    tables = risk.risk.tables(dataset, risk.severity, risk.seed)
    methods = [(type(method), method.parameters) for method in trainer.robust]
    changed = prepare_dataset(methods, with_changed_features(dataset, tables))
    return ChangedFeatures(trainer.model.features, trainer.dataset.features, changed.features)
