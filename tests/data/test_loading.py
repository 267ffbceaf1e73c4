import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mgstudy.config.factors import MissingModalities
from mgstudy.config.pipeline import PipelineConfig
from mgstudy.data.dataset import Dataset
from mgstudy.data.loading import load_dataset, load_without
from mgstudy.data.prepare import prepare
from mgstudy.data.tables import StoredTable
from mgstudy.errors import InputError
from mgstudy.features.completions.base import complete
from mgstudy.features.completions.neighbours import Neighbours
from mgstudy.features.steps.normalize import Normalize
from mgstudy.features.steps.pca import PrincipalComponents
from mgstudy.files import sha256_of
from mgstudy.models.item_graphs import binary_neighbour_matrix
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


def with_column(name: str, values, kind=None):
    def forge(table: pa.Table) -> pa.Table:
        column = pa.array([*values] * len(table), kind)[: len(table)]
        position = table.column_names.index(name)
        return table.set_column(position, name, column)

    return forge


def saying(facts: dict[bytes, bytes]):
    return lambda table: table.replace_schema_metadata({**table.schema.metadata, **facts})


FORGED = {
    "ids beyond": ("interactions", with_column("user", [99])),
    "ids below": ("interactions", with_column("item", [-1])),
    "gaps": ("interactions", with_column("user", [None], pa.int64())),
    "floats": ("interactions", with_column("user", [0.5])),
    "lists": ("interactions", with_column("user", [[0]])),
    "no test": ("interactions", with_column("split", ["train"])),
    "no split": ("interactions", lambda table: table.drop_columns(["split"])),
    "two users": ("interactions", lambda table: table.append_column("user", table["user"])),
    "no counts": ("interactions", saying({b"mgstudy.counts": b"[" * 9999})),
    "no metadata": ("interactions", lambda table: table.replace_schema_metadata({b"\xff": b""})),
    "no feature": ("image", lambda table: table.drop_columns(["feature"])),
    "text as feature": ("image", with_column("feature", ["x"])),
    "other width": ("image", with_column("feature", [[0.5]], pa.list_(pa.float32(), 1))),
    "features with gaps": ("image", with_column("feature", [None], pa.list_(pa.float32(), 3))),
    "not a number": ("image", with_column("feature", [[np.nan] * 3], pa.list_(pa.float32(), 3))),
    "fewer rows": ("image", lambda table: table.slice(1)),
}


@pytest.mark.parametrize(("name", "forge"), FORGED.values(), ids=FORGED)
def test_a_table_that_something_else_wrote_is_refused_though_its_checksum_fits(
    raw, workspace, manifest, name: str, forge
) -> None:
    path = table_file(workspace, manifest, name)
    pq.write_table(forge(pq.read_table(path)), path)
    of_now = {"size": path.stat().st_size, "sha256": sha256_of(path)}
    record = path.with_suffix(".json")
    stored = StoredTable.model_validate_json(record.read_bytes())
    record.write_text(stored.model_copy(update=of_now).model_dump_json())
    with pytest.raises(InputError, match=r"; delete it and prepare the dataset again$") as caught:
        load_dataset(workspace, "toy")
    assert str(caught.value).startswith(f"{path}: damaged: ")
    assert "\n" not in str(caught.value)
    path.unlink()
    assert np.array_equal(load_dataset(workspace, "toy").features["image"], raw.features["image"])


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


def lacking(raw, tmp_path, steps, hidden=None) -> PipelineConfig:
    """Vectors of four of the five items of ``raw``, with steps; ``hidden`` are other numbers for
    the items that a level takes the image from."""
    vectors = np.random.default_rng(8).normal(size=(4, 3)).astype(np.float32)
    if hidden is not None:
        vectors[hidden[:4]] = 1000
    np.save(tmp_path / "vectors.npy", vectors)
    image = {"encoder": "precomputed", "file": str(tmp_path / "vectors.npy"), "missing": "zero"}
    audio = {"encoder": "source", "steps": steps}
    content = raw.pipeline().model_dump() | {
        "features": {"image": {**image, "steps": steps}, "audio": audio}
    }
    return PipelineConfig.model_validate(content)


STEPS = [{"normalize": {"by": "column_deviation"}}, {"pca": {"dimensions": 2}}]


