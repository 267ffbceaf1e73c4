"""The cache listed, verified and cleaned; and killed at many points."""

import errno
import json
import os
import signal
import sys
from pathlib import Path

import fsspec
import numpy as np
import pytest
from filelock import FileLock
from programs import finished
from states import summary_of

from mgstudy.cli import cache as cache_commands
from mgstudy.data.cache import (
    collect_garbage,
    describe_entry,
    find_entry,
    list_cache,
    verify_cache,
)
from mgstudy.data.encoded_rows import EncodedRows
from mgstudy.data.loading import load_dataset
from mgstudy.data.prepare import prepare
from mgstudy.data.tables import DamagedTableError, read_facts
from mgstudy.errors import InputError, MgstudyError
from mgstudy.files import locked, sha256_of

assert cache_commands.cache  # Its import registers the commands.


def derive(workspace, name: str) -> None:
    dataset = load_dataset(workspace, name)
    dataset.derived.get("halves", {"of": dataset.feature_fingerprints["image"]},
                        lambda: {"half": dataset.features["image"] / 2})  # fmt: skip


def kinds(entries) -> list[str]:
    return sorted(f"{entry.kind} {entry.key.partition('-')[0]}" for entry in entries)


def test_what_is_kept_is_listed_with_what_uses_it(raw, workspace) -> None:
    manifest = prepare(raw.pipeline(), workspace)
    derive(workspace, "toy")
    entries = list_cache(workspace, {"study s": [manifest.features["audio"].key]})
    assert kinds(entries) == ["derived halves", "table audio", "table image", "table interactions"]
    users = {entry.key.partition("-")[0]: entry.used_by for entry in entries}
    assert users["image"] == users["halves"] == ("dataset toy",)
    assert users["audio"] == ("dataset toy", "study s")
    assert find_entry(entries, "image").key == manifest.features["image"].key
    with pytest.raises(InputError, match=r"'i' is the beginning of 2 keys"):
        find_entry(entries, "i")
    with pytest.raises(InputError, match="nothing is kept as 'x'"):
        find_entry(entries, "x")


def test_what_nothing_refers_to_is_removed_and_nothing_else(raw, workspace) -> None:
    first = prepare(raw.pipeline(), workspace)
    derive(workspace, "toy")
    raw.write_features("image", raw.features["image"] + 1)
    second = prepare(raw.pipeline(), workspace)
    derive(workspace, "toy")
    (workspace.tables / ".left-behind.parquet.partial").write_bytes(b"half")
    (workspace.derived / ".halves-1.abc").mkdir()

    old = first.features["image"].key
    assert old not in {entry.key for entry in collect_garbage(workspace, {"study s": [old]})}
    unused = ["derived halves", "table image"]
    kept = sorted(path for path in workspace.tables.glob("*.parquet") if path.stem != old)
    assert kinds(collect_garbage(workspace, dry_run=True)) == unused
    assert kinds(collect_garbage(workspace)) == unused
    assert sorted(workspace.tables.glob("*.parquet")) == kept
    assert not list(workspace.state.rglob("*.partial"))
    assert not (workspace.derived / ".halves-1.abc").exists()
    assert verify_cache(workspace) == (3, [])
    assert prepare(raw.pipeline(), workspace) == second
    assert kinds(collect_garbage(workspace, all_derived=True)) == ["derived halves"]


def test_whatever_was_fetched_from_the_url_of_a_dataset_is_in_use(raw, workspace) -> None:
    memory = fsspec.filesystem("memory")
    (raw.path / "README").touch()
    for path in raw.path.iterdir():
        memory.pipe(f"/fetched/{path.name}", path.read_bytes())
    prepare(raw.pipeline(path="memory://fetched"), workspace)
    downloads = [entry for entry in list_cache(workspace) if entry.kind == "download"]
    assert [entry.used_by for entry in downloads] == [("dataset toy",)] * 4
    assert collect_garbage(workspace) == []
    prepare(raw.pipeline(), workspace)
    assert len(collect_garbage(workspace)) == 4


