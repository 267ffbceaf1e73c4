"""Rank all items for many users at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mgstudy.data.dataset import Dataset, Interactions, as_tensor, distinct
from mgstudy.models.base import Scorer
from mgstudy.models.highest import GROUP, highest, members

NO_ITEM = -1
"""Fills the end of a list when a user has fewer candidates than the list is long."""

SCORES_IN_CACHE = 2**20
"""Scores (float32, 4 MiB) that a processor keeps near between scoring, masking and selecting."""
FEWEST_USERS = 16
"""Users that a processor ranks at once, however many items there are: each block reads the
representations of all items, which are in no cache where they are many. Of 200,000 items with 64
columns, a user takes 2.3 ms of a core in blocks of 5, 1.0 in blocks of 16, 0.9 in blocks of 32."""
SCORES_ON_DEVICE = 2**26
"""Scores that occupy an accelerator well without filling its memory."""

_NAN = "a score is NaN: the model's weights are no longer finite"


@dataclass(frozen=True)
class RankedBlock:
    """Users that are ranked at once.

    Attributes:
        users: int64, shape ``[users]``.
        excluded: What is left out, as positions in the users' scores of all items in a row, int64.
        others: Items that are left out for every user, int64; ``None`` for none.
    """

    users: Tensor
    excluded: Tensor
    others: Tensor | None = None


class FullRanking:
    """Ranks all items for any users, leaving out what they are known to have interacted with.

    Equal scores are ranked by item id, lowest first, on every device, so a ranking depends on the
    scores alone.

    Args:
        dataset: Gives the number of items and a place for what is computed once.
        excluded: Names of the splits whose interactions are left out of a user's ranking.
        device: Where the scores are.
        block_size: Users ranked at once; ``None`` chooses by the number of items.
        among: bool, shape ``[items]``: the items that are ranked, of which all excluded ones are;
            all items when not given.
    """

    def __init__(
        self,
        dataset: Dataset,
        excluded: Sequence[str] = ("train",),
        device: torch.device | str = "cpu",
        block_size: int | None = None,
        among: NDArray[np.bool_] | None = None,
    ) -> None:
        arrays = dataset.derived.get(
            "excluded_items",
            {"interactions": dataset.fingerprint, "excluded": list(excluded), "version": 1},
            lambda: _items_by_user([getattr(dataset, name) for name in excluded], dataset),
        )
        self.device = torch.device(device)
        self.item_count = dataset.item_count
        self._others = None
        self._ranked_items = dataset.item_count
        if among is not None:
            self._others = torch.from_numpy(np.flatnonzero(~among)).to(self.device)
            self._ranked_items -= len(self._others)
        self._starts = as_tensor(arrays["starts"]).to(self.device)
        self._items = as_tensor(arrays["items"]).to(self.device)
        on_processor = self.device.type == "cpu"
        at_once, fewest = (SCORES_IN_CACHE, FEWEST_USERS) if on_processor else (SCORES_ON_DEVICE, 1)
        self.block_size = block_size or max(fewest, at_once // max(1, dataset.item_count))

    def blocks(self, users: Tensor) -> list[RankedBlock]:
        """Users cut into blocks that are ranked at once, and what is left out of each: to be kept
        where the same users are ranked again.

        Args:
            users: int64, shape ``[users]``, on the ranking's device.
        """
        return [
            RankedBlock(block, self._excluded_positions(block), self._others)
            for block in torch.split(users, self.block_size)
        ]

    def candidates(self, users: Tensor) -> Tensor:
        """How many items are ranked for each of these users: int64, shape ``[users]``."""
        return self._ranked_items - (self._starts[users + 1] - self._starts[users])

    def lists(
        self, scorer: Scorer, users: Tensor | Sequence[RankedBlock], length: int
    ) -> Iterator[Tensor]:
        """Yield the ranked lists of one block of users after another.

        On a processor as many blocks are ranked at once as torch uses threads, each in one thread:
        that parts the work better than the steps of a block can be parted, and gives the same
        numbers for any number of threads.

        Args:
            scorer: Gives the scores; the tensor it returns is overwritten. It is called without
                gradients, on a processor from several threads at once.
            users: int64, shape ``[users]``, on the ranking's device; or their ``blocks``.
            length: Items in a list, if there are that many.

        Yields:
            Item ids, best first, int64 of shape ``[block, min(length, items)]``, ended by
            ``NO_ITEM`` where no candidate is left.

        Raises:
            FloatingPointError: If a score is NaN.
        """
        blocks = self.blocks(users) if isinstance(users, Tensor) else users
        if self.device.type != "cpu" or torch.get_num_threads() == 1:
            for block in blocks:
                yield _ranked(scorer, block, length)
            return
        with single_threads(at_most=len(blocks)) as threads:
            # Whatever acts on a model in this thread acts in the others.
            contexts = [copy_context() for _ in blocks]
            yield from threads.map(
                lambda context, block: context.run(_ranked, scorer, block, length), contexts, blocks
            )

    def _excluded_positions(self, users: Tensor) -> Tensor:
        """Positions in the flattened scores of ``users`` that are to be left out."""
        starts = self._starts[users]
        counts = self._starts[users + 1] - starts
        ends = counts.cumsum(0)
        rows = torch.repeat_interleave(counts)
        within_user = torch.arange(len(rows), device=self.device) - (ends - counts)[rows]
        return rows * self.item_count + self._items[starts[rows] + within_user]


@torch.no_grad()
def _ranked(scorer: Scorer, block: RankedBlock, length: int) -> Tensor:
    scores = scorer(block.users).contiguous()
    scores.view(-1).index_fill_(0, block.excluded, -torch.inf)
    if block.others is not None:
        scores.index_fill_(1, block.others, -torch.inf)
    return top_items(scores, length)


@contextmanager
def single_threads(at_most: int) -> Iterator[ThreadPoolExecutor]:
    """As many threads as torch would use for one operation, in each of which it uses one."""
    count = torch.get_num_threads()
    # A thread takes over the number that is set when it first computes.
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(max(1, min(count, at_most))) as threads:
            yield threads
    finally:
        torch.set_num_threads(count)


def top_items(scores: Tensor, length: int) -> Tensor:
    """The items with the highest scores of each row, best first; equal scores by lowest id.

    Args:
        scores: Shape ``[rows, items]``; ``-inf`` marks an item that is no candidate.
        length: Items wanted per row.

    Returns:
        int64, shape ``[rows, min(length, items)]``; ``NO_ITEM`` where no candidate is left.

    Raises:
        FloatingPointError: If a score is NaN.
    """
    length = min(length, scores.shape[1])
    on_processor = scores.device.type == "cpu" and scores.dtype == torch.float32
    items = (_top_by_partition if on_processor else _top_by_topk)(scores, length)
    return items.masked_fill_(scores.gather(1, items) == -torch.inf, NO_ITEM)


def _top_by_topk(scores: Tensor, length: int) -> Tensor:
    # One item more than wanted shows whether the end of the list cuts through equal scores.
    count = min(length + 1, scores.shape[1])
    values, items = highest(scores, count)
    items = items[:, :length]
    with_ties = (values[:, 1:] == values[:, :-1]).any(dim=1)
    # NaN counts as the highest score, so one that exists is in front. Asked at once: a GPU is
    # waited for.
    has_nan, has_ties = torch.stack([values[:, 0].isnan().any(), with_ties.any()]).tolist()
    if has_nan:
        raise FloatingPointError(_NAN)
    if has_ties:
        # Top-k leaves the order of equal scores open; a stable sort, slower, keeps that of the ids.
        tied = with_ties.nonzero()[:, 0]
        in_order = scores[tied].sort(dim=1, descending=True, stable=True).indices
        items[tied] = in_order[:, :length]
    return items


def _top_by_partition(scores: Tensor, length: int) -> Tensor:
    """For float32 on a processor, where NumPy's vectorised partition of integers takes a third of
    the time of top-k.

    Score and item make one integer that sorts by falling score and rising id, so that equal scores
    are in order by themselves.
    """
    # With one group more than items wanted, the last item beats ``lowest`` unless they are equal.
    found = _candidates(scores, length + 1)
    if found is None:
        _refuse_nan(scores)
        return _first(_sort_keys(scores, torch.arange(scores.shape[1])), length)
    candidates, lowest = found
    items = _first(_sort_keys(scores.gather(1, candidates), candidates), length)
    # No other item scores more than ``lowest``, but some may score as much as the last of the list.
    last = scores.gather(1, items[:, -1:])[:, 0]
    open_rows = ((last <= lowest) & (last > -torch.inf)).nonzero()[:, 0]
    if len(open_rows):
        everything = _sort_keys(scores[open_rows], torch.arange(scores.shape[1]))
        items[open_rows] = _first(everything, length)
    return items


def _first(keys: NDArray[np.int64], length: int) -> Tensor:
    """The items of the ``length`` lowest keys of each row, in order."""
    if length < keys.shape[1]:
        keys = np.partition(keys, length - 1, axis=1)[:, :length]
    keys.sort(axis=1)
    return torch.from_numpy(keys & _ITEM_BITS)


_ITEM_BITS = (1 << 32) - 1


def _sort_keys(scores: Tensor, items: Tensor) -> NDArray[np.int64]:
    """Integers that sort by falling score, equal ones by rising item."""
    # Adding zero makes -0.0 the 0.0 it is equal to.
    bits = (scores + 0.0).view(torch.int32)
    # As integers, negative floats fall where they should rise, unless their other bits are flipped.
    rising = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return ((~rising).long() << 32).bitwise_or_(items).numpy()


def _candidates(scores: Tensor, count: int) -> tuple[Tensor, Tensor] | None:
    """Items of each row among which its ``count`` highest scores are, found as ``highest`` finds
    them.

    Returns:
        The candidates, int64, shape ``[rows, candidates]``, and per row a score that no other item
        exceeds; ``None`` where there are too few items for it.
    """
    rows, columns = scores.shape
    groups = columns // GROUP
    if groups < 2 * count:
        return None
    maxima = scores[:, : groups * GROUP].view(rows, GROUP, groups).amax(dim=1)
    order = np.argpartition(maxima.numpy(), groups - count, axis=1)
    best_groups = torch.from_numpy(order[:, groups - count :])
    best = maxima.gather(1, best_groups)
    # NaN counts as the highest in a partition, too.
    _refuse_nan(best)
    _refuse_nan(scores[:, groups * GROUP :])
    # The partition puts the lowest of the best in front.
    return members(best_groups, groups, columns), best[:, 0]


def _refuse_nan(scores: Tensor) -> None:
    if scores.isnan().any():
        raise FloatingPointError(_NAN)


def _items_by_user(splits: Sequence[Interactions], dataset: Dataset) -> dict[str, np.ndarray]:
    """Distinct items by user: ``items[starts[u] : starts[u + 1]]`` are those of user ``u``."""
    keys = distinct(
        np.concatenate([split.users * dataset.item_count + split.items for split in splits])
    )
    starts = np.searchsorted(keys, np.arange(dataset.user_count + 1) * dataset.item_count)
    return {"starts": starts.astype(np.int64), "items": keys % dataset.item_count}
