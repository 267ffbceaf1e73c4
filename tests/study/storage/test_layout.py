from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from programs import started

from mgstudy.errors import InputError, MgstudyError
from mgstudy.study.storage.layout import StudyFolder
from mgstudy.workspace import Workspace

HOLD = """
import sys
from pathlib import Path
from mgstudy.study.storage.layout import StudyFolder

with StudyFolder(Path(sys.argv[1])).driver_lock():
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return StudyFolder.of(Workspace(tmp_path), "first")


@pytest.mark.integration
def test_a_second_driver_is_refused_and_told_who_the_first_is(folder: StudyFolder) -> None:
    assert not folder.is_driven()
    with started(sys.executable, "-c", HOLD, folder.path) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert folder.is_driven()
        with (
            pytest.raises(
                MgstudyError, match=rf"'first' is already .* process {holder.pid} on "
            ) as caught,
            folder.driver_lock(),
        ):
            pass
        assert caught.value.exit_code == 1
    # The system lets go of the lock of a process that dies, however it dies.
    assert not folder.is_driven()
    # Who it was is still known, for those who find what it left behind.
    gone = folder.driver()
    assert gone.name.startswith(f"process {holder.pid} on ")
    assert not gone.is_alive
    with folder.driver_lock():
        assert f'"process": {os.getpid()}' in (folder.path / "driver.json").read_text()
        assert folder.is_driven()
    assert not folder.is_driven()
    assert not (folder.path / "driver.json").exists()


def test_the_lock_is_let_go_of_after_a_failure(folder: StudyFolder) -> None:
    with pytest.raises(ZeroDivisionError), folder.driver_lock():
        raise ZeroDivisionError
    assert not folder.is_driven()


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
