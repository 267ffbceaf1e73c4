from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mgstudy.errors import InputError, MgstudyError
from mgstudy.study.storage.layout import StudyFolder
from mgstudy.study.storage.lease import lease
from mgstudy.workspace import Workspace


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return StudyFolder.of(Workspace(tmp_path), "first")


def test_a_study_that_was_not_launched_gets_the_nearest_name(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with pytest.raises(InputError, match=r"no study 'a' in workspace .*; known: none"):
        StudyFolder.existing(workspace, "a")
    begun = StudyFolder.of(workspace, "tiktok")
    begun.path.mkdir(parents=True)
    begun.manifest.touch()
    StudyFolder.of(workspace, "empty").path.mkdir()
    with pytest.raises(InputError, match=r"no study 'tiktk' .*; did you mean 'tiktok'\?"):
        StudyFolder.existing(workspace, "tiktk")
    assert StudyFolder.existing(workspace, "tiktok") == begun
    # A folder that a refused launch has left is no study, and a path is no name.
    with pytest.raises(InputError, match=r"no study 'empty' .*; known: tiktok"):
        StudyFolder.existing(workspace, "empty")
    for path in ("../studies/tiktok", "./tiktok", "tiktok/", "a" * 300, "a\0b", "tiktok\n"):
        with pytest.raises(InputError, match=r"^no study "):
            StudyFolder.existing(workspace, path)


def test_a_launch_that_is_refused_leaves_no_folder_but_that_of_another(folder: StudyFolder) -> None:
    """Two are typed at once, and neither has found a folder."""
    database = f"sqlite:///{folder.own_storage}"
    with lease(folder.path, database, "first"):
        with folder.kept_if_launched(is_new=True):
            pass
        assert folder.path.is_dir()
    with folder.kept_if_launched(is_new=False):
        pass
    assert folder.path.is_dir()
    with folder.kept_if_launched(is_new=True), lease(folder.path, database, "first"):
        folder.manifest.touch()
    assert folder.manifest.exists()
    folder.manifest.unlink()
    with folder.kept_if_launched(is_new=True), lease(folder.path, database, "first"):
        pass
    assert not folder.path.exists()


def test_what_cannot_be_looked_up_is_not_taken_for_absent(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.studies.mkdir(parents=True)
    (workspace.studies / "stray").touch()
    with pytest.raises(InputError, match=r"no study 'a' .*; known: none"):
        StudyFolder.existing(workspace, "a")
    (workspace.studies / "loop").symlink_to("loop")
    with pytest.raises(MgstudyError, match=r"loop/study\.json: cannot be read: Too many levels"):
        StudyFolder.existing(workspace, "loop")
    with pytest.raises(InputError, match="no study 'a' "):  # Whatever is wrong with another.
        StudyFolder.existing(workspace, "a")
    shutil.rmtree(workspace.state)
    workspace.state.touch()
    with pytest.raises(MgstudyError, match="cannot be read: Not a directory"):
        StudyFolder.existing(workspace, "a")
