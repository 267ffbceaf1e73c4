"""How much faster the evaluator measures ranked lists than a loop over users does.

Both get the same ranked lists of the same scores and must give the same numbers. The loop is what
one writes without vectorising: for each user, which listed items are relevant, and then each metric
by its definition.

    python benchmarks/evaluation.py --data data/tiktok

Without ``--data``, interactions of the same size are drawn at random. RecBole's evaluator stands
beside ours in ``peers.py``.

Below, a whole validation (dot products of 64 columns, masking, top-k, metrics) with the measures of
accuracy alone, and with others beside them, where two of five items lack a modality: what masks and
metrics cost. Without a workspace that is everything installed, on the interactions above; with one,
what ``search_spaces/missing_modalities.yaml`` asks for, against its recall, ndcg and precision.

    python benchmarks/evaluation.py --home WORKSPACE --dataset ml_1m_128
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from benchmark_data import read

from mgstudy.config.document import load_document
from mgstudy.config.factors import MissingModalities
from mgstudy.config.metrics import ranking_metrics
from mgstudy.config.study import StudyConfig
from mgstudy.data.dataset import Dataset, Interactions
from mgstudy.data.derived import DerivedArrays
from mgstudy.data.loading import load_dataset, load_without
from mgstudy.training.evaluation import Evaluator
from mgstudy.workspace import Workspace

MEASURES = ("recall", "ndcg", "precision", "map", "hit_rate")
CUTOFFS = (5, 10, 20, 50)
STUDY = Path(__file__).parent.parent / "search_spaces" / "missing_modalities.yaml"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--data", type=Path, help="folder with one *.inter file")
    arguments.add_argument("--home", help="workspace: only what masks and metrics cost")
    arguments.add_argument("--dataset", default="ml_1m_128", help="a prepared one in it")
    arguments.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments.add_argument("--repetitions", type=int, default=5)
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    if options.home is not None:
        of_a_study(options.home, options.dataset, options.repetitions)
        return

    dataset = random_dataset() if options.data is None else read(options.data)
    metrics = [f"{measure}@{cutoff}" for measure in MEASURES for cutoff in CUTOFFS]
    evaluator = Evaluator(dataset, "validation", metrics)
    scores = torch.randn(dataset.user_count, dataset.item_count)
    users = torch.from_numpy(evaluator.users)

    def rank() -> torch.Tensor:
        return torch.cat(list(evaluator.ranking.lists(scores.__getitem__, users, max(CUTOFFS))))

    lists = rank()

    def measure() -> dict[str, np.ndarray]:
        return evaluator._of_users(evaluator._ranked(lists))

    vectorised = measure()
    looped = loop(dataset, evaluator.users, lists.numpy())
    for metric in metrics:
        np.testing.assert_allclose(vectorised[metric], looped[metric], atol=1e-12)

    # One after the other in every repetition, so that a busy machine slows all alike.
    stages: dict[str, Callable[[], object]] = {
        "masking and top-k": rank,
        "metrics, vectorised": measure,
        "metrics, per-user loop": lambda: loop(dataset, evaluator.users, lists.numpy()),
    }
    seconds = dict.fromkeys(stages, math.inf)
    for _ in range(options.repetitions):
        for name, stage in stages.items():
            began = time.perf_counter()
            stage()
            seconds[name] = min(seconds[name], time.perf_counter() - began)

    print(
        f"{dataset.name}: {len(evaluator.users)} users x {dataset.item_count} items, "
        f"{len(metrics)} metrics, {options.threads} threads, best of {options.repetitions}"
    )
    for name, best in seconds.items():
        print(f"  {name:<24}{1000 * best:8.1f} ms")
    ranking, fast, slow = seconds.values()
    print(f"  vectorised / loop, given the lists: 1/{slow / fast:.0f}")
    print(f"  with masking and top-k in both:     1/{(ranking + slow) / (ranking + fast):.1f}")
    validations(dataset, metrics, options.repetitions)


def of_a_study(home: str, name: str, repetitions: int) -> None:
    """Time a validation on a prepared dataset with and without a study's other metrics."""
    workspace = Workspace.resolve(home)
    takes = MissingModalities(pattern="protected", rate=0.4, seed=0)
    dataset = load_without(workspace, load_dataset(workspace, name), takes, name)
    # Nothing is left in the workspace.
    dataset = replace(dataset, derived=DerivedArrays())
    training = load_document(STUDY).validate(StudyConfig).training
    every = [f"{name}@{cutoff}" for name in training.measures for cutoff in training.cutoffs]
    compared(
        dataset, [name for name in every if name.split("@")[0] in MEASURES], every, repetitions
    )


