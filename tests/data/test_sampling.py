from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from mgstudy.data import sampling
from mgstudy.data.dataset import Dataset, Interactions
from mgstudy.data.derived import DerivedArrays
from mgstudy.data.sampling import EpochSampler, NegativeSampler, epoch_batches
from mgstudy.errors import InputError

NOTHING = Interactions(np.empty(0, np.int64), np.empty(0, np.int64))


def dataset_of(pairs, users: int, items: int) -> Dataset:
    train = Interactions(*np.array(pairs, dtype=np.int64).T)
    return Dataset.from_arrays("toy", users, items, train, NOTHING, NOTHING, {})


@pytest.fixture
def random_dataset() -> Dataset:
    """Users from few to nearly all items, a repeated pair, items that never occur in training."""
    random = np.random.default_rng(3)
    likes = random.random((60, 50)) < np.linspace(0.02, 0.95, 60)[:, None]
    likes[:, [4, 17, 49]] = False
    likes[:, 0] = True
    likes[:, 1] = False
    likes[0, 1] = True
    users, items = np.nonzero(likes)
    order = random.permutation(len(users))
    order = np.append(order, order[0])
    return dataset_of(list(zip(users[order], items[order], strict=True)), 61, 50)


def test_a_negative_is_a_training_item_that_the_user_did_not_interact_with(random_dataset) -> None:
    train = random_dataset.train
    sampler = NegativeSampler(random_dataset)
    users = np.tile(np.arange(61), 500)
    negatives = sampler.sample(users, np.random.default_rng(0))
    assert negatives.dtype == np.int64
    seen = {(user, item) for user, item in zip(users.tolist(), negatives.tolist(), strict=True)}
    own = set(zip(train.users.tolist(), train.items.tolist(), strict=True))
    allowed = {(user, item) for user in range(61) for item in np.unique(train.items).tolist()}
    # 500 draws of at most 47 items: each that can be drawn is, but for one chance in thousands.
    assert seen <= allowed - own
    assert len(seen) > 0.999 * len(allowed - own)


@pytest.mark.parametrize("user", [0, 30, 59, 60])
def test_negatives_are_uniform(random_dataset, user: int) -> None:
    train = random_dataset.train
    draws = NegativeSampler(random_dataset).sample(
        np.full(50_000, user), np.random.default_rng(user)
    )
    counts = np.bincount(draws, minlength=50)
    allowed = np.setdiff1d(train.items, train.items[train.users == user])
    assert stats.chisquare(counts[allowed]).pvalue > 0.001
    assert counts.sum() == counts[allowed].sum()


class EveryRank:
    """A generator that draws every rank once."""

    def integers(self, counts):
        assert set(counts.tolist()) == {len(counts)}
        return np.arange(len(counts))


def test_of_every_user_each_rank_is_another_allowed_item_in_order() -> None:
    """Neighbouring own items share one key, scattered ones have many in one bucket."""
    random = np.random.default_rng(5)
    own = [
        np.arange(100, 160), np.arange(1, 200, 2), np.array([0]), np.array([199]), np.arange(199),
        random.choice(200, 90, replace=False), np.concatenate([np.arange(3, 40, 3), [198]]),
    ]  # fmt: skip
    pairs = [(user, item) for user, items in enumerate(own) for item in items]
    dataset = dataset_of([*pairs, *((7, item) for item in range(0, 199, 5))], users=9, items=200)
    sampler = NegativeSampler(dataset)
    for user, items in enumerate([*own, np.arange(0, 199, 5), np.empty(0, np.int64)]):
        allowed = np.setdiff1d(np.arange(200), items)
        drawn = sampler.sample(np.full(len(allowed), user), EveryRank())
        assert np.array_equal(drawn, allowed)


