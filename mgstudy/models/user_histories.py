"""Users' training histories on a model's device, and the part of them that a model may look at."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mgstudy.data.dataset import Dataset, as_tensor
from mgstudy.data.histories import histories


class UserHistories(nn.Module):
    """A dataset's ``Histories`` as tensors, which say what each attribute means.

    A submodule of the model that uses it, so that it moves with the model to another device. It is
    not part of a checkpoint: it follows from the data.

    Attributes:
        ordered: Whether the order means anything.
        longest: Interactions of the user who has most.
    """

    starts: Tensor
    items: Tensor
    ratings: Tensor | None
    pairs: Tensor
    last_places: Tensor

    def __init__(self, dataset: Dataset) -> None:
        super().__init__()
        found = histories(dataset)
        self.item_count = dataset.item_count
        self.ordered = found.ordered
        self.longest = int((found.starts[1:] - found.starts[:-1]).max())
        for name in ("starts", "items", "pairs", "last_places", "ratings"):
            array = getattr(found, name)
            tensor = None if array is None else as_tensor(array)
            self.register_buffer(name, tensor, persistent=False)

    def pair_numbers(self, users: Tensor, items: Tensor) -> Tensor:
        """Where training pairs stand among ``pairs``, int64 as both arguments."""
        return torch.searchsorted(self.pairs, users * self.item_count + items)

    def latest(
        self, users: Tensor, count: int, before: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The latest interactions of each user, the very latest first.

        Args:
            users: int64, shape ``[n]``.
            count: How many.
            before: An item of each user, int64, shape ``[n]``: only what the user did before the
                last time with this item counts. Where order means nothing, this means nothing.

        Returns:
            Places in ``items`` (and ``ratings``), int64, and whether there are so many, bool; both
            of shape ``[n, min(count, longest)]``.
        """
        ends = (
            self.starts[users + 1]
            if before is None
            else self.last_places[self.pair_numbers(users, before)]
        )
        back = torch.arange(1, min(count, self.longest) + 1, device=users.device)
        places = ends[:, None] - back
        return places.clamp(min=0), places >= self.starts[users][:, None]
