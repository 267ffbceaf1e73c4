"""Graphs of users and the new items that are most similar to them, which MoDiCF finds as it trains.

A file of its own beside ``modicf.py``: these graphs change, and belong to a model's state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from mgstudy.data.dataset import Dataset
from mgstudy.models.graph import SparseGraph
from mgstudy.models.interaction_graphs import interaction_matrix, one_sided

_SHARE = 1e-4
"""Items of the catalogue that are found for a user."""
_USERS_AT_ONCE = 1024


class SimilarItems(nn.Module):
    """Each user's most similar items of a modality, and the graphs of users and items they make.

    Args:
        dataset: Training items are left out of a user's.
        modality_count: Modalities.
    """

    items: Tensor

    def __init__(self, dataset: Dataset, modality_count: int) -> None:
        super().__init__()
        self.dataset = dataset
        self.count = max(1, int(_SHARE * dataset.item_count))
        # -1 until they are found: the graphs are then the training interactions.
        nothing = torch.full((modality_count, dataset.user_count, self.count), -1)
        self.register_buffer("items", nothing)
        self._graphs: list[tuple[SparseGraph, SparseGraph]] | None = None
        self.register_load_state_dict_post_hook(self._forget)  # type: ignore[no-untyped-call]

    def find(self, sides: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Find them by the dot products of users and items, given those of every modality."""
        interactions = interaction_matrix(self.dataset)
        for position, (of_users, of_items) in enumerate(sides):
            for first in range(0, len(of_users), _USERS_AT_ONCE):
                users = slice(first, first + _USERS_AT_ONCE)
                known = torch.from_numpy(interactions[users].toarray() > 0).to(of_users.device)
                scores = (of_users[users] @ of_items.t()).masked_fill_(known, -torch.inf)
                best = scores.topk(self.count, dim=1)
                self.items[position, users] = best.indices.where(best.values > -torch.inf, -1)
        self._forget()

    def graphs(self) -> list[tuple[SparseGraph, SparseGraph]] | None:
        """Each modality's graph as ``one_sided_blocks`` has it; ``None`` before they are found."""
        if self._graphs is None and bool((self.items >= 0).any()):
            self._graphs = [self._blocks(items) for items in self.items.cpu().numpy()]
        return self._graphs

    def _blocks(self, items: Any) -> tuple[SparseGraph, SparseGraph]:
        there = items.reshape(-1) >= 0
        users = np.arange(len(items)).repeat(self.count)[there]
        matrix = sparse.csr_matrix(
            (np.ones(len(users)), (users, items.reshape(-1)[there])),
            shape=(self.dataset.user_count, self.dataset.item_count),
        )
        device = self.items.device
        both = (one_sided(matrix), one_sided(matrix.T.tocsr()))
        to_users, to_items = (SparseGraph.from_arrays(arrays).to(device) for arrays in both)
        return to_users, to_items

    def _forget(self, *_: Any) -> None:
        """Other items were found."""
        self._graphs = None
