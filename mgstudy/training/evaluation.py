"""Measure a model by ranking all items for every user of a split.

Each measure of ranked lists is for all users of a block at once, takes the same arguments and
returns one value per user and cutoff:

* ``hits``: float64, shape ``[users, length]``; 1 where the item at that position is relevant.
* ``relevant``: int64, shape ``[users]``; relevant items of each user, at least 1.
* ``cutoffs``: lengths of the list's beginning to measure. A cutoff beyond ``length`` measures the
  whole list: there are no further items.

With h_j = 1 for a hit at position j = 1, 2, ... and n relevant items, the definitions are beside
each function. They are those of the published multimodal evaluation, without its rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mgstudy.config.metrics import ranking_metrics
from mgstudy.config.training import Metric, parse_metric
from mgstudy.data.dataset import Dataset, Interactions, as_tensor
from mgstudy.errors import InputError
from mgstudy.models.base import Scorer
from mgstudy.training.metrics.base import RankedLists
from mgstudy.training.ranking import FullRanking

PAIRS_AT_ONCE = 2**16
"""Relevant items that are looked for at once, which bounds the memory for it."""


class Evaluator:
    """Full-ranking evaluation of one split.

    Every item is ranked for every user of the split, except the user's training items. Each metric
    is the unweighted mean over the users. An item that a user has twice in the split is one
    possible hit but counts twice in the user's number of relevant items, as published. Equal scores
    are ranked by item id, lowest first. Values are not rounded.

    Args:
        dataset: The interactions.
        split: ``"validation"`` or ``"test"``.
        metrics: What to compute: names such as ``"recall@20"``, or ``Metric``. One that means
            nothing of the dataset (fairness, where no item is incomplete) is left out.
        device: Where the scores are.
        block_size: Users ranked at once; ``None`` chooses by the number of items.
        exclude_validation: Whether a user's validation items are left out as well. Off by default:
            the published code leaves them in when it tests, where they can only be wrong answers.

    Attributes:
        users: int64, shape ``[users]``: the distinct users of the split, ascending.

    Raises:
        InputError: If the split is empty, a metric is unknown, or ``exclude_validation`` is asked
            for in the validation itself; or no metric means anything of the dataset.
    """

    def __init__(
        self,
        dataset: Dataset,
        split: Literal["validation", "test"],
        metrics: Sequence[Metric | str],
        *,
        device: torch.device | str = "cpu",
        block_size: int | None = None,
        exclude_validation: bool = False,
    ) -> None:
        interactions: Interactions = getattr(dataset, split)
        if not len(interactions):
            raise InputError(f"dataset {dataset.name!r} has no {split} interactions to evaluate on")
        if exclude_validation and split == "validation":
            raise InputError("validation items cannot be left out of the validation itself")
        if not metrics:
            raise InputError("an evaluation needs at least one metric")
        parsed = tuple(parse_metric(str(metric)) for metric in metrics)
        self.others = {
            metric.measure: ranking_metrics.get(metric.measure)()
            for metric in parsed
            if metric.measure not in MEASURE_FUNCTIONS
        }
        undefined = {
            name: reason
            for name, measure in self.others.items()
            if (reason := measure.refusal(dataset)) is not None
        }
        self.metrics = tuple(metric for metric in parsed if metric.measure not in undefined)
        if not self.metrics:
            raise InputError(f"nothing is left to measure: {'; '.join(undefined.values())}")
        self.ranking = FullRanking(
            dataset,
            excluded=("train", "validation") if exclude_validation else ("train",),
            device=device,
            block_size=block_size,
        )
        arrays = dataset.derived.get(
            "relevant_items",
            {"interactions": dataset.fingerprint, "split": split, "version": 1},
            lambda: _relevant_items(interactions, dataset.item_count),
        )
        self.users: NDArray[np.int64] = arrays["users"]
        self._blocks = self.ranking.blocks(as_tensor(arrays["users"]).to(device))
        self._relevant_counts = as_tensor(arrays["counts"]).to(device)
        self._relevant_rows = as_tensor(arrays["rows"]).to(device)
        self._relevant_items = as_tensor(arrays["items"]).to(device)
        # Copied once: a GPU is waited for.
        self._catalogue = (
            dataset.user_count,
            torch.from_numpy(dataset.incomplete).to(device),
            torch.from_numpy(dataset.train_counts.astype(np.float64)).to(device),
        )

    def evaluate(self, scorer: Scorer) -> dict[str, float]:
        """The mean of each metric over the split's users, or what it is of all their lists, by the
        metric's name.

        Raises:
            FloatingPointError: If a score is NaN.
        """
        return self.evaluate_both(scorer)[1]

    def evaluate_users(self, scorer: Scorer) -> dict[str, NDArray[np.float64]]:
        """Each metric that users have, of every user, ``[users]`` in the order of ``self.users``.

        Raises:
            FloatingPointError: If a score is NaN.
        """
        return self.measure(self._lists(scorer))

    def evaluate_both(
        self, scorer: Scorer
    ) -> tuple[dict[str, NDArray[np.float64]], dict[str, float]]:
        """What ``evaluate_users`` and ``evaluate`` give, of one ranking."""
        ranked = self._ranked(self._lists(scorer))
        of_users = self._of_users(ranked)
        return of_users, self._summary(ranked, of_users)

    @torch.no_grad()
    def _lists(self, scorer: Scorer) -> Tensor:
        longest = max(metric.cutoff for metric in self.metrics)
        return torch.cat(list(self.ranking.lists(scorer, self._blocks, longest)))

    @torch.no_grad()
    def _summary(
        self, ranked: RankedLists, of_users: Mapping[str, NDArray[np.float64]]
    ) -> dict[str, float]:
        """Each metric's mean over the users, or what it is of all lists."""
        found = {name: float(values.mean()) for name, values in of_users.items()}
        for name, measure in self.others.items():
            of_all = [metric for metric in self.metrics if metric.measure == name]
            if measure.of_users or not of_all:
                continue
            values = measure.values(ranked, [metric.cutoff for metric in of_all]).tolist()
            found |= zip(map(str, of_all), values, strict=True)
        return {str(metric): found[str(metric)] for metric in self.metrics}

    def _ranked(self, lists: Tensor) -> RankedLists:
        return RankedLists(lists, self._hits(lists), self._relevant_counts, *self._catalogue)

    @torch.no_grad()
    def measure(self, lists: Tensor) -> dict[str, NDArray[np.float64]]:
        """Each metric that users have, of every user, given lists that were made elsewhere.

        Args:
            lists: Item ids, best first, int64 of shape ``[users, length]``, a row for each of
                ``self.users``; -1 is no item.

        Returns:
            Shape ``[users]`` by the metric's name. A cutoff beyond ``length`` finds nothing there.
        """
        return self._of_users(self._ranked(lists))

    @torch.no_grad()
    def _of_users(self, ranked: RankedLists) -> dict[str, NDArray[np.float64]]:
        hits = ranked.hits
        by_measure: dict[str, list[Metric]] = {}
        for metric in self.metrics:
            if metric.measure in MEASURE_FUNCTIONS or self.others[metric.measure].of_users:
                by_measure.setdefault(metric.measure, []).append(metric)
        if not by_measure:
            return {}
        columns = []
        for measure, metrics in by_measure.items():
            cutoffs = [metric.cutoff for metric in metrics]
            if measure in MEASURE_FUNCTIONS:
                columns.append(MEASURE_FUNCTIONS[measure](hits, self._relevant_counts, cutoffs))
            else:
                columns.append(self.others[measure].values(ranked, cutoffs))
        # One copy of everything: a GPU is waited for.
        values = torch.cat(columns, dim=1).t().contiguous().cpu().numpy()
        names = [str(metric) for metrics in by_measure.values() for metric in metrics]
        found = dict(zip(names, values, strict=True))
        return {str(metric): found[str(metric)] for metric in self.metrics if str(metric) in found}

    def _hits(self, lists: Tensor) -> Tensor:
        """float64, shape of ``lists``: 1 where the item at that position is relevant."""
        # Counted in integers, which come to the same in any order.
        hits = torch.zeros(lists.shape, dtype=torch.int64, device=lists.device)
        for rows, items in zip(
            torch.split(self._relevant_rows, PAIRS_AT_ONCE),
            torch.split(self._relevant_items, PAIRS_AT_ONCE),
            strict=True,
        ):
            # There are few relevant items, so each is looked for in its user's list, where it is
            # once at most.
            found = lists[rows] == items[:, None]
            hits.index_add_(0, rows, found.to(hits.dtype))
        return hits.to(torch.float64)


