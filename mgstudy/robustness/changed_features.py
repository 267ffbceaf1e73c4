"""Changed feature tables, on their way into a trained model and into the graphs it builds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mgstudy.data.dataset import Dataset, as_tensor
from mgstudy.data.derived import Arrays, DerivedArrays
from mgstudy.models.item_features import ItemFeatures


class ChangedFeatures:
    """Shows a model changed tables in place of those it was trained on; a ``FeatureTransform``.

    A model that reads the tables as constants sees the changed ones. One that trained a copy of
    its own sees its copy plus the difference, since what changed is the information that the copy
    started from. A table that is not changed is not touched.

    Args:
        features: The model's door.
        clean: The tables that the model was trained on, by modality.
        changed: The tables after the change.
    """

    def __init__(
        self,
        features: ItemFeatures,
        clean: Mapping[str, NDArray[np.float32]],
        changed: Mapping[str, NDArray[np.float32]],
    ) -> None:
        self._trained = features.trained
        self._tables: dict[str, Tensor] = {}
        for modality in features.modalities:
            if np.array_equal(clean[modality], changed[modality]):
                continue
            values = changed[modality] - clean[modality] if self._trained else changed[modality]
            self._tables[modality] = as_tensor(values).to(features.table(modality).device)

    def __bool__(self) -> bool:
        """Whether anything is changed."""
        return bool(self._tables)

    def __call__(self, modality: str, rows: Tensor, items: Tensor | None) -> Tensor:
        if modality not in self._tables:
            return rows
        table = self._tables[modality]
        values = table if items is None else functional.embedding(items, table)
        return rows + values if self._trained else values


def with_changed_features(dataset: Dataset, tables: Mapping[str, NDArray[np.float32]]) -> Dataset:
    """The dataset with changed tables. What follows from them (item graphs) is not kept on disk:
    there is no end of changes, and none is met again."""
    changed = dataset.with_features(tables)
    return replace(changed, derived=_NotFromFeatures(dataset.derived))


class _NotFromFeatures(DerivedArrays):
    """Shares what follows from the interactions alone, and keeps the rest in this process."""

    def __init__(self, shared: DerivedArrays) -> None:
        super().__init__()
        self._shared = shared

    def get(
        self,
        name: str,
        inputs: Mapping[str, Any],
        compute: Callable[[], Mapping[str, NDArray[Any]]],
    ) -> Arrays:
        if "features" in inputs:
            return super().get(name, inputs, compute)
        return self._shared.get(name, inputs, compute)
