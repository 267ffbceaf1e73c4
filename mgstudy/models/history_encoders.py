"""What reads a user's history of items into one vector."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn


class Gru(nn.Module):
    """The state after the latest item, zero without any."""

    def __init__(self, size: int, length: int) -> None:
        super().__init__()
        self.cell = nn.GRUCell(size, size)

    def forward(self, read: Tensor, there: Tensor) -> Tensor:
        state = read.new_zeros(len(read), read.shape[2])
        for items, exist in zip(read.unbind(dim=1), there.unbind(dim=1), strict=True):
            state = torch.where(exist[:, None], self.cell(items, state), state)
        return state


class Transformer(nn.Module):
    """One layer of four heads over items with learned places, read at the latest."""

    def __init__(self, size: int, length: int) -> None:
        super().__init__()
        self.places = nn.Parameter(0.02 * torch.randn(length, size))
        self.layer = nn.TransformerEncoderLayer(
            size, 4, 4 * size, dropout=0.0, batch_first=True, norm_first=True
        )

    def forward(self, read: Tensor, there: Tensor) -> Tensor:
        hidden = ~there
        hidden[:, -1] = False  # Without anything to look at, attention is not a number.
        placed = read + self.places[-read.shape[1] :]
        latest: Tensor = self.layer(placed, src_key_padding_mask=hidden)[:, -1]
        return latest * there[:, -1:]


class Mean(nn.Module):
    """The mean item, zero without any."""

    def __init__(self, size: int, length: int) -> None:
        super().__init__()

    def forward(self, read: Tensor, there: Tensor) -> Tensor:
        weights = there.to(read.dtype)[..., None]
        return (read * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1.0)


ENCODERS: Mapping[str, Callable[[int, int], nn.Module]] = {
    "gru": Gru,
    "transformer": Transformer,
    "mean": Mean,
}
"""By name: made of the width and of how many items a history has at most. Each is called with the
items, the oldest first, shape ``[users, items, width]``, and whether there are so many, shape
``[users, items]``, and gives a vector for each user, zero without any item."""
