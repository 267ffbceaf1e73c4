"""What every risk must do, whatever it is."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar

import numpy as np
import pytest

from mgstudy.config.training import TrainingSettings
from mgstudy.data.dataset import Dataset
from mgstudy.errors import InputError
from mgstudy.models.base import Recommender
from mgstudy.robustness.risks.base import Risk, Tables
from mgstudy.testing.datasets import small_dataset
from mgstudy.training.run import build_trainer


class RiskContract:
    """Holds a risk to what it owes; subclass it and set ``risk``.

    Attributes:
        risk: The class under test.
        parameters: Settings by name, where the defaults do not do.
    """

    risk: ClassVar[type[Risk]]
    parameters: ClassVar[Mapping[str, Any]] = {}

    def make(self, **parameters: Any) -> Risk:
        """The risk, with settings in place of or besides those of the class."""
        given = {**self.parameters, **parameters}
        return self.risk(self.risk.Parameters.validated(f"risk {self.risk.name}", given))

    def test_severity_zero_changes_nothing_to_the_bit(self) -> None:
        dataset = small_dataset()
        tables = self._changed(dataset, 0.0, seed=3)
        assert list(tables) == list(dataset.features)
        for modality, table in dataset.features.items():
            assert tables[modality].dtype == np.float32
            np.testing.assert_array_equal(tables[modality], table)

    def test_the_seed_alone_decides_and_more_severity_moves_features_further(self) -> None:
        dataset = small_dataset()
        distances = []
        for severity in self.make().parameters.severities:
            tables, again = (self._changed(dataset, severity, seed=3) for _ in range(2))
            other = self._changed(dataset, severity, seed=4)
            distances.append(
                sum(float(np.square(tables[m] - t).sum()) for m, t in dataset.features.items())
            )
            for modality, table in tables.items():
                assert table.dtype == np.float32
                assert table.shape == dataset.features[modality].shape
                assert np.isfinite(table).all()
                np.testing.assert_array_equal(table, again[modality])
            if severity < 1:  # A whole table without features is one whatever was drawn.
                assert any(not np.array_equal(tables[m], other[m]) for m in tables)
        assert distances == sorted(distances)
        assert distances[0] > 0

    def test_only_the_modalities_that_are_named_change(self) -> None:
        dataset = small_dataset()
        tables = self._changed(dataset, 0.5, seed=1, modalities=("text",))
        np.testing.assert_array_equal(tables["image"], dataset.features["image"])
        assert not np.array_equal(tables["text"], dataset.features["text"])

    def test_the_dataset_stays_as_it_was(self) -> None:
        dataset = small_dataset()
        kept = {modality: table.copy() for modality, table in dataset.features.items()}
        self._changed(dataset, 0.5, seed=1)
        for modality, table in kept.items():
            np.testing.assert_array_equal(dataset.features[modality], table)

    def test_a_modality_that_is_not_there_is_refused(self) -> None:
        with pytest.raises(InputError, match=r"unknown modality 'txt'; did you mean 'text'"):
            self._changed(small_dataset(), 0.5, seed=0, modalities=("txt",))

    def _changed(self, dataset: Dataset, severity: float, seed: int, **parameters: Any) -> Tables:
        model = _trained_model() if self.risk.needs_model else None
        return self.make(**parameters).tables(dataset, severity, seed, model)


@cache
def _trained_model() -> Recommender:
    """A model that reads the features of ``small_dataset``, for an attack to know."""
    trainer = build_trainer(
        small_dataset(),
        model="VBPR",
        optimizer_parameters={"learning_rate": 0.02},
        settings=TrainingSettings(epochs=1, batch_size=64, early_stopping=None),
    )
    for _ in trainer.epochs():
        pass
    return trainer.model.eval()
