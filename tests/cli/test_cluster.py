"""What the commands for clusters say when something is wrong, without a cluster."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from programs import MGSTUDY, finished
from states import summary_of
from waiting import free_port

from mgstudy.study.storage.layout import StudyFolder
from mgstudy.workspace import Workspace

STUDY = "name: x\nfactors: {dataset: [tiny], model: [BPR]}\ntrials: 1\n"


@pytest.fixture
def nowhere() -> str:
    """An address at which nothing listens."""
    return f"http://127.0.0.1:{free_port()}"


@pytest.mark.parametrize("arguments", [["jobs"], ["logs", "x"], ["stop", "x"], ["doctor"]])
def test_a_cluster_that_does_not_answer_is_one_line(
    arguments: list[str], nowhere: str, tmp_path: Path, monkeypatch, command
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = command(*arguments, "--address", nowhere)
    assert code == 1
    assert err.startswith(f"error: no cluster answers at {nowhere}: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["study.yaml", "--env", "NAME"], "--env NAME: expected NAME=VALUE"),
        (["missing.yaml"], "missing.yaml"),
        (["study.yaml", "--set", "trials=0"], "trials"),
        (["study.yaml", "--for", "soon"], "is no time to run for"),
        (["../outside.yaml"], "lies outside the working directory"),
    ],
)
def test_a_submission_that_is_wrong_is_refused_before_anyone_is_asked(
    arguments: list[str], complaint: str, nowhere: str, tmp_path: Path, monkeypatch, command
) -> None:
    (tmp_path / "outside.yaml").write_text(STUDY)
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "study.yaml").write_text(STUDY)
    monkeypatch.chdir(folder)
    code, _, err = command("submit", *arguments, "--address", nowhere)
    assert code == 2
    assert complaint in err
    assert err.count("\n") == 1


@pytest.mark.integration
def test_the_doctor_speaks_json_and_ends_with_1_when_something_is_broken(tmp_path: Path) -> None:
    fine = finished(MGSTUDY, "doctor", "--json", cwd=tmp_path)
    findings = json.loads(fine.stdout)
    assert {finding["level"] for finding in findings} <= {"fine", "warning"}
    assert all(finding["advice"] for finding in findings if finding["level"] == "warning")

    manifest = summary_of([], "lost").manifest
    config = manifest.config.model_copy(update={"storage": "sqlite:////nowhere/x.db"})
    lost = manifest.model_copy(update={"config": config})
    lost.write(StudyFolder.of(Workspace(tmp_path), "lost"))
    ended = finished(MGSTUDY, "doctor", code=1, cwd=tmp_path)
    assert "bad  study lost: storage sqlite:////nowhere/x.db does not exist" in ended.stdout
