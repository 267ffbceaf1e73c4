"""What every completion must do, whatever it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from mgstudy.data.dataset import Dataset
from mgstudy.features.completions.base import Completion, complete
from mgstudy.testing.datasets import small_dataset


class CompletionContract:
    """Holds a completion to what it owes; subclass it and set ``completion``.

    Attributes:
        completion: The class under test.
        parameters: Settings by name, where the defaults do not do or take long.
    """

    completion: ClassVar[type[Completion]]
    parameters: ClassVar[Mapping[str, Any]] = {}

    def test_fills_the_gaps_and_nothing_else(self) -> None:
        dataset = with_gaps()
        filled = self._completed(dataset)
        assert filled.observed_fingerprint == dataset.observed_fingerprint
        for modality, table in filled.features.items():
            observed = dataset.observed[modality]
            assert table.dtype == np.float32 and np.isfinite(table).all()
            np.testing.assert_array_equal(table[observed], dataset.features[modality][observed])
            assert filled.feature_fingerprints[modality] != dataset.feature_fingerprints[modality]

    def test_nothing_is_learnt_from_what_stood_in_the_gaps(self) -> None:
        dataset = with_gaps()
        others = {
            modality: np.where(dataset.observed[modality][:, None], table, -1000).astype(np.float32)
            for modality, table in dataset.features.items()
        }
        filled = self._completed(dataset)
        again = self._completed(dataset.with_features(others))
        for modality, table in filled.features.items():
            np.testing.assert_array_equal(table, again.features[modality])

    def test_a_dataset_without_gaps_stays_as_it_is(self) -> None:
        dataset = small_dataset()
        assert self._completed(dataset) is dataset

    def test_what_is_completed_again_is_the_same(self) -> None:
        once = self._completed(with_gaps())
        again = self._completed(once)
        for modality, table in once.features.items():
            np.testing.assert_array_equal(table, again.features[modality])
        assert once.feature_fingerprints == again.feature_fingerprints

    def _completed(self, dataset: Dataset) -> Dataset:
        name = f"completion {self.completion.name}"
        settings = self.completion.Parameters.validated(name, self.parameters)
        return complete(dataset, self.completion(settings))


def with_gaps() -> Dataset:
    """``small_dataset``, of which items 0 and 1 lack the image, 2 and 3 the text and 4 both; 1000
    stands in the gaps."""
    dataset = small_dataset()
    items = np.arange(dataset.item_count)
    observed = {"image": ~np.isin(items, [0, 1, 4]), "text": ~np.isin(items, [2, 3, 4])}
    tables = {
        modality: np.where(observed[modality][:, None], table, 1000).astype(np.float32)
        for modality, table in dataset.features.items()
    }
    return replace(dataset.with_features(tables), observed=observed)