def validations(dataset: Dataset, metrics: list[str], repetitions: int) -> None:
    """Time a validation with and without every metric beyond accuracy."""
    random = np.random.default_rng(0)
    features = {
        name: random.standard_normal((dataset.item_count, 128), dtype=np.float32)
        for name in ("image", "text")
    }
    observed = {"image": random.random(dataset.item_count) < 0.6}
    gapped = replace(dataset.with_features(features), observed=observed)
    names = [name for name in ranking_metrics.names() if name not in MEASURES]
    more = [f"{name}@{cutoff}" for name in names for cutoff in CUTOFFS]
    compared(gapped, metrics, metrics + more, repetitions)


def compared(dataset: Dataset, accuracy: list[str], every: list[str], repetitions: int) -> None:
    """Time validations of two sets of metrics in turns, in seconds of a processor: less is said by
    how busy the machine is, and what is left of that meets both of a turn."""
    users, items = torch.randn(dataset.user_count, 64), torch.randn(64, dataset.item_count)
    evaluators = [Evaluator(dataset, "validation", metrics) for metrics in (accuracy, every)]
    turns = []
    for _ in range(repetitions + 1):
        seconds = []
        for evaluator in evaluators:
            began = time.process_time()
            evaluator.evaluate(lambda rows: users[rows] @ items)
            seconds.append(time.process_time() - began)
        turns.append(seconds)
    turns = turns[1:]  # The first is a warm-up.
    print(f"{dataset.name}: {len(evaluators[0].users)} users x {dataset.item_count} items")
    for name, evaluator, taken in zip(
        ("accuracy", "everything"), evaluators, zip(*turns, strict=True), strict=True
    ):
        count = len(evaluator.metrics)
        print(f"  validation, {name:<12}{1000 * min(taken):8.1f} ms at best, {count} metrics")
    ratio = statistics.median(more / less for less, more in turns)
    print(f"  everything / accuracy: {ratio:.3f}, the median of {repetitions} turns")


def loop(dataset: Dataset, users: np.ndarray, lists: np.ndarray) -> dict[str, list[float]]:
    """Every metric of every user, one user at a time."""
    relevant_items: dict[int, list[int]] = {}
    split = dataset.validation
    for user, item in zip(split.users.tolist(), split.items.tolist(), strict=True):
        relevant_items.setdefault(user, []).append(item)
    values: dict[str, list[float]] = {
        f"{measure}@{cutoff}": [] for measure in MEASURES for cutoff in CUTOFFS
    }
    for user, ranked in zip(users.tolist(), lists.tolist(), strict=True):
        relevant = relevant_items[user]
        hits = [item in relevant for item in ranked]
        for cutoff in CUTOFFS:
            found = sum(hits[:cutoff])
            ideal = min(cutoff, len(relevant))
            gain = sum(hit / math.log2(j + 2) for j, hit in enumerate(hits[:cutoff]))
            best_gain = sum(1 / math.log2(j + 2) for j in range(ideal))
            precisions = sum(
                sum(hits[: j + 1]) / (j + 1) for j, hit in enumerate(hits[:cutoff]) if hit
            )
            values[f"recall@{cutoff}"].append(found / len(relevant))
            values[f"ndcg@{cutoff}"].append(gain / best_gain)
            values[f"precision@{cutoff}"].append(found / cutoff)
            values[f"map@{cutoff}"].append(precisions / ideal)
            values[f"hit_rate@{cutoff}"].append(float(found > 0))
    return values


def random_dataset() -> Dataset:
    """As many users, items and interactions as TikTok has."""
    random = np.random.default_rng(0)
    users, items = 9308, 6710
    train, validation, test = (
        Interactions(random.integers(users, size=size), random.integers(items, size=size))
        for size in (59541, 3051, 6130)
    )
    return Dataset.from_arrays("random", users, items, train, validation, test, features={})


if __name__ == "__main__":
    main()
