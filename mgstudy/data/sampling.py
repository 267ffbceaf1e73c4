"""Training pairs in random order, each with a sampled negative item."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mgstudy.data.dataset import Dataset, distinct
from mgstudy.errors import InputError

PairBatch: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64] | None]
"""Users, positive items and negative items, each of shape ``[rows]``."""


class NegativeSampler:
    """Draws items that a user has no training interaction with.

    A negative is uniform over the items that occur in training, less the user's own training items
    (as published; validation and test items can be drawn). Instead of redrawing until that holds,
    it draws the rank of the negative among the user's allowed items, and looks up the item of that
    rank: the same distribution, at nearly the same cost for every user.

    In a dataset with domains, all this is within the domain of the positive: telling domains apart
    is no task.

    Args:
        dataset: Whose ``train`` split says what is a candidate and what is not.

    Raises:
        InputError: If a user interacted with every item that occurs in training.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._item_domains = dataset.item_domains
        self._of_domains = [NegativeSampler(dataset.of_domain(name)) for name in dataset.domains]
        if self._of_domains:
            return
        arrays = dataset.derived.get(
            "negative_sampling",
            {"interactions": dataset.fingerprint, "version": 2},
            lambda: _allowed_items(dataset),
        )
        self._candidates = arrays["candidates"]
        self._starts = arrays["starts"]
        self._keys, self._through = arrays["keys"], arrays["through"]
        self._widths, self._buckets = arrays["widths"], arrays["buckets"]
        self._firsts = arrays["firsts"]
        self._allowed_counts = len(self._candidates) - np.diff(self._starts)
        if not self._allowed_counts.all():
            user = int(np.argmin(self._allowed_counts))
            raise InputError(
                f"dataset {dataset.name!r}: user {user} interacted with every item that occurs in "
                "training, so there is no negative item to sample"
            )

    def sample(
        self,
        users: NDArray[np.int64],
        generator: np.random.Generator,
        positives: NDArray[np.int64] | None = None,
    ) -> NDArray[np.int64]:
        """Draw one negative item for each row.

        Args:
            users: User of each row, shape ``[rows]``.
            generator: Source of randomness.
            positives: The positive of each row, which a dataset with domains needs.

        Returns:
            Item of each row, int64, shape ``[rows]``.
        """
        if self._item_domains is not None:
            assert positives is not None
            domains, drawn = self._item_domains[positives], np.empty_like(users)
            for domain, sampler in enumerate(self._of_domains):
                rows = np.flatnonzero(domains == domain)
                drawn[rows] = sampler.sample(users[rows], generator)
            return drawn
        ranks = generator.integers(self._allowed_counts[users])
        keys = users * len(self._candidates) + ranks
        # A key lies a few steps behind the first of its bucket: all 59,541 of TikTok in 1.1 ms. A
        # binary search, whose steps miss the cache, takes 8.
        position = self._firsts[self._buckets[users] + (ranks >> self._widths[users])]
        behind = np.flatnonzero(self._keys[position] <= keys)
        while len(behind):
            position[behind] += 1
            behind = behind[self._keys[position[behind]] <= keys[behind]]
        own_before = self._through[position] - self._starts[users]
        negatives: NDArray[np.int64] = self._candidates[ranks + own_before]
        return negatives


def epoch_batches(
    dataset: Dataset,
    batch_size: int,
    generator: np.random.Generator,
    sampler: NegativeSampler | None = None,
) -> Iterator[PairBatch]:
    """Yield the training interactions of one epoch in random order, the short last batch included.

    Args:
        dataset: Whose ``train`` split to read.
        batch_size: Rows in every batch but the last.
        generator: Source of randomness.
        sampler: Draws the negatives, anew each epoch; ``None`` for pairs only.
    """
    users, positives, negatives = drawn_epoch(dataset, generator, sampler)
    for start in range(0, len(users), batch_size):
        rows = slice(start, start + batch_size)
        yield users[rows], positives[rows], None if negatives is None else negatives[rows]


def drawn_epoch(
    dataset: Dataset, generator: np.random.Generator, sampler: NegativeSampler | None
) -> PairBatch:
    """All training interactions in random order; see ``epoch_batches``."""
    order = generator.permutation(len(dataset.train))
    users, positives = dataset.train.users[order], dataset.train.items[order]
    if sampler is None:
        return users, positives, None
    return users, positives, sampler.sample(users, generator, positives)


