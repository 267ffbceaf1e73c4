"""Items without features in a modality."""

from __future__ import annotations

from typing import Literal

import numpy as np

from mgstudy.config.factors import MissingModalities
from mgstudy.config.parameters import parameter
from mgstudy.data.dataset import Dataset
from mgstudy.data.missing import Masks, taken
from mgstudy.errors import InputError
from mgstudy.models.base import Recommender
from mgstudy.robustness.risks.base import Risk, RiskParameters, Shares, Tables, affected_items


class MissingModality(Risk):
    """Inherent noise: some items have no picture, no text, no sound.

    The items are drawn in one of the patterns of ``missing`` (``mgstudy.data.missing``), by default
    in each of the ``modalities`` by itself, from those that have it: what stands in the row of an
    item that lacked it before stays. Their features become the mean of the rows that are left, the
    usual imputation, or zeros. At severity 1 nothing is left of the modality, and its mean is that
    of the rows that were there.
    """

    name = "missing_modality"
    severity = "share of the items without features, by modality"

    class Parameters(RiskParameters):
        """How many items, and what stands in for what is missing."""

        severities: Shares = parameter((0.1, 0.25, 0.5, 1.0), "share of the items")
        replacement: Literal["mean", "zero"] = parameter(
            "mean", "what stands where features are missing: the table's mean, or zeros"
        )
        pattern: Literal["independent", "protected", "groups"] = parameter(
            "independent", "which items lose what; the severity is the pattern's rate"
        )

    parameters: Parameters

    def refusal(self, dataset: Dataset) -> str | None:
        if self.parameters.pattern == "independent":
            return None
        try:
            self._masks(dataset, self.parameters.severities[-1], np.random.default_rng(0))
        except InputError as error:
            return str(error)
        return None

    def changed(
        self,
        dataset: Dataset,
        severity: float,
        random: np.random.Generator,
        model: Recommender | None,
    ) -> Tables:
        masks = self._masks(dataset, severity, random)
        tables: Tables = {}
        for modality in self.chosen(dataset):
            table = np.array(dataset.features[modality], dtype=np.float32)
            observed, lost = dataset.observed[modality], masks[modality]
            left = observed & ~lost
            mean = table[left if left.any() else observed].mean(axis=0, dtype=np.float64)
            table[lost] = mean if self.parameters.replacement == "mean" else 0.0
            tables[modality] = table
        return tables

    def _masks(self, dataset: Dataset, severity: float, random: np.random.Generator) -> Masks:
        """Which items lose which modality."""
        pattern = self.parameters.pattern
        if pattern != "independent":
            seed = int(random.integers(2**32))
            return taken(dataset, MissingModalities(pattern=pattern, rate=severity, seed=seed))
        masks = {}
        count = round(severity * dataset.item_count)
        for modality in self.chosen(dataset):
            order = affected_items(dataset.item_count, 1.0, random)
            masks[modality] = np.zeros(dataset.item_count, dtype=np.bool_)
            masks[modality][order[dataset.observed[modality][order]][:count]] = True
        return masks
