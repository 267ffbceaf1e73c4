"""What the commands for clusters say when something is wrong, without a cluster."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from programs import MGSTUDY, finished
from states import summary_of
from waiting import free_port

from mgstudy.study.storage.layout import StudyFolder
from mgstudy.workspace import Workspace

STUDY = "name: x\nfactors: {dataset: [tiny], model: [BPR]}\ntrials: 1\n"


pytestmark = pytest.mark.integration


def mgstudy(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return finished(MGSTUDY, *arguments, code=None, cwd=folder)


@pytest.fixture
def nowhere() -> str:
    """An address at which nothing listens."""
    return f"http://127.0.0.1:{free_port()}"


@pytest.mark.parametrize("command", [["jobs"], ["logs", "x"], ["stop", "x"], ["doctor"]])
def test_a_cluster_that_does_not_answer_is_one_line(
    command: list[str], nowhere: str, tmp_path: Path
) -> None:
    ended = mgstudy(*command, "--address", nowhere, folder=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"error: no cluster answers at {nowhere}: ")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["study.yaml", "--env", "NAME"], "--env NAME: expected NAME=VALUE"),
        (["missing.yaml"], "missing.yaml"),
        (["study.yaml", "--set", "trials=0"], "trials"),
        (["../outside.yaml"], "lies outside the working directory"),
    ],
)
def test_a_submission_that_is_wrong_is_refused_before_anyone_is_asked(
    arguments: list[str], complaint: str, nowhere: str, tmp_path: Path
) -> None:
    (tmp_path / "outside.yaml").write_text(STUDY)
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "study.yaml").write_text(STUDY)
    ended = mgstudy("submit", *arguments, "--address", nowhere, folder=folder)
    assert ended.returncode == 2
    assert complaint in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_the_doctor_speaks_json_and_ends_with_1_when_something_is_broken(tmp_path: Path) -> None:
    fine = mgstudy("doctor", "--json", folder=tmp_path)
    assert fine.returncode == 0, fine.stdout
    findings = json.loads(fine.stdout)
    assert {finding["level"] for finding in findings} <= {"fine", "warning"}
    assert all(finding["advice"] for finding in findings if finding["level"] == "warning")

    manifest = summary_of([], "lost").manifest
    lost = manifest.model_copy(update={"storage": "sqlite:////nowhere/x.db"})
    lost.write(StudyFolder.of(Workspace(tmp_path), "lost"))
    ended = mgstudy("doctor", folder=tmp_path)
    assert ended.returncode == 1
    assert "bad  study lost: storage sqlite:////nowhere/x.db does not exist" in ended.stdout
