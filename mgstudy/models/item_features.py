"""The one door from raw item features to a model.

Everything that changes what a model sees of its items (noise, adversarial perturbation, modality
dropout, test-time risks) acts here, so it works with every model, and a new model gets it for free.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mgstudy.data.dataset import as_tensor
from mgstudy.models.rows import gather_rows


class FeatureTransform(Protocol):
    """Changes feature rows on their way into a model."""

    def __call__(self, modality: str, rows: Tensor, items: Tensor | None) -> Tensor:
        """Return changed rows.

        Args:
            modality: Name of the table the rows come from.
            rows: The rows, shape ``[n, width]``.
            items: Item id of each row, shape ``[n]``; ``None`` means all items in order.
        """


class ItemFeatures(nn.Module):
    """Item feature tables by modality, and the transforms that currently act on them.

    Args:
        tables: Modality to a float32 table of shape ``[items, width]``. The order of the mapping
            is the order of the modalities. Read-only arrays are not copied unless trained.
        trained: Whether the tables are parameters of the model (published as ``freeze=False``;
            needs a private copy, its gradient and the optimizer's state for each) or constants.

    Attributes:
        trained: Whether the model's tables may differ from the dataset's.
    """

    def __init__(self, tables: Mapping[str, NDArray[np.float32]], trained: bool = False) -> None:
        super().__init__()
        self.modalities: tuple[str, ...] = tuple(tables)
        self.trained = trained
        self._transforms: list[FeatureTransform] = []
        for modality, table in tables.items():
            if trained:
                values = torch.tensor(np.asarray(table))
                self.register_parameter(_attribute(modality), nn.Parameter(values))
            else:
                # Constants are not part of a checkpoint: they come from the dataset.
                self.register_buffer(_attribute(modality), as_tensor(table), persistent=False)

    @property
    def constant(self) -> bool:
        """Whether ``rows`` gives the dataset's own tables, neither trained nor transformed, so that
        what a model computed from those once still holds."""
        return not self.trained and not self._transforms

    def keep(self) -> None:
        """Make the tables the model's own: copies that it may write to and that belong to its
        state, though nothing trains them. They then count as ``trained``."""
        for modality in self.modalities:
            table = self.table(modality).clone()
            delattr(self, _attribute(modality))
            self.register_buffer(_attribute(modality), table)
        self.trained = True

    def width(self, modality: str) -> int:
        """Columns of a modality's table."""
        return int(self.table(modality).shape[1])

    def table(self, modality: str) -> Tensor:
        """A modality's table as stored, before any transform, shape ``[items, width]``."""
        return getattr(self, _attribute(modality))  # type: ignore[no-any-return]

    def rows(self, modality: str, items: Tensor | None = None) -> Tensor:
        """Feature rows as the model should see them.

        Args:
            modality: Name of the table.
            items: Item ids, shape ``[n]``; ``None`` for all items in order.

        Returns:
            Shape ``[n, width]``, or ``[items, width]`` without ``items``.
        """
        table = self.table(modality)
        rows = table if items is None else gather_rows(table, items)
        for transform in self._transforms:
            rows = transform(modality, rows, items)
        return rows

    @contextmanager
    def transformed(self, transform: FeatureTransform) -> Iterator[None]:
        """Let ``transform`` act inside the ``with`` block, after those that already act."""
        self._transforms.append(transform)
        try:
            yield
        finally:
            self._transforms.remove(transform)


def _attribute(modality: str) -> str:
    return f"table_{modality}"
