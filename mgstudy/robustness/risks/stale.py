"""Items whose features have all become those of another item."""

from __future__ import annotations

import numpy as np

from mgstudy.config.parameters import parameter
from mgstudy.data.dataset import Dataset
from mgstudy.models.base import Recommender
from mgstudy.robustness.risks.base import Risk, RiskParameters, Shares, Tables, affected_items


class Stale(Risk):
    """Information adjustment: items are replaced, and what the model learned of them is stale.

    A share of the items is drawn, and each gets, in every modality, the features of one and the
    same other item drawn at random. The new features belong together, as those of a new product
    under an old number do; the interactions that the model learned from are those of the old one.
    """

    name = "stale"
    severity = "share of the items that were replaced"

    class Parameters(RiskParameters):
        """How many items."""

        severities: Shares = parameter((0.1, 0.25, 0.5, 1.0), "share of the items")

    def changed(
        self,
        dataset: Dataset,
        severity: float,
        random: np.random.Generator,
        model: Recommender | None,
    ) -> Tables:
        count = dataset.item_count
        # Drawn for all items, so that a higher severity adds items and changes no other.
        steps = random.integers(1, max(2, count), size=count)
        items = affected_items(count, severity, random)
        successors = (items + steps[items]) % count
        tables: Tables = {}
        for modality in self.chosen(dataset):
            table = np.array(dataset.features[modality], dtype=np.float32)
            table[items] = dataset.features[modality][successors]
            tables[modality] = table
        return tables
