from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from mgstudy.config.metrics import ranking_metrics
from mgstudy.config.training import MEASURES
from mgstudy.data.dataset import Dataset, Interactions
from mgstudy.errors import InputError
from mgstudy.models.base import Scorer
from mgstudy.training.evaluation import Evaluator
from mgstudy.training.metrics.base import Catalogue, RankedLists

METRICS = [
    f"{m}@{k}" for m in ("recall", "ndcg", "precision", "map", "hit_rate") for k in (1, 3, 8)
]


def fixed(scores: np.ndarray) -> Scorer:
    return lambda users: torch.from_numpy(scores[users.numpy()])


def dataset_of(**splits: list[tuple[int, int]]) -> Dataset:
    """Three users and five items with the given (user, item) pairs in each split."""
    interactions = {
        name: Interactions(*np.array(splits.get(name, []), dtype=np.int64).reshape(-1, 2).T)
        for name in ("train", "validation", "test")
    }
    return Dataset.from_arrays("tiny", 3, 5, **interactions, features={})


def by_definition(dataset: Dataset, scores: np.ndarray, user: int, metric: str) -> float:
    """One metric of one user of the validation split, as the definitions are written."""
    measure, _, cutoff = metric.partition("@")
    known = set(dataset.train.items[dataset.train.users == user])
    relevant = dataset.validation.items[dataset.validation.users == user].tolist()
    candidates = [item for item in range(dataset.item_count) if item not in known]
    ranked = sorted(candidates, key=lambda item: (-scores[user, item], item))[: int(cutoff)]
    hits = [item in relevant for item in ranked]
    n, k = len(relevant), int(cutoff)
    if measure == "recall":
        return sum(hits) / n
    if measure == "precision":
        return sum(hits) / k
    if measure == "hit_rate":
        return float(any(hits))
    if measure == "ndcg":
        gain = sum(hit / math.log2(j + 2) for j, hit in enumerate(hits))
        return gain / sum(1 / math.log2(j + 2) for j in range(min(k, n)))
    return sum(sum(hits[: j + 1]) / (j + 1) for j, hit in enumerate(hits) if hit) / min(k, n)


@pytest.mark.parametrize("block_size", [None, 13])
def test_agrees_with_the_definitions_user_by_user(
    small_dataset: Dataset, block_size: int | None
) -> None:
    scores = np.random.default_rng(1).integers(50, size=(60, 40)).astype(np.float32)
    evaluator = Evaluator(small_dataset, "validation", METRICS, block_size=block_size)
    per_user = evaluator.evaluate_users(fixed(scores))
    assert evaluator.users.tolist() == sorted(set(small_dataset.validation.users))
    for metric in METRICS:
        expected = [by_definition(small_dataset, scores, user, metric) for user in evaluator.users]
        assert per_user[metric] == pytest.approx(expected, abs=1e-12), metric
    means = evaluator.evaluate(fixed(scores))
    assert list(means) == METRICS
    assert means["ndcg@3"] == pytest.approx(per_user["ndcg@3"].mean(), abs=1e-15)


def test_a_row_given_twice_is_one_hit_of_two_relevant_items() -> None:
    dataset = dataset_of(train=[(0, 0)], validation=[(0, 1), (0, 1)])
    scores = np.array([[9.0, 5.0, 1.0, 2.0, 3.0]], dtype=np.float32)
    metrics = Evaluator(dataset, "validation", ["recall@2", "ndcg@2"]).evaluate(fixed(scores))
    assert metrics["recall@2"] == 0.5
    assert metrics["ndcg@2"] == pytest.approx(1 / (1 + 1 / math.log2(3)))


def test_validation_items_stay_in_the_test_unless_asked() -> None:
    dataset = dataset_of(train=[(1, 0)], validation=[(1, 1)], test=[(1, 2)])
    scores = np.tile(np.array([5.0, 4.0, 3.0, 2.0, 1.0], dtype=np.float32), (3, 1))
    assert Evaluator(dataset, "test", ["hit_rate@1"]).evaluate(fixed(scores)) == {"hit_rate@1": 0}
    evaluator = Evaluator(dataset, "test", ["hit_rate@1"], exclude_validation=True)
    assert evaluator.evaluate(fixed(scores)) == {"hit_rate@1": 1}


def test_an_item_of_the_training_split_is_no_hit() -> None:
    dataset = dataset_of(train=[(0, item) for item in range(5)], validation=[(0, 4)])
    metrics = Evaluator(dataset, "validation", ["hit_rate@5"]).evaluate(fixed(np.ones((3, 5))))
    assert metrics == {"hit_rate@5": 0}


def test_what_follows_from_the_data_is_computed_once(small_dataset: Dataset) -> None:
    first, second = (Evaluator(small_dataset, "test", ["recall@5"]) for _ in range(2))
    assert first.users is second.users


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metrics": []}, "at least one metric"),
        ({"metrics": ["recal@5"]}, r"did you mean 'recall'\?"),
        ({"exclude_validation": True}, "cannot be left out of the validation itself"),
    ],
)
def test_refuses_what_makes_no_sense(
    small_dataset: Dataset, change: dict[str, object], message: str
) -> None:
    arguments = {"split": "validation", "metrics": ["recall@5"], **change}
    with pytest.raises(InputError, match=message):
        Evaluator(small_dataset, **arguments)  # type: ignore[arg-type]


def test_refuses_an_empty_split(small_dataset: Dataset) -> None:
    nothing = Interactions(np.array([], dtype=np.int64), np.array([], dtype=np.int64))
    with pytest.raises(InputError, match="dataset 'small' has no test interactions"):
        Evaluator(replace(small_dataset, test=nothing), "test", ["recall@5"])


