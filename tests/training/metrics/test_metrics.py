"""Metrics beyond accuracy, by hand, by the published vectors and through the evaluation."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pretended_gpu import PretendedGpu
from sklearn.metrics import roc_auc_score

from mgstudy.config.metrics import ITEM_GROUPS, RankingMetric, larger_is_better, ranking_metrics
from mgstudy.config.training import TrainingSettings
from mgstudy.data.dataset import Dataset, Interactions
from mgstudy.errors import InputError
from mgstudy.models.base import Scorer
from mgstudy.testing import small_dataset
from mgstudy.training.evaluation import Evaluator
from mgstudy.training.metrics.base import Catalogue, RankedLists
from mgstudy.training.metrics.groups import refusal

FLAGS = [[1, 0, 1, 1, 0], [0, 0, 0, 0, 1], [1, 1, 1, 1, 1]]
HITS = [[1, 0, 1, 0, 0], [0, 0, 0, 0, 1], [0, 1, 1, 1, 1]]
CUTOFFS = (1, 2, 3, 4, 5)


def lists(
    items: list[list[int]],
    hits: list[list[int]] | None = None,
    incomplete: list[int] | None = None,
    interactions: list[int] | None = None,
    users: int = 4,
    features: dict[str, np.ndarray] | None = None,
) -> RankedLists:
    """Lists of a catalogue that is as long as ``incomplete`` or ``interactions``; every user has 3
    relevant items."""
    count = len(incomplete or interactions or [])
    listened = np.repeat(np.arange(count), interactions or [1] * count)
    train = Interactions(np.zeros_like(listened), listened)
    dataset = Dataset.from_arrays("by hand", users, count, train, train, train, features or {})
    if incomplete is not None:
        dataset = replace(dataset, observed={"image": np.array(incomplete) == 0})
    return RankedLists(
        torch.tensor(items),
        torch.tensor(hits or [[0] * len(items[0])] * len(items), dtype=torch.float64),
        torch.tensor([3] * len(items)),
        torch.tensor([count] * len(items)),
        Catalogue(dataset),
    )


def value(name: str, ranked: RankedLists, *cutoffs: int) -> list[float]:
    metric = ranking_metrics.get(name)
    values = metric().values(ranked, cutoffs)
    return (values.mean(dim=0) if metric.of_users else values).tolist()


def value_of_users(name: str, ranked: RankedLists, cutoff: int) -> list[float]:
    return ranking_metrics.get(name)().values(ranked, [cutoff])[:, 0].tolist()


def scorer_of(scores: np.ndarray) -> Scorer:
    table = torch.from_numpy(scores.astype(np.float32))
    return lambda users: table[users].clone()


def with_share(incomplete: int, items: int) -> RankedLists:
    """The lists of section 1.11 of the specification: item 0 is incomplete, the last one is not."""
    ranked = [[0 if flag else items - 1 for flag in row] for row in FLAGS]
    return lists(ranked, HITS, [int(item < incomplete) for item in range(items)])


@pytest.mark.parametrize(
    ("incomplete", "items", "fairness"),
    [
        (8, 10, [0.5, 0.458333, 0.527778, 0.5625, 0.583333]),
        (4, 10, [-0.333333, 0.083333, -0.055556, -0.125, 0.166667]),
        (1, 200, [-65.5, -48.833333, -54.388889, -57.166667, -58.5]),
    ],
)
def test_fairness_is_the_published_one(incomplete: int, items: int, fairness: list[float]) -> None:
    ranked = with_share(incomplete, items)
    assert value("fairness", ranked, *CUTOFFS) == pytest.approx(fairness, abs=1e-6)
    shares = [0.666667, 0.5, 0.555556, 0.583333, 0.6]
    assert value("incomplete_share", ranked, *CUTOFFS) == pytest.approx(shares, abs=1e-6)


def test_fused_fairness_is_the_published_one() -> None:
    found = value("fairness_fused", with_share(8, 10), *CUTOFFS)
    assert found == pytest.approx([0.4, 0.385965, 0.482540, 0.478723, 0.518519], abs=1e-6)
    found = value("fairness_fused", with_share(4, 10), *CUTOFFS)
    # Where fairness is negative the published number has no bound.
    assert found == pytest.approx([0, 0.133333, 0, 0, 0.245614], abs=1e-6)


@pytest.mark.parametrize(
    ("incomplete", "levels"),
    [
        (8, [0.8362, 0.8792, 0.9127, 0.9441]),
        (4, [0.5853, 0.6990, 0.7844, 0.8625]),
        (2, [0.3446, 0.5168, 0.6509, 0.7763]),
    ],
)
def test_the_chance_level_is_that_of_lists_that_ignore_who_is_incomplete(
    incomplete: int, levels: list[float]
) -> None:
    ranked = with_share(incomplete, 10)
    assert value("fairness_chance", ranked, 5, 10, 20, 50) == pytest.approx(levels, abs=5e-5)


def test_fairness_of_all_lists_and_exposure_by_hand() -> None:
    ranked = lists([[0, 2], [1, 0]], incomplete=[1, 0, 0, 1])
    # Shares ½ and ½ of two lists, in a catalogue of ½; then the first places alone.
    assert value("fairness_aggregate", ranked, 2, 1) == pytest.approx([1, 1])
    second = 1 / np.log2(3)
    ratio = (1 + second) / 2 / ((1 + second) / 2)
    assert value("exposure_ratio", ranked, 2, 1) == pytest.approx([ratio, 1])
    ranked = lists([[0, 2], [0, 1]], incomplete=[1, 0, 0, 1])
    # In the precision of float64.
    assert value("exposure_ratio", ranked, 2) == pytest.approx([1 / second], rel=1e-12)


def test_who_is_listed_how_often_by_hand() -> None:
    ranked = lists([[0, 1], [0, 2], [0, -1]], interactions=[6, 2, 1, 1])
    assert value("coverage", ranked, 1, 2) == [0.25, 0.75]
    # Counts 0, 0, 0, 3 and 0, 1, 1, 3.
    assert value("gini", ranked, 1, 2) == pytest.approx([0.75, 9 / 20])
    shares = np.array([3, 1, 1]) / 5
    assert value("entropy", ranked, 1, 2) == pytest.approx([0, -(shares * np.log2(shares)).sum()])
    assert value("popularity_mean", ranked, 1, 2) == pytest.approx([6, (4 + 3.5 + 6) / 3])
    # Items 0 and 1 have 80 % of the interactions.
    assert value("popularity_tail", ranked, 1, 2) == pytest.approx([0, 0.5 / 3])
    bits = [np.log2(4 / count) for count in (6, 2, 1)]
    listed = [(bits[0] + bits[1]) / 2, (bits[0] + bits[2]) / 2, bits[0]]
    assert value("novelty", ranked, 1, 2) == pytest.approx([bits[0], np.mean(listed)])


def test_reciprocal_rank_by_hand() -> None:
    ranked = lists([[0, 1, 2]] * 3, [[0, 1, 1], [0, 0, 0], [1, 0, 0]], interactions=[1, 1, 1])
    assert value("mrr", ranked, 1, 2, 9) == pytest.approx([1 / 3, 0.5, 0.5])


def test_the_limited_area_by_hand() -> None:
    # 3 relevant and 7 other candidates. Alone on top, with the two others below in chance order,
    # one relevant item is above all 7, the others above half: (7 + 3.5 + 3.5) / 21.
    ranked = lists([[0, 1, 2, 3]] * 3, [[1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 0]], None, [1] * 10)
    assert value_of_users("auc", ranked, 1) == pytest.approx([14 / 21, 3 / 7, 14 / 21])
    # Two others are listed below the first and above the second; five are below two and beside one.
    first = (2 * 1 + 5 * (2 + 0.5)) / 21
    assert value_of_users("auc", ranked, 4) == pytest.approx([first, 1.5 * 3 / 21, 1])


def test_the_limited_area_of_the_whole_catalogue_is_the_area_under_the_curve() -> None:
    dataset, scores = small_dataset(), np.random.default_rng(3).normal(size=(60, 40))
    evaluator = Evaluator(dataset, "test", ["auc@40"])
    found = evaluator.evaluate_users(scorer_of(scores))["auc@40"]
    for user, area in zip(evaluator.users, found, strict=True):
        seen = dataset.train.items[dataset.train.users == user]
        candidates = np.setdiff1d(np.arange(40), seen)
        relevant = np.isin(candidates, dataset.test.items[dataset.test.users == user])
        assert area == pytest.approx(roc_auc_score(relevant, scores[user, candidates]))


def test_intra_list_similarity_by_hand() -> None:
    image = np.array([[3, 0], [1, 1], [0, 2], [5, 5]], dtype=np.float32)
    audio = np.array([[1, 0], [0, 1], [1, 0], [-1, 0]], dtype=np.float32)
    ranked = lists(
        [[0, 1, 2], [0, 3, -1]], None, [0, 0, 0, 1], features={"image": image, "audio": audio}
    )
    half = np.sqrt(0.5)
    # Item 3 has no image. Images and audio of (0, 1), then of all three pairs; audio of (0, 3).
    first, all_pairs = (half + 0) / 2, (half + 0 + half + 0 + 1 + 0) / 6
    found = (
        value_of_users("intra_list_similarity", ranked, 2),
        value_of_users("intra_list_similarity", ranked, 3),
    )
    assert found[0] == pytest.approx([first, -1], abs=1e-6)
    assert found[1] == pytest.approx([all_pairs, -1], abs=1e-6)
    assert value_of_users("intra_list_similarity", ranked, 1) == [0, 0]


def test_intra_list_similarity_is_the_mean_cosine_of_all_pairs() -> None:
    dataset, scores = small_dataset(), np.random.default_rng(4).normal(size=(60, 40))
    dataset = replace(dataset, observed={"image": np.arange(40) % 3 > 0})
    evaluator = Evaluator(dataset, "test", ["intra_list_similarity@6"])
    found = evaluator.evaluate_users(scorer_of(scores))["intra_list_similarity@6"]
    ranked = torch.cat(
        list(evaluator.ranking.lists(scorer_of(scores), torch.from_numpy(evaluator.users), 6))
    )
    for row, alike in zip(ranked.tolist(), found, strict=True):
        cosines = [
            float(table[a] @ table[b] / np.linalg.norm(table[a]) / np.linalg.norm(table[b]))
            for name, table in dataset.features.items()
            for a, b in itertools.combinations(row, 2)
            if dataset.observed[name][[a, b]].all()
        ]
        assert alike == pytest.approx(np.mean(cosines) if cosines else 0, abs=1e-5)


NAMES = ranking_metrics.names()


def test_the_evaluation_measures_them_with_the_others_in_one_ranking() -> None:
    whole = small_dataset()
    dataset = replace(whole, observed={"image": np.arange(40) % 3 > 0})
    random = np.random.default_rng(0)
    scores = torch.from_numpy(random.normal(size=(60, 40)).astype(np.float32))
    rankings = 0

    def scorer(users: torch.Tensor) -> torch.Tensor:
        nonlocal rankings
        rankings += len(users)
        return scores[users].clone()

    evaluator = Evaluator(dataset, "test", [f"{name}@5" for name in NAMES])
    of_users, found = evaluator.evaluate_both(scorer)
    assert rankings == len(evaluator.users)
    assert set(found) == {f"{name}@5" for name in NAMES}
    assert all(np.isfinite(number) for number in found.values())
    own = {f"{name}@5" for name in NAMES if ranking_metrics.get(name).of_users}
    assert set(of_users) == own
    # Independently: every list as a loop over users makes it.
    seen = {u: set(dataset.train.items[dataset.train.users == u]) for u in evaluator.users}
    ranked = [
        [i for i in np.argsort(-scores[u].numpy(), kind="stable") if i not in seen[u]][:5]
        for u in evaluator.users
    ]
    counts = Counter(int(item) for row in ranked for item in row)
    assert found["coverage@5"] == pytest.approx(len(counts) / 40)
    share = np.mean([[item % 3 == 0 for item in row] for row in ranked])
    assert found["incomplete_share@5"] == pytest.approx(share)
    rising = sorted(counts.get(item, 0) for item in range(40))
    pairs = sum(abs(a - b) for a in rising for b in rising)
    assert found["gini@5"] == pytest.approx(pairs / (2 * 40 * sum(rising)))


def test_what_means_nothing_of_a_dataset_is_left_out_or_refused() -> None:
    evaluator = Evaluator(small_dataset(), "test", ["recall@5", "fairness@5"])
    assert [str(metric) for metric in evaluator.metrics] == ["recall@5"]
    with pytest.raises(InputError, match="no item of small lacks a modality"):
        Evaluator(small_dataset(), "test", ["fairness@5"])


def test_every_metric_is_the_same_on_a_gpu_and_sums_in_a_certain_order() -> None:
    dataset = small_dataset()
    observed = {name: np.arange(40) % 3 != place for place, name in enumerate(dataset.features)}
    dataset = replace(dataset, observed=observed)
    # What torch makes itself within its bags, the pretended GPU does not see.
    measures = set(ranking_metrics.names()) - {"intra_list_similarity"}
    names = [f"{name}@{cutoff}" for name in sorted(measures) for cutoff in (3, 60)]
    scores = torch.randn(60, 40, generator=torch.Generator().manual_seed(0))

    def measured(device: str) -> dict[str, float]:
        there = scores.to(device)
        evaluator = Evaluator(dataset, "test", names, device=device)
        return evaluator.evaluate(lambda users: there[users].clone())

    with PretendedGpu() as gpu:
        found = measured("cuda")
    assert not gpu.unordered.total(), gpu.unordered
    assert found == pytest.approx(measured("cpu")) and "exposure_ratio@60" in found


class Longest(RankingMetric):
    """A metric of somebody's own."""

    name = "longest"

    def values(self, ranked: Any, cutoffs: Any) -> Any:
        return ranked.lengths(cutoffs)