def _relevant_items(interactions: Interactions, item_count: int) -> dict[str, NDArray[np.int64]]:
    """The split's users, how many rows each has, and the distinct relevant items: ``items[p]`` is
    one of the user at position ``rows[p]``."""
    users, positions, counts = np.unique(
        interactions.users, return_inverse=True, return_counts=True
    )
    keys = np.unique(positions * item_count + interactions.items)
    return {
        "users": users,
        "counts": counts.astype(np.int64),
        "rows": keys // item_count,
        "items": keys % item_count,
    }


Measure: TypeAlias = Callable[[Tensor, Tensor, Sequence[int]], Tensor]


def recall(hits: Tensor, relevant: Tensor, cutoffs: Sequence[int]) -> Tensor:
    """Share of the relevant items that are listed: (Σ_{j≤k} h_j) / n."""
    return _up_to(hits.cumsum(dim=1), cutoffs) / relevant[:, None]


def precision(hits: Tensor, relevant: Tensor, cutoffs: Sequence[int]) -> Tensor:
    """Share of the list that is relevant: (Σ_{j≤k} h_j) / k."""
    found = _up_to(hits.cumsum(dim=1), cutoffs)
    return torch.stack(
        [column / cutoff for column, cutoff in zip(found.t(), cutoffs, strict=True)], dim=1
    )


