"""Features that were changed before training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mgstudy.config.training import TrainingSettings
from mgstudy.data.dataset import Dataset
from mgstudy.data.derived import DerivedArrays
from mgstudy.robustness.before_training import AppliedRisk, with_risks_applied
from mgstudy.robustness.risks.base import make_risk
from mgstudy.training.run import build_trainer


@pytest.fixture
def dataset(small_dataset: Dataset, tmp_path: Path) -> Dataset:
    """On disk, as studies have it."""
    return replace(small_dataset, derived=DerivedArrays(tmp_path))


def noisy(dataset: Dataset, severity: float, seed: int = 1) -> Dataset:
    risk = make_risk("gaussian_noise")
    return with_risks_applied(dataset, [AppliedRisk("gaussian_noise", risk, severity, seed)], "n")


def epochs(dataset: Dataset) -> list[tuple[float, dict[str, float] | None]]:
    trainer = build_trainer(
        dataset, model="VBPR", settings=TrainingSettings(epochs=2, early_stopping=None)
    )
    return [(result.loss, result.metrics) for result in trainer.epochs()]


def test_a_changed_table_is_what_the_risk_makes_of_it(dataset: Dataset) -> None:
    tables = make_risk("gaussian_noise").tables(dataset, 0.5, 1)
    changed = noisy(dataset, 0.5)
    for modality, table in changed.features.items():
        np.testing.assert_array_equal(table, tables[modality])
        assert not np.array_equal(table, dataset.features[modality])


def test_a_changed_table_shares_no_fingerprint_and_no_graph(dataset: Dataset) -> None:
    prints = [
        noisy(dataset, severity, seed).feature_fingerprints[modality]
        for severity, seed in ((0.0, 1), (0.5, 1), (0.25, 1), (0.5, 2))
        for modality in dataset.features
    ]
    assert len(set(prints)) == len(prints)
    changed = noisy(dataset, 0.5)
    assert changed.fingerprint == dataset.fingerprint

    def graph_of(of: Dataset) -> dict[str, np.ndarray]:
        trainer = build_trainer(of, model="FREEDOM")
        return {name: value.numpy() for name, value in trainer.model.named_buffers()}

    clean, other = graph_of(dataset), graph_of(changed)
    assert any(not np.array_equal(clean[name], other[name]) for name in clean)


def test_the_same_level_twice_is_the_same_to_the_bit(
    small_dataset: Dataset, tmp_path: Path
) -> None:
    first, second = (
        noisy(replace(small_dataset, derived=DerivedArrays(tmp_path / place)), 0.5)
        for place in ("here", "there")
    )
    assert first.feature_fingerprints == second.feature_fingerprints
    for modality in small_dataset.features:
        np.testing.assert_array_equal(first.features[modality], second.features[modality])


def test_severity_0_trains_as_the_clean_dataset_does(dataset: Dataset) -> None:
    untouched = noisy(dataset, 0.0)
    assert untouched.feature_fingerprints == dataset.feature_fingerprints
    assert epochs(untouched) == epochs(dataset)
    assert epochs(noisy(dataset, 2.0)) != epochs(dataset)
