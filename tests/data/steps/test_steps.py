"""Every step on interactions small enough to do by hand."""

import numpy as np
import pyarrow as pa
import pytest

from mgstudy.config.pipeline import PipelineConfig
from mgstudy.data.interactions import TEST, TRAIN, UNSPLIT, VALIDATION, RawInteractions
from mgstudy.data.pipeline import validate_pipeline
from mgstudy.errors import InputError


def log(rows, **changes) -> RawInteractions:
    """Interactions of ``(user, item, rating, timestamp)``."""
    users, items, ratings, times = (np.array(column) for column in zip(*rows, strict=True))
    content = {
        "users": users.astype(np.int64),
        "items": items.astype(np.int64),
        "splits": np.full(len(rows), UNSPLIT, np.int8),
        "user_count": int(users.max()) + 1,
        "item_count": int(items.max()) + 1,
        "origin": "log.csv",
        "ratings": ratings.astype(np.float64),
        "timestamps": times.astype(np.int64),
        "user_keys": pa.array([f"u{user}" for user in range(users.max() + 1)]),
        "item_keys": pa.array([f"i{item}" for item in range(items.max() + 1)]),
    }
    return RawInteractions(**content | changes)


def apply(interactions: RawInteractions, *steps) -> RawInteractions:
    source = {"kind": "synthetic"}
    config = PipelineConfig.model_validate({"name": "a", "source": source, "steps": list(steps)})
    for step in validate_pipeline(config).steps:
        interactions = step.apply(interactions)
    return interactions


def pairs(interactions: RawInteractions) -> list[tuple[int, int]]:
    return list(zip(interactions.users.tolist(), interactions.items.tolist(), strict=True))


def test_ratings_at_the_threshold_are_kept() -> None:
    rows = [(0, 0, 3.9, 1), (0, 1, 4.0, 2), (1, 0, 5.0, 3)]
    kept = apply(log(rows), {"rating_threshold": {"minimum": 4}})
    assert pairs(kept) == [(0, 1), (1, 0)]
    assert kept.ratings is not None
    assert kept.ratings.tolist() == [4, 5]
    assert [(step.rows_in, step.rows_out) for step in kept.steps] == [(3, 2)]
    with pytest.raises(InputError, match=r"log\.csv: has no ratings"):
        apply(log(rows, ratings=None), {"rating_threshold": {"minimum": 4}})


@pytest.mark.parametrize(
    ("settings", "times"),
    [
        ({}, [5, 2, 7]),
        ({"keep": "last"}, [9, 2, 7]),
        ({"by_time": True}, [9, 2, 5, 7]),
    ],
)
def test_one_of_each_is_kept_in_the_order_of_the_file(settings, times) -> None:
    rows = [(0, 0, 1, 9), (1, 0, 1, 2), (0, 0, 1, 5), (0, 1, 1, 7), (0, 0, 1, 9)]
    kept = apply(log(rows), {"deduplicate": settings})
    assert kept.timestamps is not None
    assert sorted(kept.timestamps.tolist()) == sorted(times)
    assert len(kept) == len(times)


def test_without_timestamps_the_order_of_the_file_says_which_is_first() -> None:
    rows = [(0, 0, 1, 0), (0, 1, 2, 0), (0, 0, 3, 0)]
    for keep, ratings in (("first", [1, 2]), ("last", [2, 3])):
        kept = apply(log(rows, timestamps=None), {"deduplicate": {"keep": keep}})
        assert kept.ratings is not None
        assert kept.ratings.tolist() == ratings


def naive_core(rows: set[tuple[int, int]], k: int) -> set[tuple[int, int]]:
    """Drop one user or item at a time, in another order than the step."""
    while True:
        for position in (1, 0):
            counts: dict[int, int] = {}
            for row in rows:
                counts[row[position]] = counts.get(row[position], 0) + 1
            few = [name for name, count in counts.items() if count < k]
            if few:
                rows = {row for row in rows if row[position] != few[0]}
                break
        else:
            return rows


@pytest.mark.parametrize("seed", range(5))
def test_the_core_is_the_fixed_point_whoever_is_dropped_first(seed: int) -> None:
    random = np.random.default_rng(seed)
    drawn = {(int(u), int(i)) for u, i in random.integers(0, (40, 30), size=(180, 2))}
    kept = apply(
        log([(u, i, 1, 0) for u, i in sorted(drawn)]), {"k_core": {"users": 3, "items": 3}}
    )
    assert set(pairs(kept)) == naive_core(drawn, 3)
    assert 0 < len(kept) < len(drawn)


