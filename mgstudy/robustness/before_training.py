"""Datasets whose features something happened to before any model was trained on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mgstudy.data.dataset import Dataset
from mgstudy.fingerprint import fingerprint
from mgstudy.robustness.risks.base import Risk

_VERSION = 1
"""To be raised when what a risk makes of a table changes."""


@dataclass(frozen=True)
class AppliedRisk:
    """A risk that has happened.

    Attributes:
        name: How a study file calls the risk.
        risk: The risk; one that needs a model cannot happen before there is one.
        severity: How severely.
        seed: Of its random choices.
    """

    name: str
    risk: Risk
    severity: float
    seed: int

    def describe(self) -> dict[str, Any]:
        """Everything that the changed tables depend on besides the dataset, as JSON-like data."""
        own = self.risk.parameters.model_dump(mode="json", exclude={"severities", "seeds"})
        return {"risk": self.name, "parameters": own, "severity": self.severity, "seed": self.seed}


def with_risks_applied(dataset: Dataset, applied: Sequence[AppliedRisk], name: str) -> Dataset:
    """The same interactions with the feature tables after all risks, each upon the one before.

    A changed table has a fingerprint of its own, made of what it was made from, so that no graph of
    the clean table is ever used with it; one that comes out as it was keeps its fingerprint. The
    changed tables are kept with what else is derived from the dataset.

    Args:
        dataset: The clean dataset.
        applied: The risks, in the order they happen.
        name: What the new dataset is called.

    Raises:
        InputError: If a risk's parameters name a modality that the dataset lacks.
    """
    recipe = {
        "interactions": dataset.fingerprint,
        "features": dict(dataset.feature_fingerprints),
        "risks": [each.describe() for each in applied],
        "version": _VERSION,
    }

    def changed_tables() -> Mapping[str, NDArray[Any]]:
        current = dataset
        for each in applied:
            tables = each.risk.tables(current, each.severity, each.seed)
            current = replace(current, features=tables)
        return {
            modality: table
            for modality, table in current.features.items()
            if not np.array_equal(table, dataset.features[modality])
        }

    changed = dataset.derived.get("features_before_training", recipe, changed_tables)
    return replace(
        dataset,
        name=name,
        features={**dataset.features, **changed},
        feature_fingerprints={
            **dataset.feature_fingerprints,
            **{modality: fingerprint({"table": modality, **recipe}) for modality in changed},
        },
    )
