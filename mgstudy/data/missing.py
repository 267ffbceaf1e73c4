"""Which items lack which modality: taken away on purpose, in patterns that follow from a seed."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mgstudy.config.factors import MissingModalities
from mgstudy.data.dataset import Dataset
from mgstudy.errors import InputError, suggestion

Masks = dict[str, NDArray[np.bool_]]
"""Modality to bool ``[items]``."""

POPULAR = 0.3
"""Share of the items that are popular, as the published strata have it."""
_ALL = ("all", "both")
"""What a study file calls the set of all modalities."""
_EACH_AND_BOTH = (0.25, 0.25, 0.5)
"""The published parts of a rate under ``groups``: each modality alone, and both."""


def taken(dataset: Dataset, missing: MissingModalities) -> Masks:
    """Draw what is taken away of a dataset, besides what its items lack already.

    The draw follows from the seed, the items' number and what they lack: it is the same for every
    model, and with the same seed a lower rate takes a part of what a higher one takes.

    * ``protected`` (MoDiCF, WWW 2025): each item keeps one modality, drawn uniformly. Of the other
      entries, in random order, the first ⌊rate · items · modalities⌋ are taken. With two
      modalities, twice the rate of the items become incomplete, and no rate is above 0.5.
    * ``groups`` (DGMRec, arXiv 2504.16352): the rate is the share of incomplete items, of which a
      quarter lacks the one modality, a quarter the other and half both; or the share of each set
      of modalities is given.
    * ``independent``: a share of the items, drawn for each modality by itself.

    An entry that an item lacked before is never taken; ``protected`` keeps another in its place.
    With ``stratify: popularity`` the shares hold among the 30 % of items with the most training
    interactions, among the others, and among those without any.

    Returns:
        Modality to whether each item loses it.

    Raises:
        InputError: If the pattern cannot reach the rate, a modality does not exist, or no item
            would be left with one.
    """
    modalities = list(dataset.features)
    if not modalities:
        raise InputError(f"dataset {dataset.name!r} has no features that items could lack")
    strata = _strata(dataset) if missing.stratify else np.zeros(dataset.item_count, dtype=np.int64)
    if missing.pattern == "protected":
        masks = _protected(dataset, missing, strata)
    elif missing.pattern == "groups":
        masks = _groups(dataset, missing, strata)
    else:
        masks = _independent(dataset, missing, strata)
    for modality in modalities:
        masks[modality] &= dataset.observed[modality]
        if not (dataset.observed[modality] & ~masks[modality]).any():
            raise InputError(f"no item is left with {modality}; take away less of it")
    return masks


def _strata(dataset: Dataset) -> NDArray[np.int64]:
    """0 for a popular item, 1 for another, 2 for one without training interactions."""
    counts = dataset.train_counts
    strata = np.where(counts > 0, 1, 2)
    by_popularity = np.argsort(-counts, kind="stable")
    strata[by_popularity[: round(POPULAR * dataset.item_count)]] = 0
    return np.where(counts > 0, strata, 2)


def _within(
    order: NDArray[np.int64], strata: NDArray[np.int64]
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """The items (or entries) of each stratum in a random order, with the stratum's number."""
    for stratum in np.unique(strata[order]):
        yield int(stratum), order[strata[order] == stratum]


