"""What tests of every part share."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from mgstudy.data.dataset import Dataset, Interactions


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real datasets; a test that needs it is skipped where there is none."""
    beside_the_repository = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("MGSTUDY_TEST_DATA", beside_the_repository))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set MGSTUDY_TEST_DATA to where it is")
    return folder


@pytest.fixture
def small_dataset() -> Dataset:
    """60 users and 40 items in four tastes, which interactions and both modalities share."""
    random = np.random.default_rng(7)
    tastes = random.normal(size=(4, 6))
    user_taste, item_taste = random.integers(4, size=60), random.integers(4, size=40)
    likes = np.where(user_taste[:, None] == item_taste[None, :], 0.5, 0.03)
    users, items = np.nonzero(random.random(likes.shape) < likes)
    split = random.choice(3, size=len(users), p=(0.7, 0.15, 0.15))
    # Every user is trained on, as in a prepared dataset.
    split[np.unique(users, return_index=True)[1]] = 0
    train, validation, test = (
        Interactions(users[split == part], items[split == part]) for part in range(3)
    )
    features = {
        modality: (tastes[item_taste] + random.normal(scale=0.3, size=(40, 6))).astype(np.float32)
        for modality in ("image", "text")
    }
    return Dataset.from_arrays("small", 60, 40, train, validation, test, features)