def test_a_pipe_in_place_of_a_table_is_not_waited_for(raw, workspace) -> None:
    manifest = prepare(raw.pipeline(), workspace)
    path = workspace.tables / f"{manifest.features['image'].key}.parquet"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DamagedTableError, match="is a pipe, socket or device, expected a file"):
        read_facts(path)
    with pytest.raises(InputError, match="is a pipe, socket or device, expected a file"):
        sha256_of(path)
    with pytest.raises(MgstudyError, match="is a pipe, socket or device, expected a file"):
        prepare(raw.pipeline(), workspace)


def test_what_a_process_is_writing_stays(workspace) -> None:
    workspace.tables.mkdir(parents=True)
    partial = workspace.tables / ".image-1.parquet.partial"
    partial.write_bytes(b"half")
    with FileLock(workspace.tables / ".image-1.parquet.lock"):
        assert collect_garbage(workspace) == []
        assert partial.exists()
    assert kinds(collect_garbage(workspace)) == ["unfinished .image"]


def test_what_is_encoded_so_far_stays_while_the_rest_is_encoded(workspace) -> None:
    rows = EncodedRows(workspace.tables / ".image-1.partial")
    with rows.held():
        rows.keep([0], np.ones((1, 2)))
        assert collect_garbage(workspace) == []
        assert list(rows.read()) == [0]
    assert kinds(collect_garbage(workspace)) == ["unfinished .image"]


def test_what_is_being_unpacked_stays(workspace) -> None:
    (workspace.state / ".import.x1" / "study" / "checkpoints").mkdir(parents=True)
    with locked(workspace.unpacked):
        assert collect_garbage(workspace) == []
    assert kinds(collect_garbage(workspace)) == ["unfinished .import.x1"]
    assert not (workspace.state / ".import.x1").exists()


def test_derived_arrays_go_all_or_not_at_all(raw, workspace, monkeypatch) -> None:
    prepare(raw.pipeline(), workspace)
    derive(workspace, "toy")

    def killed(folder: Path) -> None:
        next(folder.rglob("*.npy")).unlink()
        raise OSError(errno.EIO, "killed")

    with monkeypatch.context() as patched, pytest.raises(MgstudyError, match="cannot be removed"):
        patched.setattr("shutil.rmtree", killed)
        collect_garbage(workspace, all_derived=True)
    derive(workspace, "toy")
    (entry,) = [entry for entry in list_cache(workspace) if entry.kind == "derived"]
    assert (entry.path / "half.npy").exists()


@pytest.mark.parametrize("content", [b'{"of": ', b"\xff", b"[" * 99_999, None])
def test_derived_arrays_that_do_not_say_of_what_are_in_use(raw, workspace, content) -> None:
    prepare(raw.pipeline(), workspace)
    derive(workspace, "toy")
    (inputs,) = workspace.derived.glob("*/inputs.json")
    inputs.unlink()
    os.mkfifo(inputs) if content is None else inputs.write_bytes(content)
    assert collect_garbage(workspace) == []
    with pytest.raises(InputError, match=r"inputs\.json: "):
        describe_entry(find_entry(list_cache(workspace), "halves"))


def test_commands(raw, workspace, command, printed) -> None:
    manifest = prepare(raw.pipeline(), workspace)
    home = ["--home", workspace.home]

    assert len(json.loads(printed("cache", "ls", *home, "--json"))) == 3
    assert "dataset toy" in printed("cache", "ls", *home)
    shown = json.loads(printed("cache", "show", "image", *home, "--json"))
    assert shown["facts"]["source_sha256"] == {"features": manifest.source_files[1].sha256}
    assert "modality: image" in printed("cache", "show", "image", *home)

    path = workspace.tables / f"{manifest.features['image'].key}.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    code, out, _ = command("cache", "verify", *home)
    assert code == 1
    assert f"{path}: damaged: does not match its checksum" in out
    load_dataset(workspace, "toy")
    printed("cache", "verify", *home)
    assert "0 entries removed" in printed("cache", "gc", *home)


def file_in_place(folder: Path) -> None:
    if folder.exists():
        folder.rename(folder.with_name("elsewhere"))
    folder.touch()


def loop_in_place(folder: Path) -> None:
    if folder.exists():
        folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to(folder)


def nowhere_in_place(folder: Path) -> None:
    if folder.exists():
        folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to("nowhere")


def text_in_place(content: str):
    return lambda file: file.write_text(content, "utf-8")


