"""Prompts of embedded tokens about a user and an item, the item first: what depends on the item
alone can be read once for all its users."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from mgstudy.data.dataset import Dataset, as_tensor
from mgstudy.errors import InputError
from mgstudy.models.language_models import LanguageModel


class Prompts(nn.Module):
    """``Item: TEXT [picture]`` and ``User: [user]`` and the question, as a language model's tokens.

    Args:
        dataset: Whose texts are read.
        language: The language model.
        text: Which of the texts; the first where it is not given.
        text_tokens: Longer texts are cut.

    Attributes:
        means: The mean embedding of each item's text, ``[items, width]``.

    Raises:
        InputError: If the dataset has no text of this name.
    """

    means: Tensor
    prefixes: Tensor
    lengths: Tensor
    before_user: Tensor
    question: Tensor

    def __init__(
        self, dataset: Dataset, language: LanguageModel, text: str | None, text_tokens: int
    ) -> None:
        super().__init__()
        arrays = _arrays(dataset, language, text, text_tokens)
        _, before_user, question = language.literals()
        constants = {
            "means": as_tensor(arrays["means"]),
            "prefixes": as_tensor(arrays["prefixes"]).long(),
            "lengths": as_tensor(arrays["lengths"]).long(),
            "before_user": torch.tensor(before_user),
            "question": torch.tensor(question),
        }
        for name, values in constants.items():
            self.register_buffer(name, values, persistent=False)

    def positions(self) -> tuple[float, int]:
        """Of the part of an item, without a picture, in the mean, and of that of a user."""
        of_item = float(self.lengths.double().mean()) + len(self.before_user)
        return of_item, 1 + len(self.question)

    def of_items(
        self, table: nn.Module, items: Tensor, pictures: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The part of the prompts that depends on the item alone, padded on the left.

        Args:
            table: The language model's embeddings.
            items: int64, shape ``[rows]``.
            pictures: Their tokens, shape ``[rows, width]``.

        Returns:
            Shape ``[rows, positions, width]``, and which positions count, ``[rows, positions]``.
        """
        lengths = self.lengths[items]
        tokens = self.prefixes[items, -int(lengths.max()) :]
        parts = [table(tokens)]
        back = torch.arange(tokens.shape[1], 0, -1, device=tokens.device)
        mask = back <= lengths[:, None]
        if pictures is not None:
            parts.append(pictures[:, None].to(parts[0].dtype))
            mask = functional.pad(mask, (0, 1), value=True)
        parts.append(table(self.before_user).expand(len(items), -1, -1))
        return torch.cat(parts, dim=1), functional.pad(mask, (0, len(self.before_user)), value=True)

    def of_users(self, table: nn.Module, users: Tensor) -> Tensor:
        """The rest of the prompts, shape ``[rows, positions, width]``.

        Args:
            table: The language model's embeddings.
            users: The users' tokens, shape ``[rows, width]``.
        """
        question = table(self.question).expand(len(users), -1, -1)
        return torch.cat([users[:, None].to(question.dtype), question], dim=1)


def _arrays(
    dataset: Dataset, language: LanguageModel, text: str | None, text_tokens: int
) -> dict[str, NDArray[Any]]:
    """What the prompts have of each item's text, made once for all trials.

    Returns:
        ``prefixes``, int32 ``[items, positions]``: the tokens up to the end of the text, padded on
        the left; ``lengths``, int32 ``[items]``: how many count; ``means``, float32 ``[items,
        width]``: the mean embedding of the text's tokens, zero without any.

    Raises:
        InputError: If the dataset has no text of this name.
    """
    chosen = next(iter(dataset.texts)) if text is None else text
    if chosen not in dataset.texts:
        known = ", ".join(dataset.texts)
        raise InputError(f"dataset {dataset.name!r} has no text {chosen!r}; it has {known}")
    texts = dataset.texts[chosen]

    def compute() -> dict[str, NDArray[Any]]:
        first, _, _ = language.literals()
        tokens = language.encode(texts.read(), text_tokens)
        lengths = np.array([len(first) + len(own) for own in tokens], dtype=np.int32)
        prefixes = np.zeros((len(tokens), lengths.max()), dtype=np.int32)
        table = language.table.detach().float().cpu()
        means = np.zeros((len(tokens), table.shape[1]), dtype=np.float32)
        for item, own in enumerate(tokens):
            prefixes[item, -lengths[item] :] = [*first, *own]
            if own:
                means[item] = table[own].mean(dim=0).numpy()
        return {"prefixes": prefixes, "lengths": lengths, "means": means}

    inputs = {
        "texts": texts.fingerprint,
        "language_model": language.fingerprint,
        "precision": str(language.table.dtype),
        "text_tokens": text_tokens,
        "version": 1,
    }
    return dataset.derived.get("prompts", inputs, compute)
