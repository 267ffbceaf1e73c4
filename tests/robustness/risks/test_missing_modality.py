"""Which rows go missing, which were missing before, and what stands in for them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mgstudy.data.dataset import Dataset
from mgstudy.robustness.risks.missing_modality import MissingModality
from mgstudy.testing import small_dataset


@pytest.fixture
def gaps() -> Dataset:
    """Items 0 to 9 lack the image, and 1000 stands there."""
    dataset = small_dataset()
    lacking = np.arange(40) < 10
    image = np.where(lacking[:, None], 1000, dataset.features["image"]).astype(np.float32)
    made = dataset.with_features({**dataset.features, "image": image})
    return replace(made, observed={"image": ~lacking})


def changed(dataset: Dataset, severity: float, **parameters: Any) -> np.ndarray:
    risk = MissingModality(MissingModality.Parameters(**parameters))
    return risk.tables(dataset, severity, seed=1)["image"]


def test_rows_that_were_missing_before_stay_and_tell_nothing(gaps: Dataset) -> None:
    image = changed(gaps, 0.5)
    lost = (image != gaps.features["image"]).any(axis=1)
    assert lost.sum() == 20 and not lost[:10].any()
    assert np.array_equal(image[:10], gaps.features["image"][:10])
    left = gaps.features["image"][10:][~lost[10:]]
    assert np.allclose(image[lost], left.mean(axis=0), atol=1e-6)


def test_where_nothing_is_left_the_mean_is_of_what_was_there(gaps: Dataset) -> None:
    image = changed(gaps, 1.0)
    assert np.allclose(image[10:], gaps.features["image"][10:].mean(axis=0), atol=1e-6)
    assert not changed(gaps, 1.0, replacement="zero")[10:].any()


def test_items_can_be_drawn_in_the_patterns_of_a_dataset_level() -> None:
    dataset = small_dataset()
    risk = MissingModality(MissingModality.Parameters(pattern="protected", replacement="zero"))
    tables = risk.tables(dataset, 0.5, seed=1)
    lost = [~table.any(axis=1) for table in tables.values()]
    assert (np.sum(lost, axis=0) == 1).all()  # Every item keeps one of two.
    assert "reaches a rate of 0.5" in str(risk.refusal(dataset))
    within = MissingModality.Parameters(pattern="protected", severities=(0.1, 0.5))
    assert MissingModality(within).refusal(dataset) is None