def inside(name: str, change):
    def spoil(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        change(folder / name)

    return spoil


def study(content: str):
    return inside("s/study.json", text_in_place(content))


NO_TABLES = summary_of([]).manifest.model_copy(update={"datasets": {}}).model_dump_json()
UNREADABLE = {
    "datasets are a file": ("datasets", file_in_place),
    "datasets are a loop": ("datasets", loop_in_place),
    "datasets are a link to nowhere": ("datasets", nowhere_in_place),
    "a dataset is a loop": ("datasets", inside("toy", loop_in_place)),
    "a dataset is a link to nowhere": ("datasets", inside("toy", nowhere_in_place)),
    "a manifest is a link to nowhere": ("datasets", inside("toy/manifest.json", nowhere_in_place)),
    "a manifest is a loop": ("datasets", inside("toy/manifest.json", loop_in_place)),
    "a dataset is a file": ("datasets", inside("toy", file_in_place)),
    "a manifest says nothing": ("datasets", inside("toy/manifest.json", text_in_place("{}"))),
    "a manifest is half written": ("datasets", inside("toy/manifest.json", text_in_place('{"f'))),
    "studies are a file": ("studies", file_in_place),
    "studies are a loop": ("studies", loop_in_place),
    "studies are a link to nowhere": ("studies", nowhere_in_place),
    "a study is a file": ("studies", inside("s", file_in_place)),
    "a study is a loop": ("studies", inside("s", loop_in_place)),
    "a study is a link to nowhere": ("studies", inside("s", nowhere_in_place)),
    "a study's manifest is a loop": ("studies", inside("s/study.json", loop_in_place)),
    "a study says nothing": ("studies", study("{}")),
    "a study is a list": ("studies", study("[]")),
    "a study has no dataset": ("studies", study('{"datasets": {}}')),
    "a study's dataset says nothing": ("studies", study('{"datasets": {"toy": {}}}')),
    "a study names no table": ("studies", study(NO_TABLES)),
    "a study is half written": ("studies", study('{"datasets": {"toy": ')),
}


@pytest.mark.parametrize(("kind", "spoil"), UNREADABLE.values(), ids=UNREADABLE)
def test_where_nobody_knows_what_is_in_use_nothing_is_removed(
    raw, workspace, command, kind, spoil
) -> None:
    prepare(raw.pipeline(), workspace)
    derive(workspace, "toy")
    spoil(getattr(workspace, kind))
    before = sorted(workspace.state.rglob("*.*"))
    code, out, err = command("cache", "gc", "--derived", "--home", workspace.home)
    assert code in {1, 2} and out == ""
    (line,) = err.splitlines()
    assert str(getattr(workspace, kind)) in line
    assert sorted(workspace.state.rglob("*.*")) == before


KILLED = """
import os, signal, sys
from pathlib import Path
from mgstudy.config.pipeline import PipelineConfig
from mgstudy.data.prepare import prepare
from mgstudy.workspace import Workspace

home, config, last = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
count = 0

def watch(event, arguments):
    # Every opening, renaming, locking and removing below the workspace, and every write's end.
    global count
    if event in {"open", "os.rename", "os.mkdir", "os.remove", "fcntl.flock"}:
        if str(home) in str(arguments) or event == "fcntl.flock":
            count += 1
            if count == last:
                os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
prepare(PipelineConfig.model_validate_json(config), Workspace(home))
print(count)
"""


@pytest.mark.integration
def test_a_process_killed_at_any_touch_of_the_disk_leaves_a_usable_workspace(
    raw, workspace
) -> None:
    def run(last: int) -> None:
        arguments = [str(workspace.home), raw.pipeline().model_dump_json(), str(last)]
        finished(sys.executable, "-c", KILLED, *arguments, code=-signal.SIGKILL)

    random = np.random.default_rng(int(os.environ.get("MGSTUDY_TEST_SEED", "0")))
    points = sorted({1, 2, *random.choice(np.arange(3, 34), size=4, replace=False).tolist()})
    for point in points:
        run(point)
        assert verify_cache(workspace)[1] == []
    prepare(raw.pipeline(), workspace)
    dataset = load_dataset(workspace, "toy")
    for modality, table in raw.features.items():
        assert np.array_equal(dataset.features[modality], table)
    assert len(dataset.train) == 5
    collect_garbage(workspace)
    assert not list(Path(workspace.state).rglob("*.partial"))