def test_a_round_drops_users_and_items_of_the_same_snapshot() -> None:
    rows = [(0, 0, 1, 0), (0, 1, 1, 0), (1, 0, 1, 0), (1, 2, 1, 0), (2, 0, 1, 0)]
    once = apply(log(rows), {"k_core": {"users": 2, "items": 2, "rounds": 1}})
    assert pairs(once) == [(0, 0), (1, 0)]  # User 2 and items 1 and 2 go at once.
    assert once.steps[-1].counts == {"rounds": 1, "users dropped": 1, "items dropped": 2}
    with pytest.raises(InputError, match=r"log\.csv: nothing is left of 5 interactions"):
        apply(log(rows), {"k_core": {"users": 2, "items": 2}})


def test_ids_are_given_by_first_appearance_and_the_keys_kept() -> None:
    rows = [(3, 2, 1, 0), (1, 2, 1, 0), (3, 0, 1, 0)]
    indexed = apply(log(rows), "reindex")
    assert pairs(indexed) == [(0, 0), (1, 0), (0, 1)]
    assert (indexed.user_count, indexed.item_count) == (2, 2)
    assert indexed.user_keys is not None
    assert indexed.user_keys.to_pylist() == ["u3", "u1"]
    assert indexed.item_keys is not None
    assert indexed.item_keys.to_pylist() == ["i2", "i0"]


def history(size: int) -> RawInteractions:
    times = np.random.default_rng(size).permutation(size)
    return log([(0, item, 1, times[item]) for item in range(size)])


@pytest.mark.parametrize(
    ("size", "validation", "test"), [(2, 0, 0), (5, 1, 1), (10, 1, 1), (15, 1, 2), (25, 2, 3)]
)
def test_each_users_latest_are_held_out(size: int, validation: int, test: int) -> None:
    split = apply(history(size), "split_per_user_temporal")
    assert split.timestamps is not None
    by_time = split.splits[np.argsort(split.timestamps)].tolist()
    train = size - validation - test
    assert by_time == [TRAIN] * train + [VALIDATION] * validation + [TEST] * test


def test_other_ratios_hold_out_other_shares() -> None:
    split = apply(history(20), {"split_per_user_temporal": {"ratios": [0.5, 0.3, 0.2]}})
    assert np.bincount(split.splits).tolist() == [10, 6, 4]


def test_a_random_split_follows_its_seed() -> None:
    first, same, other = (
        apply(history(30), {"split_per_user_random": {"seed": seed}}).splits for seed in (0, 0, 1)
    )
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)
    assert np.bincount(first).tolist() == [24, 3, 3]


@pytest.mark.parametrize(("size", "held_out"), [(4, 0), (5, 2), (9, 2)])
def test_k_of_each_user_are_left_out(size: int, held_out: int) -> None:
    split = apply(history(size), {"split_leave_out": {"k": 2}})
    assert split.timestamps is not None
    latest = split.splits[np.argsort(split.timestamps)].tolist()
    assert latest == [TRAIN] * (size - 2 * held_out) + [VALIDATION] * held_out + [TEST] * held_out
    drawn = apply(history(size), {"split_leave_out": {"k": 2, "by": "random", "seed": 3}})
    assert np.bincount(drawn.splits, minlength=3)[1:].tolist() == [held_out] * 2


def test_a_global_cut_leaves_nothing_of_the_future_in_training() -> None:
    split = apply(history(100), {"split_global_temporal": {"ratios": [0.7, 0.1, 0.2]}})
    assert split.timestamps is not None
    ends = [split.timestamps[split.splits == code] for code in (TRAIN, VALIDATION, TEST)]
    assert ends[0].max() < ends[1].min() <= ends[1].max() < ends[2].min()
    assert [len(times) for times in ends] == [70, 10, 20]


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        ({}, [(0, 0), (0, 1)]),
        ({"users": "keep"}, [(0, 0), (0, 1), (1, 0)]),
        ({"items": "drop"}, [(0, 0)]),
        ({"users": "keep", "items": "drop"}, [(0, 0), (1, 0)]),
    ],
)
def test_cold_users_and_items_are_handled_as_declared_and_counted(settings, left) -> None:
    rows = [(0, 0, 1, 0), (0, 1, 1, 0), (1, 0, 1, 0)]
    splits = np.array([TRAIN, TEST, VALIDATION], np.int8)
    kept = apply(log(rows, splits=splits), {"cold_start": settings})
    assert pairs(kept) == left
    assert kept.steps[-1].counts == {
        "interactions of cold users": 1,
        "interactions of cold items": 1,
    }


@pytest.mark.parametrize(
    "step", ["split_per_user_temporal", "split_leave_out", "split_global_temporal"]
)
def test_what_needs_timestamps_says_so(step: str) -> None:
    with pytest.raises(InputError, match=rf"log\.csv: has no timestamps.*'{step}'"):
        apply(log([(0, 0, 1, 0)], timestamps=None), step)
