"""Measure a model by ranking all items, or those of a domain, for every user of a split.

What is measured of the lists are the metrics of ``mgstudy/training/metrics/``. Those of accuracy
are as in the published multimodal evaluation, without its rounding.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mgstudy.config.metrics import (
    DOMAINS,
    RankingMetric,
    ranking_metrics,
    split_group,
)
from mgstudy.config.training import Metric, parse_metric
from mgstudy.data.dataset import Dataset, Interactions, as_tensor, distinct
from mgstudy.errors import InputError
from mgstudy.models.base import Scorer
from mgstudy.training.metrics.base import Catalogue, RankedLists
from mgstudy.training.metrics.groups import Group, refusal
from mgstudy.training.ranking import FullRanking

AnyValue = TypeVar("AnyValue", float, Tensor)
AnyFound = TypeVar("AnyFound", float, NDArray[np.float64])

PAIRS_AT_ONCE = 2**16
"""Relevant items that are looked for at once, which bounds the memory for it."""


class Evaluator:
    """Full-ranking evaluation of one split.

    Every item is ranked for every user of the split, except the user's training items. Each metric
    is the unweighted mean over the users, one of a group over those who have something to do with
    it: who belong to it, or have a relevant item of it. An item that a user has twice in the split
    is one possible hit but counts twice in the user's number of relevant items, as published. Equal
    scores are ranked by item id, lowest first. Values are not rounded.

    A metric of the domains ranks only a domain's items, for the users with held-out items of it,
    and is the mean over the domains of the mean over these users. A user's value of it is weighted
    so that the mean over the users of the split is that, too.

    Args:
        dataset: The interactions.
        split: ``"validation"`` or ``"test"``.
        metrics: What to compute: names such as ``"recall@20"``, or ``Metric``. One that means
            nothing of the dataset (fairness, where no item is incomplete) is left out.
        device: Where the scores are.
        block_size: Users ranked at once; ``None`` chooses by the number of items.
        exclude_validation: Whether a user's validation items are left out as well. Off by default:
            the published code leaves them in when it tests, where they can only be wrong answers.
        among: bool, shape ``[items]``: the items that are ranked, the only ones of which there are
            interactions; all items when not given.

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
        among: NDArray[np.bool_] | None = None,
    ) -> None:
        interactions: Interactions = getattr(dataset, split)
        if not len(interactions):
            raise InputError(f"dataset {dataset.name!r} has no {split} interactions to evaluate on")
        if exclude_validation and split == "validation":
            raise InputError("validation items cannot be left out of the validation itself")
        if not metrics:
            raise InputError("an evaluation needs at least one metric")
        parsed = tuple(parse_metric(str(metric)) for metric in metrics)
        kinds = {metric.measure: split_group(metric.measure) for metric in parsed}
        undefined = {
            measure: reason
            for measure in kinds
            if (reason := refusal(measure, dataset)) is not None
        }
        self.metrics = tuple(metric for metric in parsed if metric.measure not in undefined)
        if not self.metrics:
            raise InputError(f"nothing is left to measure: {'; '.join(undefined.values())}")
        self.ranking = FullRanking(
            dataset,
            excluded=("train", "validation") if exclude_validation else ("train",),
            device=device,
            block_size=block_size,
            among=among,
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
        self._candidates = self.ranking.candidates(as_tensor(arrays["users"]).to(device))
        self._catalogue = Catalogue(dataset, device)
        self._measures: dict[str, tuple[RankingMetric, list[int]]] = {}
        in_domains = []
        for measure, cutoff in self.metrics:
            name, group = kinds[measure]
            if group == DOMAINS:
                in_domains.append(f"{name}@{cutoff}")
            else:
                kind = ranking_metrics.get(name)
                self._measures.setdefault(measure, (kind(), []))[1].append(cutoff)
        self._domains = [
            _Domain(
                name,
                Evaluator(
                    dataset.of_domain(name),
                    split,
                    in_domains,
                    device=device,
                    block_size=block_size,
                    exclude_validation=exclude_validation,
                    among=dataset.in_domain(name),
                ),
                dataset.trained_in[:, position],
            )
            for position, name in enumerate(dataset.domains if in_domains else ())
        ]
        self._groups = {
            group: Group.of(dataset, split, group, self.users, device)
            for _, group in (kinds[measure] for measure in self._measures)
            if group is not None
        }

    def evaluate(self, scorer: Scorer) -> dict[str, float]:
        """The mean of each metric over the split's users, or what it is of all their lists, by the
        metric's name.

        Raises:
            FloatingPointError: If a score is NaN.
        """
        return self.evaluate_both(scorer)[1]

    def evaluate_users(self, scorer: Scorer) -> dict[str, NDArray[np.float64]]:
        """Each metric that users have, of every user, ``[users]`` in the order of ``self.users``;
        NaN for a user who has nothing to do with the metric's group.

        Raises:
            FloatingPointError: If a score is NaN.
        """
        return self.evaluate_both(scorer)[0]

    def evaluate_both(
        self, scorer: Scorer
    ) -> tuple[dict[str, NDArray[np.float64]], dict[str, float]]:
        """What ``evaluate_users`` and ``evaluate`` give, of one ranking."""
        of_users: dict[str, NDArray[np.float64]] = {}
        summary: dict[str, float] = {}
        if self._measures:
            ranked = self._ranked(self._lists(scorer))
            of_users = self._of_users(ranked)
            summary = self._summary(ranked, of_users)
        if self._domains:
            of_domains = self._of_domains(scorer)
            of_users |= of_domains
            summary |= {name: float(np.nanmean(values)) for name, values in of_domains.items()}
        return _in_order(self.metrics, of_users), _in_order(self.metrics, summary)

    def _of_domains(self, scorer: Scorer) -> dict[str, NDArray[np.float64]]:
        """The metrics of the domains, of every user, and those of each domain."""
        means: dict[str, NDArray[np.float64]] = {}
        found: dict[str, NDArray[np.float64]] = {}
        for domain in self._domains:
            users = domain.evaluator.users
            rows, newcomers = np.searchsorted(self.users, users), ~domain.trained[users]
            weight = len(self.users) / (len(self._domains) * len(users))
            for metric, values in domain.evaluator.evaluate_users(scorer).items():
                measure, cutoff = parse_metric(metric)
                mean = means.setdefault(f"{measure}-{DOMAINS}@{cutoff}", np.zeros(len(self.users)))
                mean[rows] += weight * values
                everyone = np.ones(len(users), dtype=np.bool_)
                for name, of in ((domain.name, everyone), (f"{domain.name}_newcomers", newcomers)):
                    if of.any():
                        spread = np.full(len(self.users), np.nan)
                        spread[rows[of]] = values[of]
                        found[f"{measure}-{name}@{cutoff}"] = spread
        return means | found

    @torch.no_grad()
    def _lists(self, scorer: Scorer) -> Tensor:
        longest = max(max(cutoffs) for _, cutoffs in self._measures.values())
        return torch.cat(list(self.ranking.lists(scorer, self._blocks, longest)))

    @torch.no_grad()
    def _summary(
        self, ranked: RankedLists, of_users: Mapping[str, NDArray[np.float64]]
    ) -> dict[str, float]:
        """Each metric's mean over the users that have a value, or what it is of all lists."""
        found = {name: _mean(values) for name, values in of_users.items()}
        for measure, (metric, cutoffs) in self._measures.items():
            if metric.of_users:
                continue
            _, group = split_group(measure)
            lists = ranked if group is None else self._groups[group].seen(ranked)
            found |= _by_name(measure, cutoffs, metric.values(lists, cutoffs).tolist())
        return found

    def _ranked(self, lists: Tensor) -> RankedLists:
        hits = self._hits(lists)
        return RankedLists(lists, hits, self._relevant_counts, self._candidates, self._catalogue)

    @torch.no_grad()
    def _of_users(self, ranked: RankedLists) -> dict[str, NDArray[np.float64]]:
        seen = {group: members.seen(ranked) for group, members in self._groups.items()}
        found: dict[str, Tensor] = {}
        for measure, (metric, cutoffs) in self._measures.items():
            if not metric.of_users:
                continue
            _, group = split_group(measure)
            if group is None:
                values = metric.values(ranked, cutoffs)
            else:
                values = self._groups[group].spread(metric.values(seen[group], cutoffs))
            found |= _by_name(measure, cutoffs, values.t())
        if not found:
            return {}
        # One copy of everything: a GPU is waited for.
        values = torch.stack(list(found.values())).cpu().numpy()
        return dict(zip(found, values, strict=True))

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
    keys = distinct(positions * item_count + interactions.items)
    return {
        "users": users,
        "counts": counts.astype(np.int64),
        "rows": keys // item_count,
        "items": keys % item_count,
    }


def _mean(values: NDArray[np.float64]) -> float:
    """Of the users that have a value."""
    mean = values.mean()
    # Looking for users without one takes longer than the mean.
    return float(np.nanmean(values) if np.isnan(mean) else mean)


def _by_name(
    measure: str, cutoffs: Sequence[int], values: Iterable[AnyValue]
) -> dict[str, AnyValue]:
    return {str(Metric(measure, at)): value for at, value in zip(cutoffs, values, strict=True)}


def _in_order(metrics: Sequence[Metric], found: Mapping[str, AnyFound]) -> dict[str, AnyFound]:
    """What was found of the metrics, in their order, and then what comes with them."""
    asked = {str(metric): found[str(metric)] for metric in metrics if str(metric) in found}
    return {**asked, **found}


@dataclass(frozen=True)
class _Domain:
    """A domain by name, what evaluates it, and whether each user was trained in it."""

    name: str
    evaluator: Evaluator
    trained: NDArray[np.bool_]
