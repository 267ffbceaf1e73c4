from __future__ import annotations

from pathlib import Path

import pytest

from mgstudy.errors import InputError
from mgstudy.study.storage.layout import StudyFolder
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
