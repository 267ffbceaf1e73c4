"""Zeros."""

from __future__ import annotations

import numpy as np

from mgstudy.data.dataset import Dataset
from mgstudy.features.completions.base import Completed, Completion
from mgstudy.files import Progress


class Zero(Completion):
    """Zeros, the default of MoDiCF's published code (where 0 is the smallest value of a column)."""

    name = "zero"

    def completed(self, dataset: Dataset, progress: Progress) -> Completed:
        return Completed(
            {
                modality: np.zeros_like(table[~dataset.observed[modality]])
                for modality, table in dataset.features.items()
            }
        )
