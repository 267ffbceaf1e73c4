"""Popular items' features mixed into others'."""

from __future__ import annotations

import numpy as np

from mgstudy.config.parameters import parameter
from mgstudy.data.dataset import Dataset
from mgstudy.models.base import Recommender
from mgstudy.robustness.risks.base import Risk, RiskParameters, Shares, Tables, affected_items


class ItemMixing(Risk):
    """Information adjustment: sellers dress their items up as popular ones ("popular tags").

    An affected item's features become ``(1 − severity) · x_i + severity · x_p``, in every modality
    with the same popular item p, drawn at random from the ``popular_items`` items with the most
    training interactions (the interpolation is mixup's, Zhang et al., ICLR 2018; the risk is Zhong
    et al.'s, WWW 2024).
    """

    name = "item_mixing"
    severity = "weight of the popular item's features"

    class Parameters(RiskParameters):
        """What is mixed into which items."""

        severities: Shares = parameter(
            (0.1, 0.25, 0.5, 0.75), "weight of the popular item's features"
        )
        item_share: float = parameter(0.5, "share of the items that are dressed up", ge=0, le=1)
        popular_items: int = parameter(20, "how many of the most popular items are copied", ge=1)

    parameters: Parameters

    def changed(
        self,
        dataset: Dataset,
        severity: float,
        random: np.random.Generator,
        model: Recommender | None,
    ) -> Tables:
        items = affected_items(dataset.item_count, self.parameters.item_share, random)
        popular = np.argsort(-dataset.train_counts, kind="stable")[: self.parameters.popular_items]
        copied = random.choice(popular, size=len(items))
        tables: Tables = {}
        for modality in self.chosen(dataset):
            table = np.array(dataset.features[modality], dtype=np.float32)
            weight = np.float32(severity)
            table[items] = (1 - weight) * table[items] + weight * dataset.features[modality][copied]
            tables[modality] = table
        return tables
