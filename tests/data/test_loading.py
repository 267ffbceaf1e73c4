import shutil

import numpy as np
import pytest

from mgstudy.data.loading import load_dataset
from mgstudy.data.prepare import prepare
from mgstudy.errors import InputError
from mgstudy.workspace import Workspace


@pytest.fixture
def manifest(raw, workspace):
    return prepare(raw.pipeline(), workspace)


def table_file(workspace, manifest, name: str):
    table = manifest.interactions if name == "interactions" else manifest.features[name]
    return workspace.tables / f"{table.key}.parquet"


def test_what_was_prepared_is_loaded(raw, workspace, manifest) -> None:
    dataset = load_dataset(workspace, "toy")
    kept = [row for row in raw.rows if row[0] != 3]
    for label, split in enumerate((dataset.train, dataset.validation, dataset.test)):
        assert list(zip(split.users, split.items, strict=True)) == [
            row[:2] for row in kept if row[2] == label
        ]
    assert (dataset.user_count, dataset.item_count) == (4, 5)
    assert list(dataset.features) == ["image", "audio"]
    for modality, table in raw.features.items():
        assert np.array_equal(dataset.features[modality], table)
        assert not dataset.features[modality].flags.writeable
    assert dataset.derived.directory == workspace.derived


def test_fingerprints_follow_the_content_not_the_name(raw, workspace, manifest) -> None:
    prepare(raw.pipeline("again"), workspace)
    raw.write_features("image", raw.features["image"] + 1)
    prepare(raw.pipeline("changed"), workspace)
    first, again, changed = (load_dataset(workspace, name) for name in ("toy", "again", "changed"))
    assert first.fingerprint == again.fingerprint == changed.fingerprint
    assert first.feature_fingerprints == again.feature_fingerprints
    assert first.feature_fingerprints["image"] != changed.feature_fingerprints["image"]
    assert first.feature_fingerprints["audio"] == changed.feature_fingerprints["audio"]


def test_an_unknown_dataset_is_answered_with_the_nearest_and_what_to_type(
    workspace, manifest
) -> None:
    with pytest.raises(InputError) as caught:
        load_dataset(workspace, "toys")
    assert "did you mean 'toy'?" in str(caught.value)
    assert "mgstudy prepare pipelines/toys.yaml" in str(caught.value)
    with pytest.raises(InputError, match="known: none"):
        load_dataset(Workspace(workspace.home / "empty"), "toy")


def test_where_no_name_is_near_all_prepared_datasets_are_named(raw, workspace, manifest) -> None:
    prepare(raw.pipeline("another"), workspace)
    (workspace.datasets / "without_a_manifest").mkdir()
    with pytest.raises(InputError, match=r"\(known: another, toy\)"):
        load_dataset(workspace, "xyz")


@pytest.mark.parametrize("name", ["../datasets/toy", "toy/", "./toy", "", "a\0b", "toy\n"])
def test_a_path_is_no_name(workspace, manifest, name: str) -> None:
    with pytest.raises(InputError, match=r"expected letters, digits and `_\.-`, got "):
        load_dataset(workspace, name)


def truncate(path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def empty(path) -> None:
    path.write_bytes(b"")


def flip_a_bit(path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


def remove(path) -> None:
    path.unlink()


def remove_record(path) -> None:
    path.with_suffix(".json").unlink()


DAMAGES = [truncate, empty, flip_a_bit, remove]


@pytest.mark.parametrize("name", ["interactions", "image"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_table_is_said_and_made_again(
    raw, workspace, manifest, caplog, damage, name: str
) -> None:
    path = table_file(workspace, manifest, name)
    damage(path)
    dataset = load_dataset(workspace, "toy")
    assert np.array_equal(dataset.features["image"], raw.features["image"])
    assert len(dataset.train) == 5
    (warning,) = caplog.messages
    assert warning.startswith(f"{path}: ")
    assert warning.endswith("making it again from its source")
    caplog.clear()
    load_dataset(workspace, "toy")
    assert caplog.messages == []


def test_damage_after_the_first_use_is_found_too(raw, workspace, manifest, caplog) -> None:
    load_dataset(workspace, "toy")
    flip_a_bit(table_file(workspace, manifest, "audio"))
    dataset = load_dataset(workspace, "toy")
    assert np.array_equal(dataset.features["audio"], raw.features["audio"])
    assert "does not match its checksum" in caplog.text


@pytest.mark.parametrize("damage", [*DAMAGES, remove_record])
def test_a_damaged_table_whose_source_is_gone_is_one_clear_error(
    raw, workspace, manifest, damage
) -> None:
    damage(table_file(workspace, manifest, "image"))
    shutil.rmtree(raw.path)
    with pytest.raises(InputError, match="damaged table that cannot be made again") as caught:
        load_dataset(workspace, "toy")
    assert str(raw.path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_damaged_table_is_never_replaced_by_another_dataset(raw, workspace, manifest) -> None:
    path = table_file(workspace, manifest, "image")
    truncate(path)
    raw.write_features("image", raw.features["image"] + 1)
    with pytest.raises(InputError, match="the source is not what it was; prepare the dataset"):
        load_dataset(workspace, "toy")
    prepare(raw.pipeline(), workspace)
    features = load_dataset(workspace, "toy").features
    assert np.array_equal(features["image"], raw.features["image"] + 1)


def test_the_source_is_not_needed_while_the_tables_are_whole(raw, workspace, manifest) -> None:
    shutil.rmtree(raw.path)
    assert len(load_dataset(workspace, "toy").train) == 5
