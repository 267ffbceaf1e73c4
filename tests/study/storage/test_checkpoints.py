from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
import torch
from waiting import free_port

from mgstudy.errors import InputError, MgstudyError
from mgstudy.study.storage.checkpoints import (
    BEFORE_LAST,
    BEST_WEIGHTS,
    LAST,
    CheckpointFolder,
    UnreachableError,
    local_copy,
)

TRIAL = "tiny/BPR/plain/none/adam/999/0"


@pytest.fixture(params=["local", "remote"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CheckpointFolder]:
    """Checkpoints in a folder, and on a file system that is not this machine's."""
    if request.param == "local":
        yield CheckpointFolder(str(tmp_path))
        return
    yield CheckpointFolder("memory://bucket/study")
    fsspec.filesystem("memory").store.clear()


def overwrite(folder: CheckpointFolder, name: str, content: bytes) -> None:
    with fsspec.open(folder.location(TRIAL, name), "wb") as file:
        file.write(content)


def read(folder: CheckpointFolder, name: str) -> bytes:
    with fsspec.open(folder.location(TRIAL, name), "rb") as file:
        return bytes(file.read())


def test_the_newest_state_comes_back(folder: CheckpointFolder) -> None:
    assert folder.load_last(TRIAL).content is None
    for epoch in (1, 2, 3):
        location = folder.save_last(TRIAL, {"epoch": epoch, "weights": torch.full((3,), epoch)})
        assert location == folder.location(TRIAL, LAST)
    found = folder.load_last(TRIAL)
    assert found.problems == ()
    assert found.content is not None
    assert found.content["epoch"] == 3
    assert torch.equal(found.content["weights"], torch.full((3,), 3))
    assert folder.load(TRIAL, BEFORE_LAST)["epoch"] == 2


@pytest.mark.parametrize("damage", ["cut", "bit", "empty"])
def test_a_damaged_state_is_said_and_the_one_before_it_used(
    folder: CheckpointFolder, damage: str
) -> None:
    for epoch in (1, 2):
        folder.save_last(TRIAL, {"epoch": epoch, "weights": torch.ones(10_000)})
    content = bytearray(read(folder, LAST))
    if damage == "bit":
        # PyTorch reads this without a word.
        content[len(content) // 2] ^= 1
    overwrite(
        folder, LAST, {"cut": bytes(content[:-500]), "empty": b""}.get(damage, bytes(content))
    )
    found = folder.load_last(TRIAL)
    assert found.content is not None
    assert found.content["epoch"] == 1
    (problem,) = found.problems
    assert problem.startswith(f"cannot read checkpoint {folder.location(TRIAL, LAST)}: ")
    overwrite(folder, BEFORE_LAST, b"nothing")
    found = folder.load_last(TRIAL)
    assert found.content is None
    assert len(found.problems) == 2


def test_what_a_trial_left_is_deleted_in_two_steps(folder: CheckpointFolder) -> None:
    for name in (LAST, BEFORE_LAST, BEST_WEIGHTS):
        folder.save(TRIAL, name, {"epoch": 1})
    cell = TRIAL.rpartition("/")[0]
    assert folder.trials(cell) == [0]
    folder.discard_states(TRIAL)
    assert [folder.exists(TRIAL, name) for name in (LAST, BEFORE_LAST, BEST_WEIGHTS)] == [
        False,
        False,
        True,
    ]
    folder.discard(TRIAL)
    assert folder.trials(cell) == []
    folder.discard(TRIAL)
    with pytest.raises(InputError, match="there is no checkpoint"):
        folder.load(TRIAL, BEST_WEIGHTS)


def test_a_write_that_fails_leaves_the_last_state(tmp_path: Path) -> None:
    folder = CheckpointFolder(str(tmp_path))
    folder.save_last(TRIAL, {"epoch": 1})
    with pytest.raises(Exception, match="lambda"):
        folder.save_last(TRIAL, {"function": lambda: None})
    found = folder.load_last(TRIAL)
    assert found.content == {"epoch": 1}


def test_at_every_moment_of_a_write_a_state_can_be_read(tmp_path: Path) -> None:
    """Kill the writer before each of its renames; what is left must hold the last state or the new
    one."""
    folder = CheckpointFolder(str(tmp_path))
    folder.save_last(TRIAL, {"epoch": 1})
    folder.save_last(TRIAL, {"epoch": 2})
    for deadly in itertools.count():
        child = os.fork()
        if child == 0:
            renames = itertools.count()

            def rename(*names, real=os.rename, counted=renames, fatal=deadly) -> None:
                if next(counted) == fatal:
                    os._exit(1)
                real(*names)

            os.rename = os.replace = rename  # type: ignore[assignment]
            folder.save_last(TRIAL, {"epoch": 3})
            os._exit(0)
        _, status = os.waitpid(child, 0)
        found = folder.load_last(TRIAL)
        assert found.content is not None
        assert found.content["epoch"] in (2, 3)
        assert found.problems == ()
        if status == 0:
            break
    assert deadly >= 2
    assert found.content["epoch"] == 3


def test_a_copy_of_what_lies_at_a_url_is_there_for_as_long_as_it_is_needed(tmp_path: Path) -> None:
    content = b"weights"
    fsspec.filesystem("memory").pipe_file("/copies/best.pt", content)
    with local_copy("memory://copies/best.pt") as path:
        assert Path(path).name == "best.pt"
        assert Path(path).read_bytes() == content
    assert not Path(path).exists()
    (tmp_path / "best.pt").write_bytes(content)
    with local_copy(str(tmp_path / "best.pt")) as path:
        assert path == str(tmp_path / "best.pt")
    assert (tmp_path / "best.pt").exists()


def test_what_trials_left_whole_is_listed_and_nothing_else(tmp_path: Path) -> None:
    folder = CheckpointFolder(str(tmp_path / "checkpoints"))
    assert folder.files() == {}
    location = Path(folder.save(TRIAL, BEST_WEIGHTS, {"epoch": 1}))
    for name in (".best.pt.a1b2", "last.pt.new", "test_users.parquet.partial"):
        location.with_name(name).write_bytes(b"half")
    os.mkfifo(location.with_name("test_users.parquet"))  # Which nobody ever writes to.
    assert folder.files() == {f"{TRIAL}/{BEST_WEIGHTS}": str(location)}
    with pytest.raises(InputError, match="is a pipe, socket or device"):
        folder.load(TRIAL, "test_users.parquet")


def test_checkpoints_that_cannot_be_listed_are_not_none(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file")
    with pytest.raises(MgstudyError, match="checkpoints: cannot be read: Not a directory"):
        CheckpointFolder(str(tmp_path / "checkpoints")).files()
    folder = CheckpointFolder(str(tmp_path / "others"))
    Path(folder.save(TRIAL, BEST_WEIGHTS, {})).parents[1].joinpath("1").symlink_to("nowhere")
    with pytest.raises(MgstudyError, match="adam/999/1: cannot be read: the link leads nowhere"):
        folder.files()


def test_an_object_store_that_is_away_is_said_alike_whatever_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    folder = CheckpointFolder("s3://shared/study")
    for ask in (
        lambda: folder.save(TRIAL, BEST_WEIGHTS, {}),
        lambda: folder.save_last(TRIAL, {}),
        lambda: folder.load(TRIAL, LAST),
        lambda: folder.load_last(TRIAL),
        lambda: folder.read("shared/study/x"),
    ):
        with pytest.raises(UnreachableError, match=r"^s3://shared/study: Could not connect to the"):
            ask()
    with pytest.raises(MgstudyError, match="cannot be listed: s3://shared/study: Could not conn"):
        folder.files()
    # Leftovers are for the next launch.
    folder.discard(TRIAL)
    assert folder.trials(TRIAL.rpartition("/")[0]) == []
