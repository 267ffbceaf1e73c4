"""What metrics of ranked lists are given, and what they share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mgstudy.data.dataset import Dataset

LEAST_SHARE = 0.01
"""The published fairness divides by the share of incomplete items, or by this."""


@dataclass(frozen=True)
class RankedLists:
    """The first items of every user, best first.

    Attributes:
        items: int64, shape ``[users, length]``; -1 where no candidate is left.
        hits: float64, shape of ``items``: 1 where the item is relevant.
        relevant: int64, shape ``[users]``: relevant items of each user, at least 1.
        user_count: Users of the dataset.
        incomplete: bool, shape ``[items of the catalogue]``: whether an item lacks a modality.
        interactions: float64, shape ``[items of the catalogue]``: training interactions.
    """

    items: Tensor
    hits: Tensor
    relevant: Tensor
    user_count: int
    incomplete: Tensor
    interactions: Tensor
    _kept: dict[tuple[Any, ...], Tensor] = field(default_factory=dict, compare=False)

    def listed(self, of_items: Tensor) -> Tensor:
        """A number of every item at the places where it is listed, 0 where nothing is; float64,
        shape of ``items``."""
        values = of_items.to(torch.float64)[self.items.clamp_min(0)]
        return values * (self.items >= 0)

    def sums(self, of_items: Tensor, cutoffs: Sequence[int]) -> Tensor:
        """Sums of a number of every item over the lists' beginnings, ``[users, cutoffs]``."""
        return up_to(self.listed(of_items).cumsum(dim=1), cutoffs)

    def lengths(self, cutoffs: Sequence[int]) -> Tensor:
        """Items in the lists' beginnings, at least 1, ``[users, cutoffs]``."""
        ones = torch.ones_like(self.interactions)
        return self._once(("lengths", *cutoffs), lambda: self.sums(ones, cutoffs).clamp_min(1))

    def exposures(self, cutoffs: Sequence[int], discounted: bool = False) -> Tensor:
        """How often each item of the catalogue is listed, ``[cutoffs, items of the catalogue]``.

        Args:
            cutoffs: Lengths of the lists' beginnings.
            discounted: Whether place j counts 1 / log₂(j + 1).
        """
        return self._once(
            ("exposures", discounted, *cutoffs), lambda: self._exposures(cutoffs, discounted)
        )

    def _exposures(self, cutoffs: Sequence[int], discounted: bool) -> Tensor:
        length = self.items.shape[1]
        places = torch.arange(2, length + 2, dtype=torch.float64, device=self.items.device)
        weights = 1 / places.log2() if discounted else torch.ones_like(places)
        counts, counted = torch.zeros_like(self.interactions), 0
        found = {}
        for cutoff in sorted(set(cutoffs)):
            added = self.items[:, counted:cutoff]
            there = (added >= 0) * weights[counted:cutoff]
            counts = counts.index_add(0, added.clamp_min(0).reshape(-1), there.reshape(-1))
            found[cutoff], counted = counts, cutoff
        return torch.stack([found[cutoff] for cutoff in cutoffs])

    def _once(self, key: tuple[Any, ...], compute: Callable[[], Tensor]) -> Tensor:
        """What several metrics need, computed for the first."""
        if key not in self._kept:
            self._kept[key] = compute()
        return self._kept[key]

    def incomplete_shares(self, cutoffs: Sequence[int]) -> Tensor:
        """q: the share of incomplete items among the first k of each user, ``[users, cutoffs]``."""
        return self._once(
            ("incomplete", *cutoffs),
            lambda: self.sums(self.incomplete, cutoffs) / _row(cutoffs, self.items),
        )

    def precision(self, cutoffs: Sequence[int]) -> Tensor:
        """The share of relevant items among the first k of each user, ``[users, cutoffs]``."""
        return up_to(self.hits.cumsum(dim=1), cutoffs) / _row(cutoffs, self.items)

    @property
    def incomplete_share(self) -> float:
        """p: the share of incomplete items in the catalogue."""
        return float(self.incomplete.to(torch.float64).mean())


def no_gaps(dataset: Dataset) -> str | None:
    """Why a metric of incomplete items means nothing of a dataset that has none."""
    if dataset.incomplete.any():
        return None
    return f"no item of {dataset.name} lacks a modality"


def up_to(cumulative: Tensor, cutoffs: Sequence[int]) -> Tensor:
    """The columns of sums over the first k, for each cutoff k; at most those that there are."""
    last = cumulative.shape[1]
    return torch.stack([cumulative[:, min(cutoff, last) - 1] for cutoff in cutoffs], dim=1)


def _row(cutoffs: Sequence[int], like: Tensor) -> Tensor:
    return torch.tensor(cutoffs, dtype=torch.float64, device=like.device)
