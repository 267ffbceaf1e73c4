from pathlib import Path

import pytest

from mgstudy.errors import InputError
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
