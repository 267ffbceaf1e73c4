"""Which items lack which modality, against the published masks and what each pattern promises."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mgstudy.config.factors import MissingModalities
from mgstudy.data.dataset import Dataset, Interactions
from mgstudy.data.missing import Masks, taken
from mgstudy.errors import InputError


def dataset(items: int = 24, modalities: tuple[str, ...] = ("image", "text")) -> Dataset:
    """Item i has as many training interactions as there are in ``items`` minus i, down to none."""
    users, popular = np.nonzero(np.arange(items)[:, None] < np.arange(items)[::-1][None])
    train = Interactions(users, popular)
    features = {modality: np.ones((items, 2), dtype=np.float32) for modality in modalities}
    return Dataset.from_arrays("d", items, items, train, train, train, features)


def draw(of: Dataset, pattern: str, **settings: Any) -> Masks:
    return taken(of, MissingModalities.model_validate({"pattern": pattern, **settings}))


def items(masks: Masks) -> dict[str, list[int]]:
    return {modality: np.flatnonzero(mask).tolist() for modality, mask in masks.items()}


def test_protected_masks_are_the_published_ones() -> None:
    """The vectors of section 1.1 of the specification of MoDiCF."""
    assert items(draw(dataset(), "protected", rate=0.4)) == {
        "image": [1, 2, 4, 5, 6, 8, 9, 19, 21, 22],
        "text": [3, 11, 12, 15, 16, 17, 18, 20, 23],
    }
    assert items(draw(dataset(), "protected", rate=0.2)) == {
        "image": [6, 8, 9, 19, 21],
        "text": [3, 16, 18, 23],
    }
    three = draw(dataset(modalities=("m0", "m1", "m2")), "protected", rate=0.4, seed=1)
    assert items(three) == {
        "m0": [4, 7, 11, 12, 20, 22],
        "m1": [1, 5, 8, 11, 13, 18, 19, 20, 21, 23],
        "m2": [1, 3, 4, 5, 6, 7, 8, 9, 14, 16, 19, 22],
    }
    assert np.logical_or.reduce(list(three.values())).sum() == 19


@pytest.mark.parametrize("pattern", ["protected", "groups", "independent"])
@pytest.mark.parametrize("stratify", [None, "popularity"])
def test_a_lower_rate_takes_a_part_of_what_a_higher_one_takes(pattern: str, stratify: Any) -> None:
    for seed in range(3):
        draws = [
            draw(dataset(60), pattern, rate=rate, seed=seed, stratify=stratify)
            for rate in (0.0, 0.1, 0.25, 0.45)
        ]
        assert not any(mask.any() for mask in draws[0].values())
        for less, more in itertools.pairwise(draws):
            assert sum(mask.sum() for mask in less.values()) < sum(m.sum() for m in more.values())
            for modality, mask in less.items():
                assert not (mask & ~more[modality]).any()


def test_protected_leaves_every_item_a_modality_that_it_had() -> None:
    has = dataset()
    lacking = np.arange(24) < 6
    gaps = replace(has, observed={"image": ~lacking})
    masks = draw(gaps, "protected", rate=0.3)
    left = np.stack([gaps.observed[name] & ~mask for name, mask in masks.items()])
    assert left.any(axis=0).all()
    assert sum(int(mask.sum()) for mask in masks.values()) == int(24 * 2 * 0.3)


def test_groups_take_sets_of_modalities_in_their_shares() -> None:
    image, text = draw(dataset(240), "groups", rate=2 / 3).values()
    assert [(image & ~text).sum(), (text & ~image).sum(), (image & text).sum()] == [40, 40, 80]
    named = draw(dataset(240), "groups", **{"image": 0.25, "image+text": 0.5})
    assert (named["image"].sum(), named["text"].sum()) == (180, 120)


def test_shares_hold_in_each_stratum_of_popularity() -> None:
    of = dataset(60)
    for pattern in ("protected", "groups", "independent"):
        masks = draw(of, pattern, rate=0.5, stratify="popularity")
        entries = sum(mask.astype(int) for mask in masks.values())
        # 18 popular items come first; protected and independent take half of two modalities'
        # entries, groups half of the items in three quarters of two entries.
        expected = 13.5 if pattern == "groups" else 18
        assert entries[:18].sum() == pytest.approx(expected, abs=1), pattern


def test_independent_shares_are_of_each_modality() -> None:
    masks = draw(dataset(50), "independent", image=0.3, seed=4)
    assert (masks["image"].sum(), masks["text"].sum()) == (15, 0)


@pytest.mark.parametrize(
    ("pattern", "settings", "said"),
    [
        ("protected", {"rate": 0.51}, "reaches a rate of 0.5 here, not 0.51"),
        ("groups", {"audio": 0.5}, "unknown modality 'audio'"),
        ("groups", {"image": 0.6, "both": 0.6}, "add up to 1.2"),
        ("independent", {"audio": 0.5}, "unknown modality 'audio'"),
        ("independent", {"rate": 1.0}, "no item is left with image"),
    ],
)
def test_what_a_pattern_cannot_take_is_refused(pattern: str, settings: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        draw(dataset(), pattern, **settings)


def test_which_items_lack_what_has_a_fingerprint_of_its_own() -> None:
    whole = dataset()
    assert whole.observed_fingerprint is None and not whole.incomplete.any()
    lacking = replace(whole, observed={"text": np.arange(24) != 3})
    assert lacking.observed["image"].all()
    assert np.flatnonzero(lacking.incomplete).tolist() == [3]
    other = replace(whole, observed={"image": np.arange(24) != 3})
    prints = {of.observed_fingerprint for of in (whole, lacking, other)}
    assert len(prints) == 3
    assert lacking.feature_fingerprints == whole.feature_fingerprints
