import json
import signal
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from programs import started

from mgstudy.config.document import load_document
from mgstudy.config.pipeline import PipelineConfig
from mgstudy.data.loading import load_dataset
from mgstudy.data.manifest import Manifest
from mgstudy.data.prepare import prepare
from mgstudy.data.tables import read_facts
from mgstudy.errors import InputError, MgstudyError


class Activities(list[str]):
    """Notes what was done."""

    def __call__(self, activity: str, done: int, total: int) -> None:
        assert 0 < done <= total
        if activity not in self:
            self.append(activity)


def keys(manifest: Manifest) -> dict[str, str]:
    tables = {"interactions": manifest.interactions, **manifest.features}
    return {name: table.key for name, table in tables.items()}


def test_manifest_says_what_the_dataset_is_and_how_it_was_made(raw, workspace) -> None:
    manifest = prepare(raw.pipeline(), workspace)
    assert manifest.counts.model_dump() == {
        "users": 4,
        "items": 5,
        "train": 5,
        "validation": 2,
        "test": 2,
        "items_without_training": 2,
        "sparsity": 1 - 9 / 20,
    }
    assert [(step.rows_in, step.rows_out) for step in manifest.steps] == [(11, 11), (11, 9)]
    assert {name: table.shape for name, table in manifest.features.items()} == {
        "image": (5, 3),
        "audio": (5, 2),
    }
    assert [file.path.name for file in manifest.source_files] == [
        "toy.inter",
        "image_feat.npy",
        "audio_feat.npy",
    ]
    assert manifest.pipeline.source.parameters["modalities"] == {
        "image": "image_feat.npy",
        "audio": "audio_feat.npy",
    }
    assert Manifest.read(workspace.manifest("toy")) == manifest


def test_a_table_says_what_it_was_made_from(raw, workspace) -> None:
    raw.write_features("image", raw.features["image"].astype(np.float16))
    manifest = prepare(raw.pipeline(), workspace)
    told = read_facts(workspace.tables / f"{manifest.features['image'].key}.parquet")
    assert told["dataset"] == "toy"
    assert told["modality"] == "image"
    assert told["source"] == "mmrec"
    assert told["source_sha256"] == {"features": manifest.source_files[1].sha256}
    assert told["preprocessing"] == ["float16 to float32"]


def test_a_second_time_nothing_is_read_or_written(raw, workspace) -> None:
    first = prepare(raw.pipeline(), workspace)
    before = {path: path.stat().st_mtime_ns for path in workspace.state.rglob("*")}
    activities = Activities()
    assert prepare(raw.pipeline(), workspace, activities) == first
    assert activities == []
    assert {path: path.stat().st_mtime_ns for path in workspace.state.rglob("*")} == before


def test_only_what_changed_is_made_again(raw, workspace) -> None:
    first = prepare(raw.pipeline(), workspace)
    raw.write_features("image", raw.features["image"] + 1)
    activities = Activities()
    second = prepare(raw.pipeline(), workspace, activities)
    assert activities == ["hash raw files", "write image"]
    assert {name for name, key in keys(first).items() if key != keys(second)[name]} == {"image"}

    raw.write_features("image", raw.features["image"])
    activities.clear()
    assert keys(prepare(raw.pipeline(), workspace, activities)) == keys(first)
    assert activities == ["hash raw files"]


def test_tables_are_recognised_by_content_wherever_the_files_lie(raw, workspace) -> None:
    first = prepare(raw.pipeline(), workspace)
    elsewhere = raw.path.rename(raw.path.with_name("elsewhere"))
    (elsewhere / "audio_feat.npy").rename(elsewhere / "sound.npy")
    settings = {"path": str(elsewhere), "modalities": {"audio": "sound.npy"}}
    second = prepare(raw.pipeline("moved", **settings), workspace)
    assert keys(second) == {name: keys(first)[name] for name in ("interactions", "audio")}
    assert list(load_dataset(workspace, "moved").features) == ["audio"]


def test_every_setting_of_the_generator_changes_what_it_makes(workspace) -> None:
    settings = {"users": 60, "items": 40, "interactions_per_user": 6}
    image = {"image": {"width": 4, "noise": 1.0}}

    def prepared(**changes) -> dict[str, str]:
        source = {"kind": "synthetic", "modalities": image, **settings, **changes}
        config = PipelineConfig.model_validate({"name": "s", "source": source})
        return keys(prepare(config, workspace))

    first = prepared()
    assert prepared() == first
    for changes in ({"users": 61}, {"preference": 1.0}, {"popularity_skew": 0.5}):
        changed = prepared(**changes)
        assert changed["interactions"] != first["interactions"]
        assert changed["image"] == first["image"]
    for changes in ({"items": 41}, {"factors": 3}, {"seed": 1}):
        changed = prepared(**changes)
        assert all(changed[name] != first[name] for name in first)
    for modality in ({"width": 5, "noise": 1.0}, {"width": 4, "noise": 2.0}):
        changed = prepared(modalities={"image": modality})
        assert changed["interactions"] == first["interactions"]
        assert changed["image"] != first["image"]


def test_a_table_that_fitted_other_interactions_is_refused(raw, workspace) -> None:
    first = prepare(raw.pipeline(), workspace)
    raw.write_rows([row for row in raw.rows if row[1] != 4])
    with pytest.raises(InputError, match=r"image_feat\.npy: has 5 rows, but the highest itemID"):
        prepare(raw.pipeline(), workspace)
    assert Manifest.read(workspace.manifest("toy")) == first