def _protected(dataset: Dataset, missing: MissingModalities, strata: NDArray[np.int64]) -> Masks:
    modalities, items = list(dataset.features), dataset.item_count
    observed = np.stack([dataset.observed[modality] for modality in modalities])
    rate = missing.rate or 0.0
    # The legacy generator in the published order of draws, so that the masks are the published.
    random = np.random.RandomState(missing.seed)
    kept = random.randint(len(modalities), size=items)
    for _ in modalities:  # Where that one is lacking, the next one that is not.
        lacking = ~observed[kept, np.arange(items)] & observed.any(axis=0)
        kept = np.where(lacking, (kept + 1) % len(modalities), kept)
    candidates = np.flatnonzero(
        ((np.arange(len(modalities))[:, None] != kept) & observed).reshape(-1)
    )
    order = candidates[random.permutation(len(candidates))]
    flat = np.zeros(observed.size, dtype=np.bool_)
    for stratum, entries in _within(order, np.tile(strata, len(modalities))):
        among = items if not missing.stratify else int((strata == stratum).sum())
        count = int(among * len(modalities) * rate)
        if count > len(entries) or rate > 1 - 1 / len(modalities):
            most = len(candidates) / observed.size
            raise InputError(
                f"`protected` leaves every item a modality and reaches a rate of {most:.4g} here, "
                f"not {rate:g}"
            )
        flat[entries[:count]] = True
    if rate and not len(candidates):
        raise InputError("`protected` leaves every item a modality, and none has two")
    return dict(zip(modalities, flat.reshape(observed.shape), strict=True))


def _groups(dataset: Dataset, missing: MissingModalities, strata: NDArray[np.int64]) -> Masks:
    modalities, items = list(dataset.features), dataset.item_count
    shares = _shares_of_sets(modalities, missing)
    rate = sum(shares.values())
    masks = {modality: np.zeros(items, dtype=np.bool_) for modality in modalities}
    order = _generator(missing.seed, "groups").permutation(items)
    for _, among in _within(order, strata):
        counts = dict.fromkeys(shares, 0)
        for position, item in enumerate(among[: round(rate * len(among))], start=1):
            # The set that is furthest behind its share, so that every beginning has the shares.
            chosen = max(shares, key=lambda of: shares[of] / rate * position - counts[of])
            counts[chosen] += 1
            for modality in chosen:
                masks[modality][item] = True
    return masks


def _shares_of_sets(
    modalities: Sequence[str], missing: MissingModalities
) -> dict[tuple[str, ...], float]:
    """Sets of modalities to the share of items that lack exactly these."""
    if missing.rate is not None:
        if len(modalities) != 2:
            raise InputError(
                "`groups` with a `rate` is for two modalities; give the share of each set, such as "
                f"`{modalities[0]}: 0.1` and `{'+'.join(modalities[:2])}: 0.2`"
            )
        first, second = modalities
        sets: list[tuple[str, ...]] = [(first,), (second,), (first, second)]
        return {of: missing.rate * part for of, part in zip(sets, _EACH_AND_BOTH, strict=True)}
    shares: dict[tuple[str, ...], float] = {}
    for name, share in missing.shares.items():
        chosen = tuple(modalities) if name in _ALL else tuple(name.split("+"))
        for modality in chosen:
            _require_modality(modality, modalities)
        shares[chosen] = share
    if sum(shares.values()) > 1:
        raise InputError(f"the shares of the sets add up to {sum(shares.values()):g}, above 1")
    return shares


def _independent(dataset: Dataset, missing: MissingModalities, strata: NDArray[np.int64]) -> Masks:
    for name in missing.shares:
        _require_modality(name, list(dataset.features))
    masks = {}
    for modality, observed in dataset.observed.items():
        share = missing.shares.get(modality, 0.0) if missing.rate is None else missing.rate
        order = _generator(missing.seed, modality).permutation(dataset.item_count)
        # Those that lack it already come last: a share is of what is taken now.
        order = np.concatenate([order[observed[order]], order[~observed[order]]])
        masks[modality] = np.zeros(dataset.item_count, dtype=np.bool_)
        for _, among in _within(order, strata):
            masks[modality][among[: round(share * len(among))]] = True
    return masks


def _require_modality(name: str, modalities: Sequence[str]) -> None:
    if name not in modalities:
        raise InputError(f"unknown modality {name!r}; {suggestion(name, modalities)}")


def _generator(seed: int, purpose: str) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(purpose.encode())])


def observed_after(dataset: Dataset, masks: Mapping[str, NDArray[np.bool_]]) -> Masks:
    """Which items have which modality once what the masks say is taken."""
    return {name: observed & ~masks[name] for name, observed in dataset.observed.items()}
