import numpy as np
import pytest

from mgstudy.data.interactions import TEST, TRAIN, VALIDATION, RawInteractions
from mgstudy.data.splitting import split_per_user
from mgstudy.data.steps.cold_start import ColdStart


@pytest.mark.parametrize(
    ("size", "validation", "test"),
    [(1, 0, 0), (2, 0, 0), (3, 1, 1), (9, 1, 1), (10, 1, 1), (14, 1, 1), (15, 1, 2), (20, 2, 2)],
)
def test_every_user_is_split_by_the_published_rule(size: int, validation: int, test: int) -> None:
    users = np.random.default_rng(0).permutation(np.repeat(np.arange(50), size))
    splits = split_per_user(users, np.random.default_rng(1))
    for code, expected in ((VALIDATION, validation), (TEST, test)):
        assert np.bincount(users[splits == code], minlength=50).tolist() == [expected] * 50


def test_every_interaction_is_as_likely_to_be_held_out() -> None:
    users = np.repeat(np.arange(4000), 10)
    splits = split_per_user(users, np.random.default_rng(0)).reshape(4000, 10)
    for code in (VALIDATION, TEST):
        assert np.abs((splits == code).mean(axis=0) - 0.1).max() < 0.02


def test_what_is_held_out_first_comes_before_everything_else() -> None:
    users = np.repeat(np.arange(500), 12)
    first = np.tile(np.arange(12) == 7, 500)
    splits = split_per_user(users, np.random.default_rng(0), held_out_first=first)
    assert (splits[first] != TRAIN).all()
    assert (splits[first] == TEST).mean() == pytest.approx(0.5, abs=0.1)


def test_only_held_out_interactions_of_untrained_users_are_dropped() -> None:
    raw = RawInteractions(
        users=np.array([0, 0, 1, 1, 2]),
        items=np.array([0, 3, 1, 0, 2]),
        splits=np.array([TRAIN, TEST, VALIDATION, TEST, TRAIN], dtype=np.int8),
        user_count=3,
        item_count=4,
        origin="here",
    )
    kept = ColdStart(ColdStart.Parameters()).apply(raw)
    assert kept.users.tolist() == [0, 0, 2]
    assert kept.items.tolist() == [0, 3, 2]
    assert (kept.user_count, kept.item_count) == (3, 4)
    assert [(step.rows_in, step.rows_out) for step in kept.steps] == [(5, 3)]


def test_counts() -> None:
    counts = RawInteractions(
        users=np.array([0, 0, 1, 1]),
        items=np.array([0, 0, 1, 2]),
        splits=np.array([TRAIN, TRAIN, TRAIN, TEST], dtype=np.int8),
        user_count=2,
        item_count=4,
        origin="here",
    ).counts()
    assert (counts.train, counts.validation, counts.test) == (3, 0, 1)
    assert counts.items_without_training == 2
    assert counts.sparsity == pytest.approx(5 / 8)
