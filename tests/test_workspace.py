from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

from mgstudy.errors import InputError, MgstudyError
from mgstudy.workspace import Workspace


def test_home_comes_from_the_argument_then_the_environment_then_the_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MGSTUDY_HOME", raising=False)
    assert Workspace.resolve().home == tmp_path
    monkeypatch.setenv("MGSTUDY_HOME", "")
    assert Workspace.resolve().home == tmp_path
    monkeypatch.setenv("MGSTUDY_HOME", str(tmp_path / "environment"))
    assert Workspace.resolve().home == tmp_path / "environment"
    assert Workspace.resolve(Path("given")).home == tmp_path / "given"
    assert not list(tmp_path.iterdir())


def test_a_file_is_no_home(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file"):
        Workspace.resolve(tmp_path / "file")


@pytest.mark.parametrize(
    ("home", "said"),
    [
        ("~nosuchuser/x", "^~nosuchuser/x: nobody's home is known by `~nosuchuser` here"),
        ("x" * 300, "x: cannot be a workspace: .*File name too long"),
        ("my%20data", "my%20data: '%20' means something else, or nothing, in the URLs of the "),
        (
            "latin\udce9",
            r"'\\udce9' means something else, or nothing, in the URLs of the databases",
        ),
        ("what now?x=1", r"what now\?x=1: '\?' means something else"),
        ("data-$PROJECT", r"data-\$PROJECT: '\$' means something else"),
        ("nosuch://x", "^nosuch://x: Protocol not known: nosuch"),
    ],
)
def test_what_no_workspace_can_be_called_is_refused(home: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Workspace.resolve(home)


def test_a_copy_of_a_url_needs_a_home_or_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", nobody)
    monkeypatch.delenv("MGSTUDY_CACHE", raising=False)
    with pytest.raises(InputError, match=r"^~/.cache/mgstudy: nobody's home is known"):
        Workspace.resolve("memory://team")


def test_a_connection_that_breaks_while_a_file_is_read_is_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(file: MemoryFile, size: int = -1) -> bytes:
        raise ConnectionResetError("reset by peer")

    monkeypatch.setenv("MGSTUDY_CACHE", str(tmp_path))
    workspace = Workspace.resolve("memory://team")
    fsspec.filesystem("memory").pipe("/team/.mgstudy/x", b"content")
    with monkeypatch.context() as patched:
        patched.setattr(MemoryFile, "read", broken)
        with pytest.raises(MgstudyError, match=r"^memory://team/.mgstudy/x: cannot be reached: re"):
            workspace.fetch(workspace.state / "x")
    assert not (workspace.state / "x").exists()
    workspace.fetch(workspace.state / "x")
    assert (workspace.state / "x").read_bytes() == b"content"


def test_a_file_of_a_deleted_folder_stays_until_all_else_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MGSTUDY_CACHE", str(tmp_path))
    workspace = Workspace.resolve("memory://deleted")
    assert workspace.shared is not None
    folder = workspace.studies / "s"
    files, remote = fsspec.filesystem("memory"), "/deleted/.mgstudy/studies/s"
    for name in ("a/x", "study.json", "z"):
        files.pipe(f"{remote}/{name}", b"content")
    remove = MemoryFileSystem.rm

    def stuck(self: MemoryFileSystem, path: str, recursive: bool = False) -> None:
        if path.endswith("/z"):
            raise PermissionError("not allowed")
        remove(self, path, recursive=recursive)

    with monkeypatch.context() as patched:
        patched.setattr(MemoryFileSystem, "rm", stuck)
        with pytest.raises(MgstudyError, match="cannot be reached: not allowed"):
            workspace.shared.remove(folder, folder / "study.json")
    assert files.exists(f"{remote}/study.json")
    workspace.shared.remove(folder, folder / "study.json")
    assert not files.exists(remote)
