"""Histories hold what a user did in training, in the order of time, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest

from mgstudy.config.pipeline import PipelineConfig
from mgstudy.data.dataset import Dataset, Interactions
from mgstudy.data.derived import DerivedArrays
from mgstudy.data.histories import histories, users_trained_on_later
from mgstudy.data.loading import load_dataset
from mgstudy.data.prepare import prepare

USERS, ITEMS = 5, 9


def interactions(rows: list[tuple[int, int, int]], ordered: bool = True) -> Interactions:
    users, items, times = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    return Interactions(users, items, *((times, times / 10) if ordered else ()))


def dataset_of(rows: list[tuple[int, int, int]], ordered: bool = True) -> Dataset:
    train = interactions(rows, ordered)
    held_out = interactions([(0, 8, 10), (3, 7, 11)], ordered)
    return Dataset.from_arrays("toy", USERS, ITEMS, train, held_out, held_out, {})


ROWS = [(2, 4, 7), (0, 1, 5), (2, 3, 1), (0, 2, 5), (2, 4, 3), (0, 0, 2), (3, 5, 9), (0, 1, 1)]


def test_a_history_is_ordered_by_time_and_then_as_in_the_table() -> None:
    found = histories(dataset_of(ROWS))
    assert found.ordered
    assert found.starts.tolist() == [0, 4, 4, 7, 8, 8]
    assert found.items.tolist() == [1, 0, 1, 2, 3, 4, 4, 5]
    assert found.ratings is not None
    assert found.ratings.tolist() == pytest.approx([0.1, 0.2, 0.5, 0.5, 0.1, 0.3, 0.7, 0.9])


def test_what_came_before_a_pair_s_last_occurrence_is_one_slice() -> None:
    found = histories(dataset_of(ROWS))
    places = dict(zip(found.pairs.tolist(), found.last_places.tolist(), strict=True))
    assert places == {
        0 * ITEMS + 0: 1, 0 * ITEMS + 1: 2, 0 * ITEMS + 2: 3,
        2 * ITEMS + 3: 4, 2 * ITEMS + 4: 6, 3 * ITEMS + 5: 7,
    }  # fmt: skip
    assert np.array_equal(found.pairs, np.sort(found.pairs))


def test_without_times_the_table_s_order_stands_and_says_nothing() -> None:
    found = histories(dataset_of(ROWS, ordered=False))
    assert not found.ordered
    assert found.ratings is None
    assert found.items.tolist() == [1, 2, 0, 1, 4, 3, 4, 5]


def test_nothing_held_out_is_ever_in_a_history() -> None:
    random = np.random.default_rng(0)
    rows = np.stack(
        [random.integers(USERS, size=200), random.integers(ITEMS, size=200), np.arange(200)], axis=1
    )
    split = random.integers(3, size=200)
    parts = [interactions(list(map(tuple, rows[split == part]))) for part in range(3)]
    found = histories(Dataset.from_arrays("toy", USERS, ITEMS, *parts, {}))
    of_user = np.repeat(np.arange(USERS), np.diff(found.starts))
    assert sorted(zip(of_user, found.items, strict=True)) == sorted(
        map(tuple, rows[split == 0][:, :2])
    )


def test_times_that_were_not_handed_on_are_never_met_in_what_was_kept(tmp_path) -> None:
    """One store: both have the fingerprint of the same data."""
    whole = replace(dataset_of(ROWS), derived=DerivedArrays(tmp_path))
    assert whole.pairs_only().fingerprint == whole.fingerprint
    for _ in range(2):
        assert histories(whole).items.tolist() == [1, 0, 1, 2, 3, 4, 4, 5]
        assert histories(whole.pairs_only()).items.tolist() == [1, 2, 0, 1, 4, 3, 4, 5]


def test_fingerprints_follow_times_and_are_what_they_were_without() -> None:
    same, later = dataset_of(ROWS), dataset_of([(0, 1, 6), *ROWS[1:]])
    assert same.fingerprint == dataset_of(ROWS).fingerprint != later.fingerprint
    assert dataset_of(ROWS, ordered=False).fingerprint == "56a9d6d360c169e48fb4c25d0c8083a1"


def test_a_random_split_trains_users_on_what_is_later() -> None:
    dataset = dataset_of(ROWS)
    assert users_trained_on_later(dataset) == 0
    late = replace(dataset, train=interactions([*ROWS, (3, 1, 12)]))
    assert users_trained_on_later(late) == 0.5
    assert users_trained_on_later(late.pairs_only()) is None


def test_domains_that_are_split_by_themselves_do_not_leak_into_each_other() -> None:
    one = [(0, 0, 1, 0), (0, 1, 2, 2), (0, 2, 9, 0), (0, 3, 10, 2)]  # User, item, time, split.
    rows = {split: [row[:3] for row in one if row[3] == split] for split in range(3)}
    parted = replace(
        dataset_of(ROWS),
        train=interactions(rows[0]),
        validation=interactions(rows[1]),
        test=interactions(rows[2]),
        domains=("a", "b"),
        item_domains=np.array([0, 0, 1, 1, 0, 0, 0, 0, 0], dtype=np.int8),
    )
    assert users_trained_on_later(parted) == 1
    assert users_trained_on_later(parted, within_domains=True) == 0
    late = replace(parted, train=interactions([*rows[0], (0, 4, 3)]))
    assert users_trained_on_later(late, within_domains=True) == 1


def test_a_prepared_dataset_brings_its_times_and_ratings(tmp_path, workspace) -> None:
    lines = ["user,item,rating,when", *(f"u{u},i{i},{r},{t}" for u, i, r, t in PREPARED)]
    (tmp_path / "log.csv").write_text("\n".join(lines) + "\n", "utf-8")
    source = {
        "kind": "table", "interactions": str(tmp_path / "log.csv"),
        "user": "user", "item": "item", "rating": "rating", "timestamp": "when",
    }  # fmt: skip
    pipeline = {"name": "log", "source": source, "steps": [{"split_leave_out": {"k": 1}}]}
    prepare(PipelineConfig.model_validate(pipeline), workspace)
    dataset = load_dataset(workspace, "log")
    splits = dataset.train, dataset.validation, dataset.test
    assert [split.times.tolist() for split in splits] == [[900, 100, 200], [1000, 300], [1100, 400]]
    assert dataset.train.ratings.tolist() == [2.5, 4.0, 5.0]
    assert not dataset.train.times.flags.writeable
    assert users_trained_on_later(dataset) == 0


PREPARED = [(0, 0, 2.5, 900), (0, 1, 3, 1000), (0, 2, 3, 1100)] + [
    (1, 3 - place, rating, time)
    for place, (rating, time) in enumerate([(3, 400), (4, 100), (5, 200), (1, 300)])
]
