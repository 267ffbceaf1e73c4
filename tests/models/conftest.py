"""The toy problem on which every model's numbers are specified, and the check against them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mgstudy.data.dataset import Dataset, Interactions
from mgstudy.data.derived import DerivedArrays
from mgstudy.models.base import Batch, Recommender

USERS, ITEMS = 12, 24
EMBEDDING_SIZE = 8
SCORED = {0: [0, 1, 2, 3], 3: [0, 1, 2], 7: [12, 22, 23]}


class KnownArrays(DerivedArrays):
    """A store in which some entries were put by hand."""

    def __init__(self, known: Mapping[str, dict[str, NDArray[Any]]]) -> None:
        super().__init__()
        self.known = known

    def get(self, name: str, inputs: Any, compute: Any) -> dict[str, NDArray[Any]]:
        return self.known[name] if name in self.known else super().get(name, inputs, compute)


@dataclass(frozen=True)
class Toy:
    """Twelve users, 24 items, 59 training pairs; users 3 and 9 and items 12 and 23 are isolated.

    Attributes:
        scored: User to the items whose scores the specification has.
    """

    dataset: Dataset
    batch: Batch
    embedding_size: int = EMBEDDING_SIZE
    scored: Mapping[int, list[int]] = field(default_factory=lambda: SCORED)

    def with_neighbours(self, neighbours: Mapping[int, tuple[list[int], list[float]]]) -> Dataset:
        """The dataset with given co-occurrence (node to neighbour ids and counts, by rank), in
        place of what follows from its interactions."""
        lists = [neighbours[node] for node in sorted(neighbours)]
        arrays = {
            "offsets": np.cumsum([0] + [len(ids) for ids, _ in lists]),
            "neighbours": np.array([i for ids, _ in lists for i in ids], dtype=np.int64),
            "counts": np.array([c for _, counts in lists for c in counts], dtype=np.float32),
        }
        return replace(self.dataset, derived=KnownArrays({"co_occurrence": arrays}))

    def with_user_neighbours(self) -> Dataset:
        """The dataset with the specification's user graph, of 40 neighbours at most."""
        full = {
            user: (
                [(user + 1 + j) % USERS for j in range(40)],
                [max(1.0, 5 - j // 9) for j in range(40)],
            )
            for user in range(USERS)
        }
        return self.with_neighbours({**full, 4: ([], []), 6: ([2], [3.0])})

    def with_item_neighbours(self) -> Dataset:
        """The dataset with the specification's item co-occurrence graph."""
        lists = {
            item: list(dict.fromkeys([(item + 3) % ITEMS, (2 * item + 1) % ITEMS]))
            if item % 5 != 3
            else []
            for item in range(ITEMS)
        }
        return self.with_neighbours({item: (ids, [1.0] * len(ids)) for item, ids in lists.items()})

    @staticmethod
    def linear(first_index: int, layer: nn.Linear) -> dict[int, Tensor]:
        """A linear layer's weight and bias under two consecutive parameter indices."""
        return {first_index: layer.weight, first_index + 1: layer.bias}

    @staticmethod
    def filled(tensor: Tensor, index: int) -> None:
        """Give a tensor the values that the specification has for a parameter's index."""
        fill(tensor, index)

    def check(
        self,
        model: Recommender,
        tensors: Mapping[int, Tensor],
        *,
        loss: float | None,
        scores: str,
        gradients: str = "",
        published_scale: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        """Compare a model with the specification: its loss, scores and gradient norms.

        Args:
            model: Built on the toy dataset with the settings of table 27.2, noise off.
            tensors: The model's tensor of every parameter index of the specification. Each is
                filled; no trainable tensor may be left out.
            loss: Expected training loss, or ``None`` for a model without training.
            scores: Expected scores as the table has them: of user 0, user 3 and user 7 (or those
                of ``scored``), separated by ``|``.
            gradients: Expected Frobenius norms as the table has them, ``"0: 0.29629, ..."``.
            published_scale: The function of this model's scores that the published ones are.
        """
        trainable = {id(parameter) for parameter in model.parameters()}
        assert trainable <= {id(tensor) for tensor in tensors.values()}
        for index, tensor in tensors.items():
            fill(tensor, index)
        model.train()
        if loss is not None:
            pairs = replace(self.batch, negatives=None)
            actual = model.loss(self.batch if model.samples_negatives else pairs)
            assert actual.item() == pytest.approx(loss, abs=1e-5)
            actual.backward()
        for index, expected in parse_norms(gradients).items():
            gradient = tensors[index].grad
            assert gradient is not None, f"parameter {index} has no gradient"
            assert gradient.norm().item() == pytest.approx(
                float(expected), abs=1e-7, rel=1e-5 + half_unit_in_last_place(expected)
            ), f"gradient of parameter {index}"
        model.eval()
        with torch.no_grad():
            ranked = model.scorer()(torch.arange(self.dataset.user_count))
        assert ranked.shape == (self.dataset.user_count, ITEMS)
        if published_scale is not None:
            ranked = published_scale(ranked)
        for (user, items), expected_row in zip(self.scored.items(), scores.split("|"), strict=True):
            values = [float(value) for value in expected_row.split()]
            assert ranked[user, items].tolist() == pytest.approx(values, abs=1e-5), f"user {user}"


def fill(tensor: Tensor, index: int) -> None:
    """Give a tensor the values the specification has for parameter ``index``."""
    flat = np.arange(tensor.numel(), dtype=np.float64)
    values = 0.4 * np.sin(0.37 * flat + 1.7 * index + 0.5) + 0.2 * np.cos(1.13 * flat + 0.6 * index)
    with torch.no_grad():
        tensor.copy_(torch.from_numpy(values.astype(np.float32)).view(tensor.shape))


def parse_norms(text: str) -> dict[int, str]:
    pairs = (pair.split(":") for pair in text.split(",") if pair.strip())
    return {int(index): value.strip() for index, value in pairs}


def half_unit_in_last_place(number: str) -> float:
    """Relative rounding error of a number as it is printed."""
    digits = number.lower().split("e")[0].replace(".", "").lstrip("-0")
    return 0.5 / float(digits)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """The same random numbers in every run: of a thousand draws, some exceed any tolerance."""
    torch.manual_seed(0)


@pytest.fixture
def toy() -> Toy:
    users, items = zip(
        *(
            (u, i)
            for u in range(USERS)
            for i in range(ITEMS)
            if i != 23 and (4 * (u + 1) * (i + 2) + 9 * u + i * i) % 13 < 3
        ),
        strict=True,
    )
    i = np.arange(ITEMS)[:, None]
    visual, textual = np.arange(10)[None], np.arange(6)[None]
    dataset = Dataset.from_arrays(
        name="toy",
        user_count=USERS,
        item_count=ITEMS,
        train=Interactions(np.array(users), np.array(items)),
        validation=Interactions(np.array([0, 7]), np.array([2, 1])),
        test=Interactions(np.array([0, 7]), np.array([3, 4])),
        features={
            "image": (np.sin(0.9 * i + 1.3 * visual + 0.2 * i * visual) + 0.3).astype(np.float32),
            "text": np.cos(0.7 * i - 0.5 * textual + 0.31 * i * textual).astype(np.float32),
        },
    )
    batch = Batch(
        users=torch.tensor([0, 2, 5, 7, 0]),
        positives=torch.tensor([1, 10, 0, 22, 21]),
        negatives=torch.tensor([6, 5, 23, 0, 9]),
        nominal_size=8,
    )
    return Toy(dataset, batch)