# The measures themselves.

HITS = torch.tensor(
    [[1, 0, 1, 0, 0], [0, 0, 0, 0, 1], [0, 1, 1, 1, 1]], dtype=torch.float64
)  # fmt: skip
RELEVANT = torch.tensor([3, 1, 7])
CUTOFFS = (1, 2, 3, 4, 5)


def values_of(measure: str, hits: torch.Tensor, cutoffs: Sequence[int]) -> torch.Tensor:
    """A measure of three users' lists."""
    items = torch.arange(hits.shape[1]).expand(3, -1)
    catalogue = Catalogue(dataset_of(train=[(0, 0)]))
    ranked = RankedLists(items, hits, RELEVANT, torch.tensor([9] * 3), catalogue)
    return ranking_metrics.get(measure)().values(ranked, cutoffs)


@pytest.mark.parametrize(
    ("measure", "expected"),
    [
        ("recall", [0.111111, 0.158730, 0.317460, 0.365079, 0.746032]),
        ("precision", [0.333333, 0.333333, 0.444444, 0.416667, 0.466667]),
        ("ndcg", [0.333333, 0.333333, 0.411546, 0.437846, 0.583870]),
        ("map", [0.333333, 0.250000, 0.314815, 0.344907, 0.432963]),
        ("hit_rate", [1 / 3, 2 / 3, 2 / 3, 2 / 3, 1]),
    ],
)
def test_published_check_values(measure: str, expected: list[float]) -> None:
    values = values_of(measure, HITS, CUTOFFS).mean(dim=0)
    assert values.tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("measure", MEASURES)
def test_a_cutoff_beyond_the_list_sees_no_further_hits(measure: str) -> None:
    padded = torch.cat([HITS, torch.zeros(3, 3, dtype=torch.float64)], dim=1)
    assert torch.equal(values_of(measure, HITS, [8]), values_of(measure, padded, [8]))


@pytest.fixture
def two_domains(small_dataset: Dataset) -> Dataset:
    """Items of films and books in turn; user 0 has training interactions with films alone, and a
    book to find."""
    item_domains = (np.arange(40) % 2).astype(np.int8)
    train = small_dataset.train
    train = train.where((train.users > 0) | (item_domains[train.items] == 0))
    held_out = small_dataset.validation
    users, items = np.append(held_out.users, 0), np.append(held_out.items, 7)
    return replace(
        small_dataset,
        train=train,
        validation=Interactions(users, items),
        fingerprint="two domains",
        domains=("films", "books"),
        item_domains=item_domains,
    )


def test_a_domain_s_metric_ranks_its_items_for_its_users_and_their_mean_is_the_domains(
    two_domains: Dataset,
) -> None:
    scores = np.random.default_rng(1).integers(50, size=(60, 40)).astype(np.float32)
    evaluator = Evaluator(two_domains, "validation", ["recall@3", "ndcg-domains@3"])
    found = evaluator.evaluate(fixed(scores))
    assert list(found)[:3] == ["recall@3", "ndcg-domains@3", "ndcg-films@3"]
    plain = Evaluator(two_domains, "validation", ["recall@3"]).evaluate(fixed(scores))
    assert found["recall@3"] == plain["recall@3"]
    alone = {}
    for position, name in enumerate(two_domains.domains):
        held_out = two_domains.validation
        held_out = held_out.where(two_domains.item_domains[held_out.items] == position)
        # As if the other domain's items did not exist: nobody scores them, nobody looks for them.
        within = np.where(two_domains.item_domains == position, scores, -1e9)
        one = replace(two_domains, validation=held_out)
        alone[name] = [
            by_definition(one, within, user, "ndcg@3") for user in np.unique(held_out.users)
        ]
        assert found[f"ndcg-{name}@3"] == pytest.approx(np.mean(alone[name]), abs=1e-12)
    expected = (np.mean(alone["films"]) + np.mean(alone["books"])) / 2
    assert found["ndcg-domains@3"] == pytest.approx(expected, abs=1e-12)
    ndcg_of_user_0 = alone["books"][0]

    of_users = evaluator.evaluate_users(fixed(scores))
    assert of_users["ndcg-domains@3"].mean() == pytest.approx(expected, abs=1e-12)
    assert list(of_users) == list(found)
    books = of_users["ndcg-books@3"]
    assert books[0] == ndcg_of_user_0
    newcomers = ~two_domains.trained_in[evaluator.users, 1]
    assert newcomers[0] and not newcomers.all()
    assert np.array_equal(
        of_users["ndcg-books_newcomers@3"], np.where(newcomers, books, np.nan), equal_nan=True
    )


def test_the_domains_alone_need_no_ranking_of_all_items(two_domains: Dataset) -> None:
    asked = []

    def scorer(users: torch.Tensor) -> torch.Tensor:
        asked.extend(users.tolist())
        return torch.arange(40.0).expand(len(users), 40).clone()

    Evaluator(two_domains, "validation", ["recall-domains@3"]).evaluate(scorer)
    held_out = two_domains.validation
    pairs = held_out.users * 2 + two_domains.item_domains[held_out.items]
    assert len(asked) == len(np.unique(pairs))


def test_domains_are_no_group_where_there_are_none(small_dataset: Dataset) -> None:
    with pytest.raises(InputError, match="small has no domains"):
        Evaluator(small_dataset, "validation", ["recall-domains@3"])
    with pytest.raises(InputError, match="cannot be asked of domains"):
        Evaluator(small_dataset, "validation", ["coverage-domains@3"])