def hit_rate(hits: Tensor, relevant: Tensor, cutoffs: Sequence[int]) -> Tensor:
    """Whether anything relevant is listed: 1 if Σ_{j≤k} h_j > 0."""
    return (_up_to(hits.cumsum(dim=1), cutoffs) > 0).to(hits.dtype)


def ndcg(hits: Tensor, relevant: Tensor, cutoffs: Sequence[int]) -> Tensor:
    """Normalised discounted cumulative gain (Järvelin & Kekäläinen 2002), binary relevance.

    (Σ_{j≤k} h_j / log₂(j+1)) / (Σ_{j≤min(k,n)} 1 / log₂(j+1)).
    """
    longest = max(*cutoffs, hits.shape[1])
    discounts = 1 / torch.log2(torch.arange(2, longest + 2, dtype=hits.dtype, device=hits.device))
    gains = (hits * discounts[: hits.shape[1]]).cumsum(dim=1)
    ideal = discounts.cumsum(dim=0)
    return _up_to(gains, cutoffs) / ideal[_ideal_length(relevant, cutoffs).long() - 1]


def average_precision(hits: Tensor, relevant: Tensor, cutoffs: Sequence[int]) -> Tensor:
    """Average precision: (Σ_{j≤k} h_j · (Σ_{l≤j} h_l) / j) / min(k, n)."""
    positions = torch.arange(1, hits.shape[1] + 1, dtype=hits.dtype, device=hits.device)
    precisions = (hits * hits.cumsum(dim=1) / positions).cumsum(dim=1)
    return _up_to(precisions, cutoffs) / _ideal_length(relevant, cutoffs)


MEASURE_FUNCTIONS: dict[str, Measure] = {
    "recall": recall,
    "ndcg": ndcg,
    "precision": precision,
    "map": average_precision,
    "hit_rate": hit_rate,
}
"""By the names in ``mgstudy.config.training.MEASURES``."""


def _up_to(cumulative: Tensor, cutoffs: Sequence[int]) -> Tensor:
    last = cumulative.shape[1]
    # A list as an index would be copied to a GPU.
    return torch.stack([cumulative[:, min(cutoff, last) - 1] for cutoff in cutoffs], dim=1)


def _ideal_length(relevant: Tensor, cutoffs: Sequence[int]) -> Tensor:
    return torch.stack([relevant.clamp(max=cutoff) for cutoff in cutoffs], dim=1)