def test_a_manifest_that_cannot_be_read_is_made_anew(raw, workspace, caplog) -> None:
    first = prepare(raw.pipeline(), workspace)
    workspace.manifest("toy").write_text('{"name": "toy"', "utf-8")
    with pytest.raises(InputError, match=r"manifest\.json: not a manifest .* again"):
        load_dataset(workspace, "toy")
    assert keys(prepare(raw.pipeline(), workspace)) == keys(first)
    assert "not a manifest" in caplog.text


@pytest.mark.parametrize(("found", "said"), [(None, "before formats were"), (3, "in format 3")])
def test_a_manifest_of_another_format_is_refused_with_the_version_that_reads_it(
    raw, workspace, found, said
) -> None:
    first = prepare(raw.pipeline(), workspace)
    path = workspace.manifest("toy")
    content = json.loads(path.read_text("utf-8"))
    content |= {"format": found, "versions": {"mgstudy": "7.8"}, "new": 1}
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}), "utf-8")
    with pytest.raises(InputError) as caught:
        load_dataset(workspace, "toy")
    assert str(path) in str(caught.value)
    assert said in str(caught.value)
    assert "this version of mgstudy reads format 2; use mgstudy 7.8 (" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert keys(prepare(raw.pipeline(), workspace)) == keys(first)


def test_a_truncated_table_is_said_and_made_again(raw, workspace, caplog) -> None:
    key = prepare(raw.pipeline(), workspace).features["image"].key
    path = workspace.tables / f"{key}.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    prepare(raw.pipeline(), workspace)
    assert path.read_bytes() == whole
    (warning,) = caplog.messages
    assert str(path) in warning
    assert "damaged" in warning


def test_a_wrong_setting_is_said_before_anything_is_fetched(raw, workspace) -> None:
    config = raw.pipeline(path="memory://nowhere/toy", modalites={})
    with pytest.raises(InputError, match="modalites"):
        prepare(config, workspace)


@pytest.mark.parametrize("blocked", ["state", "tables", "datasets"])
def test_a_workspace_that_cannot_be_written_to_is_said(raw, workspace, blocked: str) -> None:
    folder = getattr(workspace, blocked)
    folder.parent.mkdir(parents=True)
    folder.touch()
    with pytest.raises(MgstudyError, match=f"{folder}.* cannot be") as caught:
        prepare(raw.pipeline(), workspace)
    assert caught.value.exit_code == 1


def test_tiktok_is_prepared_from_its_pipeline_file(shared_data, workspace) -> None:
    pipeline = Path(__file__).parents[2] / "pipelines" / "tiktok.yaml"
    content = load_document(pipeline).data
    content["source"]["path"] = str(shared_data / "tiktok")
    manifest = prepare(PipelineConfig.model_validate(content), workspace)
    counts = manifest.counts
    assert (counts.users, counts.items) == (9308, 6710)
    assert (counts.train, counts.validation, counts.test) == (59541, 3046, 6125)
    assert counts.items_without_training == 465
    features = load_dataset(workspace, "tiktok").features
    assert list(features) == ["image", "audio"]
    raw = np.load(shared_data / "tiktok" / "audio_feat.npy")
    assert np.array_equal(features["audio"], raw.astype(np.float32))


PROGRAM = """
import json, logging, os, signal, sys
from pathlib import Path
from mgstudy.config.pipeline import PipelineConfig
from mgstudy.data.prepare import prepare
from mgstudy.workspace import Workspace

logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
home, config, behaviour = sys.argv[1:]

def progress(activity, done, total):
    if activity == "write image" and behaviour == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if activity == "write image" and behaviour == "wait":
        print("in the middle", flush=True)
        sys.stdin.readline()

prepare(PipelineConfig.model_validate_json(config), Workspace(Path(home)), progress)
"""


def preparing(
    workspace, config: PipelineConfig, behaviour: str
) -> AbstractContextManager[subprocess.Popen[str]]:
    home, settings = workspace.home, config.model_dump_json()
    return started(sys.executable, "-c", PROGRAM, home, settings, behaviour)


def read_until(process: subprocess.Popen[str], words: str) -> list[str]:
    lines: list[str] = []
    assert process.stdout is not None
    while not (lines and words in lines[-1]):
        line = process.stdout.readline()
        assert line, f"ended before {words!r}: {lines}"
        lines.append(line)
    return lines


@pytest.mark.integration
def test_two_processes_make_each_table_once(raw, workspace) -> None:
    with preparing(workspace, raw.pipeline(), "wait") as first:
        lines = read_until(first, "in the middle")
        with preparing(workspace, raw.pipeline(), "go") as second:
            lines += read_until(second, "waiting for the process that is making it")
            rest, _ = first.communicate("go on\n")
            lines += rest.splitlines()
            rest, _ = second.communicate(timeout=60)
            lines += rest.splitlines()
    assert first.returncode == second.returncode == 0
    written = [line.split()[1] for line in lines if "writing" in line]
    manifest = Manifest.read(workspace.manifest("toy"))
    assert manifest is not None
    assert sorted(written) == sorted(f"{key}:" for key in keys(manifest).values())


@pytest.mark.integration
def test_a_process_killed_while_writing_leaves_a_usable_workspace(raw, workspace) -> None:
    with preparing(workspace, raw.pipeline(), "die") as killed:
        killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert not workspace.manifest("toy").exists()
    assert [path.name.partition("-")[0] for path in workspace.tables.glob("[!.]*.parquet")] == [
        "interactions"
    ]

    activities = Activities()
    prepare(raw.pipeline(), workspace, activities)
    assert [name for name in activities if name.startswith("write")] == [
        "write image",
        "write audio",
    ]
    dataset = load_dataset(workspace, "toy")
    assert np.array_equal(dataset.features["image"], raw.features["image"])
    assert not list(workspace.state.rglob("*.partial"))
