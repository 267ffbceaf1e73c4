"""Metrics beyond accuracy, by hand, by the published vectors and through the evaluation."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from mgstudy.config.metrics import RankingMetric, ranking_metrics
from mgstudy.config.training import TrainingSettings
from mgstudy.errors import InputError
from mgstudy.testing import small_dataset
from mgstudy.training.evaluation import Evaluator
from mgstudy.training.metrics.base import RankedLists

FLAGS = [[1, 0, 1, 1, 0], [0, 0, 0, 0, 1], [1, 1, 1, 1, 1]]
HITS = [[1, 0, 1, 0, 0], [0, 0, 0, 0, 1], [0, 1, 1, 1, 1]]
CUTOFFS = (1, 2, 3, 4, 5)


def lists(
    items: list[list[int]],
    hits: list[list[int]] | None = None,
    incomplete: list[int] | None = None,
    interactions: list[int] | None = None,
    users: int = 4,
) -> RankedLists:
    """Lists of a catalogue that is as long as ``incomplete`` or ``interactions``."""
    catalogue = len(incomplete or interactions or [])
    return RankedLists(
        torch.tensor(items),
        torch.tensor(hits or [[0] * len(items[0])] * len(items), dtype=torch.float64),
        torch.tensor([3] * len(items)),
        users,
        torch.tensor(incomplete or [0] * catalogue, dtype=torch.bool),
        torch.tensor(interactions or [1] * catalogue, dtype=torch.float64),
    )


def value(name: str, ranked: RankedLists, *cutoffs: int) -> list[float]:
    metric = ranking_metrics.get(name)
    values = metric().values(ranked, cutoffs)
    return (values.mean(dim=0) if metric.of_users else values).tolist()


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

    evaluator = Evaluator(dataset, "test", [f"{name}@5" for name in ["recall", *NAMES]])
    of_users, found = evaluator.evaluate_both(scorer)
    assert rankings == len(evaluator.users)
    assert set(found) == {f"{name}@5" for name in ["recall", *NAMES]}
    assert all(np.isfinite(number) for number in found.values())
    own = {f"{name}@5" for name in NAMES if ranking_metrics.get(name).of_users}
    assert set(of_users) == own | {"recall@5"}
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
        ("coverage@5", "is of all lists together"),
        ("novelti@5", "did you mean 'novelty'"),
        ("nowhere:Metric@5", "cannot import metric"),
    ],
)
def test_an_objective_selects_by_a_larger_value_of_each_user(objective: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        TrainingSettings(objective=objective)
    assert TrainingSettings(objective="novelty@5").objective == "novelty@5"
