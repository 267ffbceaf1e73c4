"""Every installed risk is held to what a risk owes, and each to what it says of itself."""

from __future__ import annotations

import numpy as np
import pytest

from mgstudy.data.dataset import Dataset
from mgstudy.errors import InputError, UnknownNameError
from mgstudy.robustness.risks.base import affected_items, make_risk, risks, spread
from mgstudy.testing import RiskContract

for risk in risks:
    name = f"Test{risk.__name__}"
    globals()[name] = type(name, (RiskContract,), {"risk": risk})


def test_wrong_settings_are_refused_in_one_line(small_dataset: Dataset) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown risk 'gausian_noise'; did you mean"):
        make_risk("gausian_noise")
    with pytest.raises(InputError, match=r"risk swap: severities\.1: .*less than or equal to 1"):
        make_risk("swap", {"severities": [0.5, 1.5]})
    with pytest.raises(InputError, match=r"risk pgd: steps"):
        make_risk("pgd", {"steps": 0})
    with pytest.raises(InputError, match=r"unknown modality 'txt'; did you mean 'text'"):
        make_risk("swap", {"modalities": ["txt"]}).tables(small_dataset, 0.5, seed=0)


def test_a_lower_share_comes_first_in_a_higher_one() -> None:
    few = affected_items(100, 0.1, np.random.default_rng(5))
    many = affected_items(100, 0.7, np.random.default_rng(5))
    assert (len(few), len(many), len(set(many.tolist()))) == (10, 70, 70)
    np.testing.assert_array_equal(few, many[:10])


def test_gaussian_noise_has_the_spread_it_says(small_dataset: Dataset) -> None:
    tables = make_risk("gaussian_noise").tables(small_dataset, 0.5, seed=0)
    for modality, table in small_dataset.features.items():
        noise = tables[modality] - table
        assert noise.std() == pytest.approx(0.5 * spread(table), rel=0.12)  # 240 numbers


def test_a_popular_item_is_mixed_in(small_dataset: Dataset) -> None:
    risk = make_risk("item_mixing", {"item_share": 1.0, "popular_items": 1})
    tables = risk.tables(small_dataset, 0.25, seed=0)
    most_popular = np.bincount(small_dataset.train.items, minlength=40).argmax()
    for modality, table in small_dataset.features.items():
        expected = 0.75 * table + 0.25 * table[most_popular]
        np.testing.assert_allclose(tables[modality], expected, rtol=1e-6)


def test_swapped_tables_hold_the_same_rows(small_dataset: Dataset) -> None:
    tables = make_risk("swap").tables(small_dataset, 0.5, seed=0)
    moved = {}
    for modality, table in small_dataset.features.items():
        moved[modality] = (tables[modality] != table).any(axis=1)
        assert moved[modality].sum() == 20
        assert sorted(map(tuple, tables[modality])) == sorted(map(tuple, table))
    assert not np.array_equal(moved["image"], moved["text"])


def test_a_stale_item_has_all_features_of_one_other_item(small_dataset: Dataset) -> None:
    tables = make_risk("stale").tables(small_dataset, 0.5, seed=0)
    joined = np.hstack([tables["image"], tables["text"]])
    before = np.hstack([small_dataset.features["image"], small_dataset.features["text"]])
    donors = [int(np.flatnonzero((before == row).all(axis=1))[0]) for row in joined]
    assert sum(donor != item for item, donor in enumerate(donors)) == 20


@pytest.mark.parametrize("replacement", ["mean", "zero"])
def test_a_missing_modality_is_replaced(replacement: str, small_dataset: Dataset) -> None:
    risk = make_risk("missing_modality", {"replacement": replacement, "modalities": ["image"]})
    table = risk.tables(small_dataset, 1.0, seed=0)["image"]
    mean = small_dataset.features["image"].mean(axis=0)
    expected = np.broadcast_to(mean if replacement == "mean" else np.zeros(6), (40, 6))
    np.testing.assert_allclose(table, expected, rtol=1e-5, atol=1e-7)
