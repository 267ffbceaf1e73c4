"""Items without features in a modality."""

from __future__ import annotations

from typing import Literal

import numpy as np

from mgstudy.config.parameters import parameter
from mgstudy.robustness.risks.base import RiskParameters, Shares, Table, TableRisk, affected_items


class MissingModality(TableRisk):
    """Inherent noise: some items have no picture, no text, no sound.

    In each of the ``modalities`` by itself, a share of the items is drawn, and their features
    become the table's mean, the usual imputation, or zeros. At severity 1 nothing is left of the
    modality.
    """

    name = "missing_modality"
    severity = "share of the items without features, by modality"

    class Parameters(RiskParameters):
        """How many items, and what stands in for what is missing."""

        severities: Shares = parameter((0.1, 0.25, 0.5, 1.0), "share of the items")
        replacement: Literal["mean", "zero"] = parameter(
            "mean", "what stands where features are missing: the table's mean, or zeros"
        )

    parameters: Parameters

    def changed_table(self, table: Table, severity: float, random: np.random.Generator) -> Table:
        items = affected_items(len(table), severity, random)
        mean = table.mean(axis=0, dtype=np.float64).astype(np.float32)
        table[items] = mean if self.parameters.replacement == "mean" else 0.0
        return table
