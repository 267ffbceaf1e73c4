"""Noise that is distributed like the rows that are there."""

from __future__ import annotations

import zlib
from typing import Literal

import numpy as np

from mgstudy.config.parameters import ParameterSet, parameter
from mgstudy.data.dataset import Dataset
from mgstudy.features.completions.base import Completed, Completion
from mgstudy.files import Progress


class Noise(Completion):
    """Noise, column by column like the rows that are there.

    ``draw = "normal"`` (ours, and what a pipeline's ``missing: noise`` is): each row anew, normal
    with the mean and deviation of the column. ``draw = "published"`` (MoDiCF's code): one vector
    per modality for all rows, uniform between the least and the largest value of the column.
    """

    name = "noise"

    class Parameters(ParameterSet):
        draw: Literal["normal", "published"] = parameter("normal", "how rows are drawn")
        seed: int = parameter(0, "of the draw, which is the same for every model", ge=0)

    parameters: Parameters

    def completed(self, dataset: Dataset, progress: Progress) -> Completed:
        rows = {}
        for modality, table in dataset.features.items():
            observed = dataset.observed[modality]
            random = np.random.default_rng([self.parameters.seed, zlib.crc32(modality.encode())])
            known = table[observed].astype(np.float64)
            shape = (int((~observed).sum()), table.shape[1])
            if self.parameters.draw == "published":
                vector = random.uniform(known.min(axis=0), known.max(axis=0))
                rows[modality] = np.tile(vector, (shape[0], 1))
            else:
                rows[modality] = random.normal(known.mean(axis=0), known.std(axis=0), shape)
        return Completed(rows)
