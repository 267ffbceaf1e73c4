"""Ranking in two stages: a dot product chooses candidates, and something dearer ranks those."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mgstudy.data.dataset import Dataset
from mgstudy.models.base import Scorer
from mgstudy.models.user_histories import UserHistories

_USERS_AT_ONCE = 256


def held_out_users(dataset: Dataset) -> NDArray[np.int64]:
    """The users with something held out, ascending."""
    return np.union1d(dataset.validation.users, dataset.test.users).astype(np.int64)


class TwoStages:
    """Scores of all items with the weights of a moment.

    Args:
        dataset: Whose users and items these are.
        histories: Of its users.
        users: What the first stage multiplies, of all users, ``[users, width]``.
        items: And of all items, ``[items, width]``.
        answers: The second stage: from users and items, int64 ``[pairs]``, to ``[pairs]``.
    """

    def __init__(
        self,
        dataset: Dataset,
        histories: UserHistories,
        users: Tensor,
        items: Tensor,
        answers: Callable[[Tensor, Tensor], Tensor],
    ) -> None:
        self.dataset, self.histories, self.users = dataset, histories, users
        self.items_transposed = items.t().contiguous()
        self.answers = answers

    def first_stage(self, users: Tensor) -> Tensor:
        """Ranks by the first stage alone."""
        return self.users[users] @ self.items_transposed

    def second_stage(self, users: Tensor) -> Tensor:
        """Ranks every item by the second stage."""
        count = self.items_transposed.shape[1]
        items = torch.arange(count, device=users.device).repeat(len(users))
        return self.answers(users.repeat_interleave(count), items).view(len(users), count)

    def after_candidates(self, count: int) -> Scorer:
        """Ranks each user's candidates before all other items. Who has something held out is asked
        about at once, so that each item's part of the prompts is read as seldom as may be."""
        expected = torch.from_numpy(held_out_users(self.dataset)).to(self.users.device)
        rows = torch.full((self.dataset.user_count,), -1, device=self.users.device)
        rows[expected] = torch.arange(len(expected), device=self.users.device)
        candidates = torch.cat(
            [self._candidates(block, count) for block in torch.split(expected, _USERS_AT_ONCE)]
        )
        answers = self._of_candidates(expected, candidates)

        def score(users: Tensor) -> Tensor:
            stage = self.first_stage(users)
            found = rows[users]
            if (found < 0).any():
                items = self._candidates(users, count)
                liked = self._of_candidates(users, items)
            else:
                items, liked = candidates[found], answers[found]
            low = stage.scatter(1, items, torch.inf).amin(dim=1, keepdim=True)
            high = stage.scatter(1, items, -torch.inf).amax(dim=1, keepdim=True)
            scores = 0.999 * (stage - low) / (high - low).clamp(min=1e-12)
            least, most = liked.amin(dim=1, keepdim=True), liked.amax(dim=1, keepdim=True)
            return scores.scatter(1, items, 1.0 + (liked - least) / (most - least).clamp(min=1e-12))

        return score

    def _candidates(self, users: Tensor, count: int) -> Tensor:
        """The items of the highest first-stage scores that the user was not trained on, ties to
        the lower id, shape ``[users, candidates]``."""
        scores, histories = self.first_stage(users), self.histories
        places, there = histories.latest(users, histories.longest)
        row = torch.arange(len(users), device=users.device)[:, None].expand_as(places)
        scores[row[there], histories.items[places[there]]] = -torch.inf
        return scores.sort(dim=1, descending=True, stable=True).indices[:, :count]

    def _of_candidates(self, users: Tensor, candidates: Tensor) -> Tensor:
        pairs = users.repeat_interleave(candidates.shape[1])
        return self.answers(pairs, candidates.flatten()).view(candidates.shape)
