"""What metrics of ranked lists are given, and what they share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mgstudy.data.dataset import Dataset, as_tensor
from mgstudy.training.metrics.groups import is_popular

LEAST_SHARE = 0.01
"""The published fairness divides by the share of incomplete items, or by this."""


class Catalogue:
    """What lists are judged by besides who finds what relevant, copied to a device once: a GPU is
    waited for.

    Args:
        dataset: The dataset.
        device: Where the lists are.

    Attributes:
        user_count: Users of the dataset.
        incomplete: bool, shape ``[items]``: whether an item lacks a modality.
        interactions: float64, shape ``[items]``: training interactions.
    """

    def __init__(self, dataset: Dataset, device: torch.device | str = "cpu") -> None:
        self._dataset = dataset
        self.user_count = dataset.user_count
        self.incomplete = as_tensor(dataset.incomplete).to(device)
        self.interactions = torch.from_numpy(dataset.train_counts.astype(np.float64)).to(device)

    @cached_property
    def popular(self) -> Tensor:
        """Whether each item is in the head, see ``groups.is_popular``: bool, shape ``[items]``."""
        return torch.from_numpy(is_popular(self._dataset)).to(self.incomplete.device)

    @cached_property
    def unit_features(self) -> tuple[Tensor, list[Tensor]]:
        """The items' features as unit rows of each modality, all modalities in a row and one row
        more, float32 ``[items + 1, widths]``, and whether there are any, float64 ``[items]`` by
        modality: zeros and 0 for an item that lacks it or has none but zeros. The last row is zero.
        """
        found, known = [], []
        for modality, table in self._dataset.features.items():
            rows = as_tensor(table).to(self.incomplete.device)
            observed = as_tensor(self._dataset.observed[modality]).to(rows.device)
            found.append(torch.nn.functional.normalize(rows) * observed[:, None])
            known.append(found[-1].any(dim=1).double())
        return torch.nn.functional.pad(torch.cat(found, dim=1), (0, 0, 0, 1)), known


@dataclass(frozen=True)
class RankedLists:
    """The first items of every user, best first.

    Attributes:
        items: int64, shape ``[users, length]``; -1 where no candidate is left.
        hits: float64, shape of ``items``: 1 where the item is relevant.
        relevant: int64, shape ``[users]``: relevant items of each user, at least 1.
        candidates: int64, shape ``[users]``: items that were ranked for each user.
        catalogue: What is known of all items.
    """

    items: Tensor
    hits: Tensor
    relevant: Tensor
    candidates: Tensor
    catalogue: Catalogue
    _kept: dict[tuple[Any, ...], Tensor] = field(default_factory=dict, compare=False)

    def listed(self, of_items: Tensor) -> Tensor:
        """A number of every item at the places where it is listed, 0 where nothing is; float64,
        shape of ``items``."""
        # One entry more stands where no item is.
        table = torch.nn.functional.pad(of_items.to(torch.float64), (0, 1))
        # A third of the time of the same by brackets.
        return table.index_select(0, self.places.view(-1)).view(self.items.shape)

    @property
    def places(self) -> Tensor:
        """``items`` with the number of items in the catalogue where no item is: what stands in a
        table's row behind all items is taken there."""
        count = len(self.catalogue.interactions)
        return self._once(("places",), lambda: self.items.where(self.items >= 0, count))

    def sums(self, of_items: Tensor, cutoffs: Sequence[int]) -> Tensor:
        """Sums of a number of every item over the lists' beginnings, ``[users, cutoffs]``."""
        return up_to(self.listed(of_items).cumsum(dim=1), cutoffs)

    def lengths(self, cutoffs: Sequence[int]) -> Tensor:
        """Items in the lists' beginnings, at least 1, ``[users, cutoffs]``."""
        return self._once(
            ("lengths", *cutoffs),
            lambda: up_to((self.items >= 0).cumsum(dim=1), cutoffs).clamp_min(1).double(),
        )

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
        counts, counted = torch.zeros_like(self.catalogue.interactions), 0
        found = {}
        for cutoff in sorted(set(cutoffs)):
            end = min(cutoff, self.items.shape[1])
            if discounted:
                # A GPU would add weights up in any order; counts come to the same in each.
                for place in range(counted, end):
                    counts = counts + self._times_listed(place, place + 1) / math.log2(place + 2)
            else:
                counts = counts + self._times_listed(counted, end)
            found[cutoff], counted = counts, end
        return torch.stack([found[cutoff] for cutoff in cutoffs])

    def _times_listed(self, first: int, end: int) -> Tensor:
        """How often each item is at one of these places, float64, shape ``[items]``."""
        number = len(self.catalogue.interactions)
        # One bin more counts where no item is.
        times = torch.bincount(self.places[:, first:end].reshape(-1), minlength=number + 1)
        return times[:number].double()

    def _once(self, key: tuple[Any, ...], compute: Callable[[], Tensor]) -> Tensor:
        """What several metrics need, computed for the first."""
        if key not in self._kept:
            self._kept[key] = compute()
        return self._kept[key]

    def incomplete_shares(self, cutoffs: Sequence[int]) -> Tensor:
        """q: the share of incomplete items among the first k of each user, ``[users, cutoffs]``."""
        return self._once(
            ("incomplete", *cutoffs),
            lambda: _over(self.sums(self.catalogue.incomplete, cutoffs), cutoffs),
        )

    def precision(self, cutoffs: Sequence[int]) -> Tensor:
        """The share of relevant items among the first k of each user, ``[users, cutoffs]``."""
        return _over(self.found(cutoffs), cutoffs)

    def found(self, cutoffs: Sequence[int]) -> Tensor:
        """How many of the first k of each user are relevant, ``[users, cutoffs]``."""
        return self._once(("found", *cutoffs), lambda: up_to(self.hits.cumsum(dim=1), cutoffs))

    def most_hits(self, cutoffs: Sequence[int]) -> Tensor:
        """How many of the first k of each user could be relevant, int64 ``[users, cutoffs]``."""
        return torch.stack([self.relevant.clamp(max=cutoff) for cutoff in cutoffs], dim=1)

    def of_group(self, rows: Tensor, counted: Tensor | None, relevant: Tensor) -> RankedLists:
        """The lists of some users, in which only some items count as relevant.

        Args:
            rows: int64: which users, as positions.
            counted: bool, shape ``[items of the catalogue]``; all when ``None``.
            relevant: int64, of the length of ``rows``: how many items count.
        """
        hits = self.hits if counted is None else self.hits * self.listed(counted)
        of_rows = (tensor.index_select(0, rows) for tensor in (self.items, hits, self.candidates))
        items, hits, candidates = of_rows
        return RankedLists(items, hits, relevant, candidates, self.catalogue)

    @property
    def incomplete_share(self) -> float:
        """p: the share of incomplete items in the catalogue."""
        return float(self.catalogue.incomplete.to(torch.float64).mean())


def no_gaps(dataset: Dataset) -> str | None:
    """Why a metric of incomplete items means nothing of a dataset that has none."""
    if dataset.incomplete.any():
        return None
    return f"no item of {dataset.name} lacks a modality"


def up_to(cumulative: Tensor, cutoffs: Sequence[int]) -> Tensor:
    """The columns of sums over the first k, for each cutoff k; at most those that there are."""
    last = cumulative.shape[1]
    return torch.stack([cumulative[:, min(cutoff, last) - 1] for cutoff in cutoffs], dim=1)


def _over(counts: Tensor, cutoffs: Sequence[int]) -> Tensor:
    """Each cutoff's column over the cutoff. A list of cutoffs would be copied to a GPU."""
    columns = zip(counts.t(), cutoffs, strict=True)
    return torch.stack([column / cutoff for column, cutoff in columns], dim=1)
