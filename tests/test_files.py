import os
import sys
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from programs import finished

from mgstudy.data.source_files import identify
from mgstudy.errors import InputError, MgstudyError
from mgstudy.files import content_of, is_there, listed, locked, written_whole
from mgstudy.study.storage.checkpoints import BEST_WEIGHTS, CheckpointFolder, UnreachableError
from mgstudy.workspace import SharedFiles


def test_a_known_file_is_read_again_only_when_its_size_or_time_changed(tmp_path: Path) -> None:
    path = tmp_path / "raw"
    path.write_bytes(b"first")
    read: list[str] = []

    def progress(activity: str, done: int, total: int) -> None:
        read.append(activity)

    known = identify([path], (), progress)
    assert read == ["hash raw files"]
    assert identify([path], known.values(), progress) == known
    assert read == ["hash raw files"]

    path.write_bytes(b"other")
    os.utime(path, ns=(0, known[path].modified_ns + 1))
    changed = identify([path], known.values(), progress)
    assert read == ["hash raw files"] * 2
    assert changed[path].sha256 != known[path].sha256

    os.utime(path, ns=(0, 0))
    assert identify([path], changed.values(), progress)[path].sha256 == changed[path].sha256


def test_what_lies_behind_a_link_that_leads_nowhere_is_not_taken_for_absent(tmp_path: Path) -> None:
    """Such as a workspace on a disk that is away."""
    (tmp_path / "home").symlink_to("away")
    for look in (content_of, is_there, listed):
        for name in ("file", "folder/file"):
            assert not look(tmp_path / name)
            with pytest.raises(
                MgstudyError, match=r"/home: cannot be read: the link leads nowhere"
            ):
                look(tmp_path / "home" / name)
    with pytest.raises(MgstudyError, match="the link leads nowhere"):
        listed(tmp_path / "home")
    assert is_there(tmp_path / "home")
    for write in (locked, written_whole):
        with pytest.raises(MgstudyError, match="the link leads nowhere"):
            write(tmp_path / "home" / "file").__enter__()


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder, expected a file"):
        identify([tmp_path])


def test_what_is_in_a_file_is_known_or_an_error(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert content_of(path) is None
    path.write_bytes(b"content")
    assert content_of(path) == b"content"
    with pytest.raises(MgstudyError, match="cannot be read: Not a directory"):
        content_of(path / "below")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    for name, said in {
        "loop": "Too many levels",
        "dangling": "the link leads nowhere",
        "pipe": "is a pipe, socket or device, expected a file",
    }.items():
        with pytest.raises(MgstudyError, match=said):
            content_of(tmp_path / name)


class _Away(MemoryFileSystem):
    protocol = "away"

    def info(self, path: str, **settings: object) -> object:
        raise ConnectionResetError("reset by peer")


def test_a_store_that_does_not_answer_is_not_taken_for_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MGSTUDY_CACHE", str(tmp_path))
    fsspec.register_implementation("away", _Away, clobber=True)
    shared = SharedFiles.at("away://bucket")
    copy = shared.copy / "manifest.json"
    copy.parent.mkdir(parents=True)
    copy.write_text("kept")
    with pytest.raises(MgstudyError, match=r"away://bucket/manifest\.json: cannot be reached"):
        shared.fetch(copy, anew=True)
    assert copy.read_text() == "kept"
    with pytest.raises(UnreachableError, match="away://bucket: reset by peer"):
        CheckpointFolder("away://bucket").exists("a/b/0", BEST_WEIGHTS)


def test_what_has_no_name_cannot_be_written() -> None:
    for opened in (locked(Path()), written_whole(Path())):
        with pytest.raises(InputError, match=r"'\.' is not the name of a file"), opened:
            pass


def test_a_file_takes_the_place_of_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    (tmp_path / "link").symlink_to(path)
    for name in ("pipe", "link"):
        with (
            pytest.raises(InputError, match="is a pipe, socket or device, expected a file"),
            written_whole(tmp_path / name),
        ):
            pass
    assert path.is_fifo()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["link", "pipe"]


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(InputError), written_whole(path) as file:
        file.write(b"half")
        file.flush()
        assert not path.exists()
        raise InputError("spoiled")
    assert list(tmp_path.iterdir()) == []

    for content in (b"first", b"second"):
        with written_whole(path) as file:
            file.write(content)
        assert path.read_bytes() == content
    with pytest.raises(KeyboardInterrupt), written_whole(path) as file:
        raise KeyboardInterrupt
    assert path.read_bytes() == b"second"
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_fills_up_is_said_in_one_line_and_nothing_is_left(tmp_path: Path) -> None:
    program = """
import resource, sys
from pathlib import Path
from mgstudy.files import written_whole
from mgstudy.errors import MgstudyError
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    with written_whole(Path(sys.argv[1])) as file:
        file.write(b"x" * 100_000)
except MgstudyError as error:
    print(error, error.exit_code)
"""
    path = tmp_path / "file"
    done = finished(sys.executable, "-c", program, path)
    assert done.stdout == f"{path}: cannot be written: File too large 1\n"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_to_is_a_failure_of_the_environment(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(MgstudyError, match="cannot be written") as caught,
        written_whole(tmp_path / "file" / "below"),
    ):
        pass
    assert caught.value.exit_code == 1


def test_what_fails_to_be_read_meanwhile_is_not_told_as_a_failure_to_write(tmp_path: Path) -> None:
    with pytest.raises(ConnectionResetError), written_whole(tmp_path / "file") as file:
        file.write(b"half")
        raise ConnectionResetError("reset by peer")
    assert list(tmp_path.iterdir()) == []
