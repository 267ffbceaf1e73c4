"""What completions fill in, against rows worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mgstudy.data.dataset import Dataset, Interactions
from mgstudy.data.derived import DerivedArrays
from mgstudy.features.completions.base import Completion, complete
from mgstudy.features.completions.mean import Mean
from mgstudy.features.completions.neighbours import Neighbours
from mgstudy.features.completions.noise import Noise
from mgstudy.features.completions.zero import Zero
from mgstudy.testing.completions import with_gaps

IMAGE = np.array([[1, 2], [3, 6], [5, 1], [9, 9], [9, 9]], dtype=np.float32)
TEXT = np.array([[1, 0], [0, 1], [-1, -1], [0.1, 0.8], [7, 7]], dtype=np.float32)


@pytest.fixture
def gaps() -> Dataset:
    """Item 3 lacks the image and has a text most like item 1's; item 4 lacks both."""
    none = Interactions(np.array([0]), np.array([0]))
    made = Dataset.from_arrays("d", 1, 5, none, none, none, {"image": IMAGE, "text": TEXT})
    items = np.arange(5)
    return replace(made, observed={"image": items < 3, "text": items < 4})


def test_the_mean_is_of_the_rows_that_are_there(gaps: Dataset) -> None:
    filled = complete(gaps, Mean()).features
    assert filled["image"][3:].tolist() == [[3, 3]] * 2
    assert filled["text"][4].tolist() == pytest.approx([0.025, 0.2])


def test_zeros_are_zeros(gaps: Dataset) -> None:
    filled = complete(gaps, Zero()).features
    assert not filled["image"][3:].any() and not filled["text"][4].any()


def test_neighbours_are_those_most_alike_in_what_is_known(gaps: Dataset) -> None:
    filled = complete(gaps, Neighbours()).features
    assert filled["image"][3].tolist() == [3, 6]
    assert filled["image"][4].tolist() == [3, 3]  # Nothing is known of it.
    two = complete(gaps, Neighbours(Neighbours.Parameters(count=2))).features
    assert two["image"][3].tolist() == [2, 4]  # Of items 1 and 0.


def test_noise_is_distributed_like_the_rows_that_are_there() -> None:
    random = np.random.default_rng(0)
    table = random.normal([0, 5], [1, 3], size=(4000, 2)).astype(np.float32)
    none = Interactions(np.array([0]), np.array([0]))
    made = Dataset.from_arrays("d", 1, 4000, none, none, none, {"image": table})
    lacking = np.arange(4000) % 2 == 1
    gaps = replace(made, observed={"image": ~lacking})
    rows = complete(gaps, Noise()).features["image"][lacking]
    assert rows.mean(axis=0) == pytest.approx([0, 5], abs=0.2)
    assert rows.std(axis=0) == pytest.approx([1, 3], rel=0.1)
    assert len(np.unique(rows[:, 0])) > 1900
    published = Noise(Noise.Parameters(draw="published"))
    (vector,) = np.unique(complete(gaps, published).features["image"][lacking], axis=0)
    known = table[~lacking]
    assert (known.min(axis=0) <= vector).all() and (vector <= known.max(axis=0)).all()


class Counted(Zero):
    """Counts how often it is computed."""

    made = 0

    def completed(self, dataset, progress):  # type: ignore[no-untyped-def]
        type(self).made += 1
        return super().completed(dataset, progress)


def test_tables_are_made_once_and_keyed_by_what_is_lacking(tmp_path) -> None:
    dataset = replace(with_gaps(), derived=DerivedArrays(tmp_path))
    completion: Completion = Counted()
    first = complete(dataset, completion)
    again = complete(replace(dataset, derived=DerivedArrays(tmp_path)), completion)
    assert Counted.made == 1
    assert first.feature_fingerprints == again.feature_fingerprints
    fewer = replace(dataset, observed={**dataset.observed, "text": np.ones(40, dtype=bool)})
    assert complete(fewer, completion).feature_fingerprints != first.feature_fingerprints
    assert Counted.made == 2


def test_a_table_that_comes_out_as_it_was_keeps_its_fingerprint() -> None:
    filled = complete(with_gaps(), Mean())
    assert complete(filled, Mean()).feature_fingerprints == filled.feature_fingerprints


def test_a_dataset_of_one_modality_has_no_neighbours(gaps: Dataset) -> None:
    alone = gaps.with_features({"image": IMAGE})
    assert "needs 2 or more modalities" in str(Neighbours.refusal(alone))
    assert Neighbours.refusal(gaps) is None
