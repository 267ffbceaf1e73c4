"""The features of the items that are most alike in what is known of both."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mgstudy.config.parameters import ParameterSet, parameter
from mgstudy.data.dataset import Dataset
from mgstudy.data.feature_tables import mean_of_known
from mgstudy.features.completions.base import Completed, Completion, Table
from mgstudy.files import Progress

_ROWS_AT_ONCE = 512


class Neighbours(Completion):
    """The mean features of the most similar items, which have the modality.

    Only items are compared that have everything the item has; how similar two are is the mean of
    the cosines of the modalities that the item has, each about its table's mean (ASSUMED: MoDiCF's
    code names "the nearest complete item" among its fills, and the similarity is not published). An
    item that has no modality, or that no item can be compared with, gets the mean.
    """

    name = "neighbours"
    modalities_needed = 2

    class Parameters(ParameterSet):
        count: int = parameter(1, "similar items whose features are averaged", ge=1)

    parameters: Parameters

    def completed(self, dataset: Dataset, progress: Progress) -> Completed:
        directions = {name: _directions(dataset, name) for name in dataset.features}
        return Completed({name: self._rows(dataset, name, directions) for name in dataset.features})

    def _rows(
        self, dataset: Dataset, modality: str, directions: dict[str, NDArray[np.float64]]
    ) -> NDArray[np.float64]:
        table, observed = dataset.features[modality], dataset.observed[modality]
        rows = np.empty((len(table), table.shape[1]))
        rows[:] = mean_of_known(table, observed)
        others = [name for name in dataset.features if name != modality]
        known = np.stack([dataset.observed[name] for name in others], axis=1)
        for pattern in np.unique(known[~observed], axis=0):
            compared = [name for name, has in zip(others, pattern, strict=True) if has]
            donors = np.flatnonzero(observed & (known[:, pattern].all(axis=1)))
            if not compared or not len(donors):
                continue
            asking = np.flatnonzero(~observed & (known == pattern).all(axis=1))
            for start in range(0, len(asking), _ROWS_AT_ONCE):
                items = asking[start : start + _ROWS_AT_ONCE]
                similar = np.sum(
                    [directions[name][items] @ directions[name][donors].T for name in compared],
                    axis=0,
                )
                rows[items] = _mean_of_nearest(similar, table, donors, self.parameters.count)
        return rows[~observed]


def _directions(dataset: Dataset, modality: str) -> NDArray[np.float64]:
    """Rows about the mean of those that are there, of length 1."""
    table = dataset.features[modality].astype(np.float64)
    table -= table[dataset.observed[modality]].mean(axis=0)
    lengths = np.linalg.norm(table, axis=1, keepdims=True)
    directions: NDArray[np.float64] = table / np.where(lengths > 0, lengths, 1)
    return directions


def _mean_of_nearest(
    similar: NDArray[np.float64], table: Table, donors: NDArray[np.int64], count: int
) -> NDArray[np.float64]:
    count = min(count, len(donors))
    # Of equally similar items those with the lower ids.
    nearest = donors[np.argsort(-similar, axis=1, kind="stable")[:, :count]]
    mean: NDArray[np.float64] = table[nearest].mean(axis=1, dtype=np.float64)
    return mean
