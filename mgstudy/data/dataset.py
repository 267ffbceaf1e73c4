"""The dataset a model is trained on: interactions in three splits, and item feature tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mgstudy.data.derived import DerivedArrays
from mgstudy.fingerprint import fingerprint, fingerprint_arrays

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Interactions:
    """User and item of each interaction of one split, in file order.

    Attributes:
        users: int64, shape ``[interactions]``.
        items: int64, shape ``[interactions]``.
        times: int64, shape ``[interactions]``, seconds since 1970; ``None`` where it is not known
            when they happened. ``mgstudy.data.histories`` orders them.
        ratings: float64, shape ``[interactions]``; ``None`` where there are none.
    """

    users: NDArray[np.int64]
    items: NDArray[np.int64]
    times: NDArray[np.int64] | None = None
    ratings: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.users)

    def where(self, mask: NDArray[np.bool_]) -> Interactions:
        """Those for which ``mask``, of shape ``[interactions]``, is true."""
        return Interactions(**{name: column[mask] for name, column in self.columns().items()})

    def pairs(self) -> Interactions:
        """Users and items alone."""
        return Interactions(self.users, self.items)

    def columns(self) -> dict[str, NDArray[Any]]:
        """Those arrays that there are, by name."""
        return {name: column for name, column in vars(self).items() if column is not None}


@dataclass(frozen=True)
class ItemTexts:
    """A text of every item, which is read when it is asked for: trials do not carry it.

    Attributes:
        fingerprint: Of the texts.
        read: Gives them, by item id.
    """

    fingerprint: str
    read: Callable[[], Sequence[str]]


@dataclass(frozen=True)
class Dataset:
    """Everything a trial reads; its arrays may be read-only and shared between processes.

    Attributes:
        name: The name it was prepared under.
        user_count: Users, with ids ``0 .. user_count - 1``, over all splits.
        item_count: Items, with ids ``0 .. item_count - 1``, over all splits.
        train: Interactions to learn from.
        validation: Interactions that select epochs and hyper-parameters.
        test: Interactions that only a confirmed configuration is scored on.
        features: Modality to a float32 table of shape ``[item_count, width]``, row = item id.
        fingerprint: Of the interactions and counts.
        feature_fingerprints: Modality to its table's fingerprint. A changed table has another one,
            so that nothing computed from the old table is ever used with the new.
        derived: Where arrays that follow from the data alone are kept.
        observed: Modality to bool ``[item_count]``: whether the item has it. What stands in the
            rows of the others was filled in. All true for a modality that is not given.
        texts: Name to a text of every item.
        domains: The names of the domains; empty where all items are of one kind.
        item_domains: Each item's domain as a position in ``domains``, int8 ``[item_count]``;
            ``None`` without domains.
    """

    name: str
    user_count: int
    item_count: int
    train: Interactions
    validation: Interactions
    test: Interactions
    features: Mapping[str, NDArray[np.float32]]
    fingerprint: str
    feature_fingerprints: Mapping[str, str]
    derived: DerivedArrays = field(default_factory=DerivedArrays, compare=False)
    observed: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    texts: Mapping[str, ItemTexts] = field(default_factory=dict, compare=False)
    domains: tuple[str, ...] = ()
    item_domains: NDArray[np.int8] | None = None

    def __repr__(self) -> str:
        """Name, counts and modalities: the arrays are too long to be looked at."""
        splits = ((name, getattr(self, name)) for name in ("train", "validation", "test"))
        held = ", ".join(f"{len(split):,} {name}" for name, split in splits)
        modalities = ", ".join(f"{name} {table.shape[1]}" for name, table in self.features.items())
        return (
            f"Dataset {self.name}: {self.user_count:,} users, {self.item_count:,} items; {held}; "
            f"{modalities or 'no features'}"
        )

    def __post_init__(self) -> None:
        everything = np.ones(self.item_count, dtype=np.bool_)
        known = dict.fromkeys(self.features, everything)
        object.__setattr__(self, "observed", {**known, **self.observed})

    @cached_property
    def incomplete(self) -> NDArray[np.bool_]:
        """Whether each item lacks some modality, shape ``[item_count]``."""
        lacking = np.zeros(self.item_count, dtype=np.bool_)
        for observed in self.observed.values():
            lacking |= ~observed
        return lacking

    @cached_property
    def train_counts(self) -> NDArray[np.int64]:
        """Training interactions of each item, shape ``[item_count]``."""
        return np.bincount(self.train.items, minlength=self.item_count)

    @cached_property
    def trained_in(self) -> NDArray[np.bool_]:
        """Whether each user has training interactions in each domain, ``[user_count, domains]``."""
        trained = np.zeros((self.user_count, len(self.domains)), dtype=np.bool_)
        if self.item_domains is not None:
            trained[self.train.users, self.item_domains[self.train.items]] = True
        return trained

    def in_domain(self, name: str) -> NDArray[np.bool_]:
        """Whether each item is of a domain, shape ``[item_count]``."""
        assert self.item_domains is not None
        return np.asarray(self.item_domains == self.domains.index(name))

    def of_domain(self, name: str) -> Dataset:
        """The interactions with one domain's items alone, under the same ids and counts."""
        within = self.in_domain(name)
        return replace(
            self,
            name=f"{self.name} ({name})",
            fingerprint=f"{self.fingerprint}-{name}",
            domains=(),
            item_domains=None,
            **{
                split: getattr(self, split).where(within[getattr(self, split).items])
                for split in ("train", "validation", "test")
            },
        )

    @cached_property
    def observed_fingerprint(self) -> str | None:
        """Of which items lack which modality; ``None`` where none lacks any."""
        return fingerprint_arrays(dict(self.observed)) if self.incomplete.any() else None

    def pairs_only(self) -> Dataset:
        """The same without times and ratings, for models that read neither: a trial then holds half
        as many bytes of interactions. The fingerprints stay."""
        return replace(
            self,
            train=self.train.pairs(),
            validation=self.validation.pairs(),
            test=self.test.pairs(),
        )

    @classmethod
    def from_arrays(
        cls,
        name: str,
        user_count: int,
        item_count: int,
        train: Interactions,
        validation: Interactions,
        test: Interactions,
        features: Mapping[str, NDArray[np.float32]],
        domains: tuple[str, ...] = (),
        item_domains: NDArray[np.int8] | None = None,
    ) -> Dataset:
        """Build a dataset in memory and fingerprint its content."""
        arrays: dict[str, NDArray[Any]] = {"counts": np.array([user_count, item_count])}
        for split_name, split in (("train", train), ("validation", validation), ("test", test)):
            for column, values in split.columns().items():
                arrays[f"{split_name}.{column}"] = values
        if item_domains is not None:
            arrays["item_domains"] = item_domains
        key = fingerprint_arrays(arrays)
        made = cls(name, user_count, item_count, train, validation, test, {}, key, {})
        made = replace(made, domains=domains, item_domains=item_domains)
        return made.with_features(features)

    def with_features(self, features: Mapping[str, NDArray[np.float32]]) -> Dataset:
        """The same interactions with other feature tables, fingerprinted anew."""
        return replace(
            self,
            features=dict(features),
            feature_fingerprints={
                modality: fingerprint_arrays({modality: table})
                for modality, table in features.items()
            },
        )

    def with_texts(self, texts: Mapping[str, Sequence[str]]) -> Dataset:
        """The same dataset with these texts of its items, held in memory."""
        held = {
            name: ItemTexts(fingerprint({"texts": list(of_items)}), partial(tuple, of_items))
            for name, of_items in texts.items()
        }
        return replace(self, texts=held)


def distinct(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """The distinct values, ascending, of keys that hardly repeat, such as those of pairs.

    ``np.unique`` looks them up in a hash table, which takes 15 times as long as sorting two
    million, and more where there are more.
    """
    in_order = np.sort(keys)
    first = np.ones(len(keys), dtype=np.bool_)
    np.not_equal(in_order[1:], in_order[:-1], out=first[1:])
    return in_order[first]


def distinct_count(ids: NDArray[np.int64]) -> int:
    """How many different ids there are among dense ones, such as those of users or items."""
    return int(np.count_nonzero(np.bincount(ids)))


def as_tensor(array: NDArray[Any]) -> Tensor:
    """Hand an array, which may be read-only and shared between processes, to torch without a copy.

    The result must never be written to: ``torch.from_numpy`` warns of exactly that, and DLPack,
    used here, leaves it to the caller.
    """
    # Loaded where something is trained, so that preparing and describing data takes no second.
    from torch.utils.dlpack import from_dlpack  # noqa: PLC0415

    return from_dlpack(np.ascontiguousarray(array))
