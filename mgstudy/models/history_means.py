"""Means of item vectors over what users did, the latest weighing most."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn

from mgstudy.config.parameters import ParameterSet, parameter
from mgstudy.data.dataset import Dataset
from mgstudy.errors import InputError
from mgstudy.models.graph import SparseGraph
from mgstudy.models.rows import gather_rows, linear_map
from mgstudy.models.user_histories import UserHistories


class HistoryParameters(ParameterSet):
    """What both models can be told about histories."""

    history_length: int | None = parameter(
        50, "latest interactions of a user that count; null: all", ge=1, space=(10, 20, 50, 100)
    )
    recency: float = parameter(
        0.9,
        "weight of an interaction relative to that of the next one",
        gt=0,
        le=1,
        space=(0.8, 0.9, 0.95, 1.0),
    )
    popular_share: float = parameter(
        0.0,
        "share of the popular items' direction in the vector of a user with a history; a user "
        "without has nothing else",
        ge=0,
        le=1,
        space=(0.0, 0.1, 0.2),
    )
    strength: Literal["uniform", "rating"] = parameter(
        "uniform", "whether all interactions count the same, or each as much as its rating"
    )


class HistoryMeans(nn.Module):
    """Weighted means of item vectors over users' histories.

    Args:
        dataset: Whose training interactions are read.
        parameters: How they weigh.

    Raises:
        InputError: If ratings are to weigh and there are none.
    """

    decay: Tensor
    strengths: Tensor
    totals: Tensor
    own: Tensor
    own_size: Tensor

    def __init__(self, dataset: Dataset, parameters: HistoryParameters) -> None:
        super().__init__()
        self.histories = UserHistories(dataset)
        longest = self.histories.longest
        self.length = min(parameters.history_length or longest, longest)
        decay = parameters.recency ** np.arange(longest)
        strengths = self._strengths(dataset, parameters.strength)

        counts = self.histories.starts.diff().numpy()
        users = np.repeat(np.arange(dataset.user_count), counts)
        back = self.histories.starts.numpy()[1:][users] - 1 - np.arange(len(users))
        weights = np.where(back < self.length, strengths * decay[back], 0.0)
        totals = np.bincount(users, np.abs(weights), minlength=dataset.user_count)
        scaled = weights / np.where(totals > 0, totals, 1.0)[users]
        kept = back < self.length
        offsets = np.concatenate([[0], np.cumsum(np.minimum(counts, self.length))])
        items = self.histories.items.numpy()
        shape = (dataset.user_count, dataset.item_count)
        matrix = sparse.csr_matrix((scaled[kept], items[kept], offsets), shape=shape)
        self.whole = SparseGraph.from_scipy(matrix)
        pairs = self.histories.pair_numbers(torch.from_numpy(users), self.histories.items).numpy()
        constants: dict[str, NDArray[Any]] = {
            "decay": decay,
            "strengths": strengths,
            "totals": totals,
            # Of all occurrences of a pair together.
            "own": np.bincount(pairs, weights),
            "own_size": np.bincount(pairs, np.abs(weights)),
        }
        for name, values in constants.items():
            self.register_buffer(name, torch.from_numpy(values).float(), persistent=False)

    def of_all(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """Each user's mean over the whole history, zero where it has no weight, and whether it has
        none: shapes ``[users, width]`` and ``[users]``.

        Args:
            items: Shape ``[items, width]``.
        """
        return _product(self.whole, items), self.totals == 0

    def before(self, items: Tensor, users: Tensor, positives: Tensor) -> tuple[Tensor, Tensor]:
        """As ``of_all``, for training pairs: over what the user did before the last time with the
        positive item, or without times over everything but that item.

        Args:
            items: Shape ``[items, width]``.
            users: int64, shape ``[rows]``.
            positives: int64, shape ``[rows]``.
        """
        if not self.histories.ordered:
            return self._without(items, users, positives)
        places, there = self.histories.latest(users, self.length, before=positives)
        weights = self.strengths[places] * self.decay[: places.shape[1]] * there
        totals = weights.abs().sum(dim=1)
        weights = weights / totals.where(totals > 0, 1.0).unsqueeze(1)
        columns = self.histories.items[places].int().flatten()
        offsets = torch.arange(len(users) + 1, dtype=torch.int32, device=users.device)
        graph = SparseGraph(
            offsets * places.shape[1], columns, weights.flatten(), self.whole.shape[1]
        )
        return _product(graph, items), totals == 0

    def _without(self, items: Tensor, users: Tensor, positives: Tensor) -> tuple[Tensor, Tensor]:
        pairs = self.histories.pair_numbers(users, positives)
        totals = self.totals[users]
        left = totals - self.own_size[pairs]
        empty = left <= 1e-6 * totals
        sums = totals.unsqueeze(1) * gather_rows(_product(self.whole, items), users)
        sums = sums - self.own[pairs].unsqueeze(1) * gather_rows(items, positives)
        return sums * (~empty / left.where(~empty, 1.0)).unsqueeze(1), empty

    def _strengths(self, dataset: Dataset, kind: str) -> NDArray[np.float32]:
        """Of each interaction, in the order of the histories."""
        if kind == "uniform":
            return np.ones(len(dataset.train), dtype=np.float32)
        if self.histories.ratings is None:
            raise InputError(
                f"dataset {dataset.name!r} has no ratings, which strength=rating needs"
            )
        ratings = self.histories.ratings.numpy()
        if ratings.max() <= 0:
            raise InputError(f"no rating of dataset {dataset.name!r} is above 0")
        scaled: NDArray[np.float32] = ratings / ratings.max()
        return scaled


def _product(graph: SparseGraph, items: Tensor) -> Tensor:
    # Not by ``propagate``: a history is no graph whose edges edge dropout may take, since the item
    # to be predicted is taken out of it.
    return linear_map(items, graph.multiply, graph.multiply_transposed)
