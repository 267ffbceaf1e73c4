"""Features exchanged between items, each modality by itself."""

from __future__ import annotations

import numpy as np

from mgstudy.config.parameters import parameter
from mgstudy.robustness.risks.base import RiskParameters, Shares, Table, TableRisk, affected_items


class Swap(TableRisk):
    """Inherent noise: an item carries the picture, or the text, of another.

    In each modality by itself, a share of the items is drawn and each gets the features of the
    next one drawn, the last those of the first. So every table keeps its distribution, and only
    whose features they are, and that an item's modalities belong together, is lost.
    """

    name = "swap"
    severity = "share of the items with another item's features, by modality"

    class Parameters(RiskParameters):
        """How many items."""

        severities: Shares = parameter((0.1, 0.25, 0.5, 1.0), "share of the items")

    def changed_table(self, table: Table, severity: float, random: np.random.Generator) -> Table:
        items = affected_items(len(table), severity, random)
        table[items] = table[np.roll(items, 1)]
        return table