def test_a_metric_of_ones_own_is_named_by_its_class() -> None:
    name = f"{__name__}:Longest"
    settings = TrainingSettings(measures=("recall", name), cutoffs=(3,), objective=f"{name}@3")
    evaluator = Evaluator(small_dataset(), "test", settings.metrics)
    scores = torch.zeros(60, 40)
    assert evaluator.evaluate(lambda users: scores[users].clone())[f"{name}@3"] == 3


@pytest.mark.parametrize(
    ("objective", "said"),
    [
        ("gini@5", "larger is not better"),
        ("recall-tial@5", "did you mean 'tail'"),
        ("novelty-tail@5", "does not look at which items are relevant"),
        ("novelti@5", "did you mean 'novelty'"),
        ("nowhere:Metric@5", "cannot import metric"),
    ],
)
def test_an_objective_selects_by_a_larger_value(objective: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        TrainingSettings(objective=objective)
    for name in ("novelty@5", "coverage@5", "recall-tail@5", "coverage-heavy@5"):
        assert TrainingSettings(objective=name).objective == name


def test_of_every_metric_it_is_known_which_value_is_better() -> None:
    for metric in ranking_metrics:
        for name in (f"{metric.name}@20", f"{metric.name}-heavy@5", metric.name):
            assert larger_is_better(name) == metric.larger_is_better
    smaller = {metric.name for metric in ranking_metrics if not metric.larger_is_better}
    assert {"gini", "popularity_mean", "incomplete_share"} < smaller
    assert not larger_is_better("mgstudy.training.metrics.gini:Gini@20")
    assert larger_is_better("recall@20 under gaussian_noise 0.5")
    for gone in ("recall-domain_newcomers@5", "gone@20", "nowhere:Metric@5"):
        assert larger_is_better(gone)


# Groups.


def test_a_group_of_items_counts_for_the_users_who_have_something_of_it() -> None:
    """Four users and six items: item 0 has 8 of 10 training interactions, 4 and 5 have none."""
    train = Interactions(np.array([3] * 10), np.array([0] * 8 + [1, 2]))
    test = Interactions(np.array([0, 0, 1, 1, 2]), np.array([0, 4, 1, 5, 0]))
    dataset = Dataset.from_arrays("by hand", 4, 6, train, test, test, {})
    dataset = replace(dataset, observed={"image": np.array([1, 1, 1, 1, 0, 0], dtype=bool)})
    scores = np.tile(np.array([5, 4, 3, 2, 1, 0]), (4, 1))
    scores[0] = [0, 4, 3, 2, 5, 1]
    names = [f"recall-{group}@2" for group in ITEM_GROUPS] + ["ndcg-cold@2", "hit_rate-head@1"]
    evaluator = Evaluator(dataset, "test", names)
    found = evaluator.evaluate_users(scorer_of(scores))
    # User 0 is shown 4 and 1, the others 0 and 1.
    nan = np.nan
    for name, expected in {
        "recall-head@2": [0, nan, 1],
        "recall-tail@2": [nan, 1, nan],
        "recall-cold@2": [1, 0, nan],
        "recall-incomplete@2": [1, 0, nan],
        "recall-complete@2": [0, 1, 1],
        "ndcg-cold@2": [1, 0, nan],
        "hit_rate-head@1": [0, nan, 1],
    }.items():
        np.testing.assert_array_equal(found[name], expected)
    means = evaluator.evaluate(scorer_of(scores))
    assert means["recall-head@2"] == 0.5
    assert means["recall-complete@2"] == pytest.approx(2 / 3)


def test_a_group_of_users_is_measured_alone() -> None:
    dataset, scores = small_dataset(), np.random.default_rng(5).normal(size=(60, 40))
    counts = np.bincount(dataset.train.users, minlength=60)
    heavy = set(sorted(range(60), key=lambda user: (-counts[user], user))[:12])
    names = ["recall@5", "recall-heavy@5", "recall-light@5", "coverage-heavy@5", "novelty-light@5"]
    evaluator = Evaluator(dataset, "test", names)
    of_users, means = evaluator.evaluate_both(scorer_of(scores))
    is_heavy = np.array([user in heavy for user in evaluator.users])
    assert means["recall-heavy@5"] == pytest.approx(of_users["recall@5"][is_heavy].mean())
    assert means["recall-light@5"] == pytest.approx(of_users["recall@5"][~is_heavy].mean())
    assert np.isnan(of_users["recall-heavy@5"]).tolist() == (~is_heavy).tolist()
    users = torch.from_numpy(evaluator.users[is_heavy])
    ranked = torch.cat(list(evaluator.ranking.lists(scorer_of(scores), users, 5)))
    assert means["coverage-heavy@5"] == len(ranked.unique()) / 40


def test_a_group_that_nothing_is_held_out_of_is_refused() -> None:
    assert "no validation interaction of small has a cold item" in str(
        refusal("recall-cold", small_dataset())
    )
    assert refusal("recall-tail", small_dataset()) is None
    assert "no item of small lacks a modality" in str(refusal("fairness-heavy", small_dataset()))