class EpochSampler:
    """The pairs of one epoch after another, as ``epoch_batches`` draws them from a seed.

    They depend on data and seed alone, so what one training has drawn, the next of the same process
    finds: all trials of a cell have the same data and seed.

    Args:
        dataset: Whose ``train`` split to read.
        seed: Of order and negatives.
        negatives: Whether negatives are drawn.

    Raises:
        InputError: If a user interacted with every item that occurs in training.
    """

    def __init__(self, dataset: Dataset, seed: int, negatives: bool) -> None:
        self._dataset = dataset
        self._generator = np.random.default_rng(seed)
        self._sampler = NegativeSampler(dataset) if negatives else None

    @property
    def state(self) -> Mapping[str, Any]:
        """What the next epochs are drawn from, as plain values."""
        return self._generator.bit_generator.state

    @state.setter
    def state(self, state: Mapping[str, Any]) -> None:
        self._generator.bit_generator.state = state

    def next_epoch(self) -> NDArray[np.int32]:
        """Users, positives and, if they are drawn, negatives of an epoch, shape ``[2 or 3, rows]``.
        They are shared and must not be written to."""
        state = self.state
        stream = (self._dataset.fingerprint, self._sampler is None, state["state"]["inc"])
        found = _drawn.get(stream, state)
        if found is None:
            columns = drawn_epoch(self._dataset, self._generator, self._sampler)
            pairs = np.stack(
                [c for c in columns if c is not None], dtype=np.int32, casting="same_kind"
            )
            pairs.flags.writeable = False
            _drawn.put(stream, state, pairs, self.state)
            return pairs
        pairs, self.state = found
        return pairs


class _Drawn:
    """Epochs that were drawn in this process, by the stream of random numbers that they come from
    and its state before them.

    Trainings go through a stream from its start, so of one that is too long the first epochs are
    kept; another stream's go when there is no room, the one that was used longest ago first.

    Args:
        limit: Bytes of pairs that are kept at most.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._streams: dict[Hashable, dict[str, tuple[NDArray[np.int32], Mapping[str, Any]]]] = {}

    def get(
        self, stream: Hashable, state: Mapping[str, Any]
    ) -> tuple[NDArray[np.int32], Mapping[str, Any]] | None:
        """An epoch and the state after it; ``None`` where it is not known."""
        epochs = self._streams.pop(stream, None)
        if epochs is None:
            return None
        self._streams[stream] = epochs  # Now the one that was used last.
        return epochs.get(str(state))

    def put(
        self,
        stream: Hashable,
        before: Mapping[str, Any],
        pairs: NDArray[np.int32],
        after: Mapping[str, Any],
    ) -> None:
        """Keep an epoch, if there is room."""
        epochs = self._streams.setdefault(stream, {})
        while self._size() + pairs.nbytes > self.limit:
            oldest = next(iter(self._streams))
            if oldest == stream:
                return
            del self._streams[oldest]
        epochs[str(before)] = (pairs, after)

    def _size(self) -> int:
        return sum(pairs.nbytes for known in self._streams.values() for pairs, _ in known.values())


_drawn = _Drawn(limit=2**26)


def _allowed_items(dataset: Dataset) -> dict[str, NDArray[Any]]:
    """What maps a rank among a user's allowed items to the item.

    Let a user's own items have the positions ``c_0 < c_1 < ...`` among the candidates. Before
    ``c_j`` lie ``c_j - j`` allowed candidates, so the allowed candidate of rank r comes after all
    own items with ``c_j - j <= r``; their number is what r has to be shifted by.

    Returns:
        ``candidates``: All items that occur. ``starts``: Where the own items of each user begin, if
        those of all users lie in a row. ``keys``: The distinct ``c_j - j``, ascending, a user's
        shifted by the user times the number of candidates; then a last one that nothing exceeds.
        ``through``: How many own items lie before each key. For a quick search, a user's ranks are
        cut into buckets of ``2 ** widths``, about as many as the user has keys: ``buckets`` says
        where a user's begin, and ``firsts`` which key is the first in each or behind it.
    """
    occurs = dataset.train_counts > 0
    candidates, positions = np.flatnonzero(occurs), np.cumsum(occurs) - 1
    own = distinct(dataset.train.users * len(candidates) + positions[dataset.train.items])
    users = own // max(1, len(candidates))
    counts = np.bincount(users, minlength=dataset.user_count)
    starts = np.concatenate([[0], np.cumsum(counts)])
    size = len(candidates)
    keys, through = np.unique(own - (np.arange(len(own)) - starts[users]), return_index=True)
    key_counts = np.bincount(keys // max(1, size), minlength=len(counts))
    ranks_per_key = (size - counts) // np.maximum(1, key_counts)
    widths = np.log2(np.maximum(1, ranks_per_key)).astype(np.int64)
    of_user = (size >> widths) + 1
    buckets = np.concatenate([[0], np.cumsum(of_user)])
    owners = np.repeat(np.arange(len(counts)), of_user)
    ranks = (np.arange(len(owners)) - buckets[owners]) << widths[owners]
    return {
        "candidates": candidates,
        "starts": starts,
        "keys": np.append(keys, np.iinfo(np.int64).max),
        "through": np.append(through, len(own)),
        "widths": widths,
        "buckets": buckets,
        "firsts": np.searchsorted(keys, owners * size + ranks),
    }
