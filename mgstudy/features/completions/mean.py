"""The mean of the items that have the modality."""

from __future__ import annotations

import numpy as np

from mgstudy.data.dataset import Dataset
from mgstudy.data.feature_tables import mean_of_known
from mgstudy.features.completions.base import Completed, Completion
from mgstudy.files import Progress


class Mean(Completion):
    """The mean of the rows that are there: the usual imputation, and the default."""

    name = "mean"

    def completed(self, dataset: Dataset, progress: Progress) -> Completed:
        rows = {}
        for modality, table in dataset.features.items():
            observed = dataset.observed[modality]
            mean = mean_of_known(table, observed)
            rows[modality] = np.tile(mean, (int((~observed).sum()), 1))
        return Completed(rows)