def test_the_same_generator_draws_the_same(random_dataset) -> None:
    sampler, users = NegativeSampler(random_dataset), random_dataset.train.users
    first, second, other = (sampler.sample(users, np.random.default_rng(s)) for s in (1, 1, 2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_a_user_with_every_item_is_refused_by_name() -> None:
    dataset = dataset_of([(0, 0), (1, 0), (1, 2)], users=2, items=3)
    with pytest.raises(InputError, match="'toy': user 1 interacted with every item"):
        NegativeSampler(dataset)


def test_a_negative_is_of_the_positive_s_domain_and_uniform_in_it(random_dataset) -> None:
    item_domains = (np.arange(50) % 3 == 0).astype(np.int8)
    train = random_dataset.train.where(random_dataset.train.users < 40)
    domains = replace(
        random_dataset, train=train, domains=("books", "films"), item_domains=item_domains
    )
    sampler, users, positives = NegativeSampler(domains), train.users, train.items
    drawn = sampler.sample(users, np.random.default_rng(0), positives)
    assert np.array_equal(item_domains[drawn], item_domains[positives])
    own = set(zip(users.tolist(), positives.tolist(), strict=True))
    assert not own & set(zip(users.tolist(), drawn.tolist(), strict=True))
    drawn = sampler.sample(np.full(50_000, 20), np.random.default_rng(1), np.full(50_000, 3))
    films = train.items[item_domains[train.items] == 1]
    allowed = np.setdiff1d(films, positives[users == 20])
    counts = np.bincount(drawn, minlength=50)
    assert counts.sum() == counts[allowed].sum()
    assert stats.chisquare(counts[allowed]).pvalue > 0.001


def test_a_user_with_every_item_of_a_domain_is_refused_by_both_names() -> None:
    one = dataset_of([(0, 0), (1, 0), (1, 2), (1, 3)], users=2, items=4)
    domains = replace(
        one, domains=("books", "films"), item_domains=np.array([0, 0, 1, 1], dtype=np.int8)
    )
    with pytest.raises(InputError, match=r"'toy \(books\)': user 0 interacted with every item"):
        NegativeSampler(domains)


def test_an_epoch_holds_every_interaction_once_in_random_order(random_dataset) -> None:
    train = random_dataset.train
    generator = np.random.default_rng(0)
    batches = list(epoch_batches(random_dataset, 128, generator, NegativeSampler(random_dataset)))
    sizes = [len(users) for users, _, _ in batches]
    assert sizes[:-1] == [128] * (len(train) // 128)
    assert sizes[-1] == len(train) % 128 > 0
    users, items = (np.concatenate([batch[part] for batch in batches]) for part in (0, 1))
    assert sorted(zip(users, items, strict=True)) == sorted(
        zip(train.users, train.items, strict=True)
    )
    assert not np.array_equal(users, train.users)
    assert all(len(negatives) == len(users) for users, _, negatives in batches)

    again = next(epoch_batches(random_dataset, 128, generator))
    assert again[2] is None
    assert not np.array_equal(again[0], batches[0][0])


def test_what_follows_from_the_data_is_computed_once(random_dataset, tmp_path) -> None:
    object.__setattr__(random_dataset, "derived", DerivedArrays(tmp_path))
    first = NegativeSampler(random_dataset)
    (entry,) = tmp_path.glob("negative_sampling-*[!k]")
    before = entry.stat().st_mtime_ns
    object.__setattr__(random_dataset, "derived", DerivedArrays(tmp_path))
    second = NegativeSampler(random_dataset)
    assert entry.stat().st_mtime_ns == before
    users = random_dataset.train.users
    assert np.array_equal(
        first.sample(users, np.random.default_rng(0)),
        second.sample(users, np.random.default_rng(0)),
    )


def epochs(sampler: EpochSampler, count: int) -> list[np.ndarray]:
    return [sampler.next_epoch() for _ in range(count)]


@pytest.mark.parametrize("negatives", [True, False])
def test_epochs_are_those_of_the_seed_and_drawn_once_in_a_process(
    random_dataset, negatives: bool, monkeypatch
) -> None:
    monkeypatch.setattr(sampling, "_drawn", sampling._Drawn(limit=2**20))
    generator = np.random.default_rng(4)
    negative_sampler = NegativeSampler(random_dataset) if negatives else None
    expected = [
        next(epoch_batches(random_dataset, 10**6, generator, negative_sampler)) for _ in range(3)
    ]
    first = EpochSampler(random_dataset, seed=4, negatives=negatives)
    for found, columns in zip(epochs(first, 3), expected, strict=True):
        assert len(found) == (3 if negatives else 2) and found.dtype == np.int32
        for row, column in zip(found, columns, strict=False):
            assert np.array_equal(row, column)
    assert first.state == generator.bit_generator.state

    monkeypatch.setattr(sampling, "drawn_epoch", None)  # Nothing is drawn again.
    again = EpochSampler(random_dataset, seed=4, negatives=negatives)
    assert np.array_equal(again.next_epoch()[0], expected[0][0])
    resumed = EpochSampler(random_dataset, seed=9, negatives=negatives)
    resumed.state = again.state
    assert np.array_equal(resumed.next_epoch()[0], expected[1][0])
    for other in (
        EpochSampler(random_dataset, seed=5, negatives=negatives),
        EpochSampler(random_dataset, seed=4, negatives=not negatives),
        EpochSampler(dataset_of([(0, 0), (0, 1), (1, 2)], 2, 3), seed=4, negatives=negatives),
    ):
        with pytest.raises(TypeError):
            other.next_epoch()


def test_no_more_epochs_are_kept_than_there_is_room_for(random_dataset, monkeypatch) -> None:
    size = 3 * 4 * len(random_dataset.train)
    drawn = sampling._Drawn(limit=4 * size)
    monkeypatch.setattr(sampling, "_drawn", drawn)
    epochs(EpochSampler(random_dataset, seed=1, negatives=True), 2)
    epochs(EpochSampler(random_dataset, seed=2, negatives=True), 2)
    epochs(EpochSampler(random_dataset, seed=1, negatives=True), 1)
    # The stream that was used longest ago goes first, and then nothing more is kept.
    epochs(EpochSampler(random_dataset, seed=3, negatives=True), 9)
    assert [len(known) for known in drawn._streams.values()] == [4]
    assert drawn._size() == 4 * size
