"""The graph of users who share items, with a fixed number of neighbours per user."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mgstudy.data.dataset import Dataset
from mgstudy.models.graph import SparseGraph
from mgstudy.models.interaction_graphs import shared_item_graph
from mgstudy.models.propagation import segment_softmax


class UserNeighbours(nn.Module):
    """Users weighted by how many training items they share (DualGNN's user co-occurrence graph).

    A user's neighbours are the ``neighbour_count`` users it shares most items with, weighted by the
    softmax of the numbers of shared items. Where fewer share anything, the published code fills the
    list up every epoch with copies of elements drawn from the list as it grows, which enter the
    softmax; a user that shares nothing has no neighbours.

    Args:
        dataset: Whose training interactions to read.
        neighbour_count: Length of every user's list.
    """

    def __init__(self, dataset: Dataset, neighbour_count: int) -> None:
        super().__init__()
        self.neighbour_count = neighbour_count
        self.shared_items = shared_item_graph(dataset, neighbour_count)

    def full(self) -> SparseGraph:
        """The graph without copies, shape ``[users, users]``. On average over the draws, all
        neighbours of a user have equally many copies, so this is the graph to rank with."""
        return self._weighted(self.shared_items.values)

    def draw(self) -> SparseGraph:
        """The graph with newly drawn copies, shape ``[users, users]``."""
        return self._weighted(self.shared_items.values + self.draw_copies().log())

    def draw_copies(self) -> Tensor:
        """How often each entry of ``shared_items`` is in its user's list, shape ``[entries]``."""
        offsets = self.shared_items.row_offsets.long()
        lengths = offsets.diff()
        short = ((lengths > 0) & (lengths < self.neighbour_count)).nonzero()[:, 0]
        lengths, starts = lengths[short], offsets[short]
        elements = torch.zeros(
            len(short), self.neighbour_count, dtype=torch.long, device=offsets.device
        )
        for position in range(1, self.neighbour_count):
            drawn = torch.randint(position, (len(short), 1), device=offsets.device)
            copied = elements.gather(1, drawn)[:, 0]
            elements[:, position] = torch.where(position < lengths, position, copied)
        copies = torch.bincount(
            (starts[:, None] + elements).flatten(), minlength=len(self.shared_items)
        )
        # The other users' lists, which are full, have every neighbour once.
        return copies.clamp(min=1).float()

    def _weighted(self, scores: Tensor) -> SparseGraph:
        return self.shared_items.with_values(segment_softmax(self.shared_items, scores))