@pytest.mark.parametrize("steps", [[], STEPS])
def test_items_without_raw_features_are_known_from_prepare_on(raw, workspace, tmp_path, steps):
    prepare(lacking(raw, tmp_path, steps), workspace)
    dataset = load_dataset(workspace, "toy")
    assert dataset.observed["image"].tolist() == [True] * 4 + [False]
    assert dataset.observed["audio"].all()
    if steps:  # Learnt from the four rows alone.
        vectors = np.load(tmp_path / "vectors.npy")
        for step in (Normalize, PrincipalComponents):
            settings = {"by": "column_deviation"} if step is Normalize else {"dimensions": 2}
            vectors = np.float32(step(step.Parameters(**settings)).apply(vectors))
        assert np.allclose(dataset.features["image"][:4], vectors, atol=1e-5)


@pytest.mark.parametrize("steps", [[], STEPS])
def test_nothing_is_learnt_from_what_a_level_takes(raw, workspace, tmp_path, steps) -> None:
    takes = MissingModalities(pattern="independent", image=0.4, seed=0)
    loaded = []
    hidden = None
    for _ in range(2):
        prepare(lacking(raw, tmp_path, steps, hidden), workspace)
        whole = load_dataset(workspace, "toy")
        dataset = load_without(workspace, whole, takes, "toy_40")
        hidden = ~dataset.observed["image"]
        assert hidden.sum() == 3  # Two are taken, and one was lacking.
        assert dataset.name == "toy_40" and dataset.observed_fingerprint is not None
        left, filled = dataset.features["image"][~hidden], dataset.features["image"][hidden]
        assert np.allclose(filled, left.mean(axis=0), atol=1e-6)
        filled_in = complete(dataset, Neighbours())
        graph = binary_neighbour_matrix(filled_in, "image", 2).toarray()
        loaded.append((dataset.features["image"], filled_in.features["image"], graph))
    for before, now in zip(*loaded, strict=True):
        assert np.array_equal(before, now)
    # And the taken rows differed.
    assert whole.features["image"].max() > 500 or steps
    assert not np.array_equal(whole.features["image"], dataset.features["image"])
    assert dataset.feature_fingerprints["image"] != whole.feature_fingerprints["image"]
    assert dataset.feature_fingerprints["audio"] == whole.feature_fingerprints["audio"]
    assert np.array_equal(dataset.features["audio"], whole.features["audio"])


TAKES = MissingModalities(pattern="independent", image=0.25, audio=0.4, seed=0)


@pytest.mark.parametrize("steps", [[], STEPS])
def test_a_dataset_that_lacks_items_is_loaded_on_another_machine(
    raw, tmp_path, monkeypatch, steps
) -> None:
    url = f"memory://lacking{len(steps)}"
    monkeypatch.setenv("MGSTUDY_CACHE", str(tmp_path / "one"))
    prepare(lacking(raw, tmp_path, steps), Workspace.resolve(url))
    monkeypatch.setenv("MGSTUDY_CACHE", str(tmp_path / "two"))
    shutil.rmtree(raw.path)
    dataset = load_dataset(Workspace.resolve(url), "toy")
    assert dataset.observed["image"].tolist() == [True] * 4 + [False]
    less = load_without(Workspace.resolve(url), dataset, TAKES, "less")
    assert [int(less.observed[name].sum()) for name in ("image", "audio")] == [3, 3]


@pytest.mark.parametrize("damage", [remove, truncate])
def test_a_damaged_stage_is_made_again_when_it_is_needed(raw, workspace, tmp_path, damage) -> None:
    manifest = prepare(lacking(raw, tmp_path, STEPS), workspace)
    whole = load_dataset(workspace, "toy")
    expected = load_without(workspace, whole, TAKES, "less").features
    shutil.rmtree(workspace.derived)
    image, audio = (
        workspace.tables / f"{manifest.features[modality].stages[0].key}.parquet"
        for modality in ("image", "audio")
    )
    damage(image)
    dataset = load_dataset(workspace, "toy")
    damage(audio)
    assert dataset.observed["image"].tolist() == whole.observed["image"].tolist()
    for modality, table in load_without(workspace, dataset, TAKES, "less").features.items():
        np.testing.assert_array_equal(table, expected[modality])


def test_a_dataset_prints_short(small_dataset: Dataset) -> None:
    shown = repr(small_dataset)
    assert shown.startswith("Dataset small: 60 users, 40 items; ") and len(shown) < 120
    assert f"{len(small_dataset.train)} train" in shown and "image 6, text 6" in shown
