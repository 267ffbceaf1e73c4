from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from states import summary_of

from mgstudy import api
from mgstudy.errors import InputError, MgstudyError
from mgstudy.study.definition.manifest import FORMAT, CellEntry, StudyManifest
from mgstudy.study.definition.study import as_launched
from mgstudy.study.storage.layout import StudyFolder
from mgstudy.workspace import Workspace


@pytest.fixture
def written(tmp_path: Path) -> StudyFolder:
    folder = StudyFolder(tmp_path / "s")
    summary_of([]).manifest.write(folder)
    return folder


def test_what_is_written_is_read(written: StudyFolder) -> None:
    manifest = StudyManifest.read(written)
    assert manifest == summary_of([]).manifest
    assert json.loads(written.manifest.read_text())["format"] == FORMAT


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('{"name": "fi', "cannot be read: "),
        ("[]", "cannot be read: it holds no study"),
        ("{}", "cannot be read: it holds no study"),
        (f'{{"format": {FORMAT}, "name": 3}}', "cannot be read: name: Input should be a valid"),
        ("[" * 100_000, "cannot be read: "),
    ],
)
def test_a_damaged_manifest_is_said(written: StudyFolder, content: str, complaint: str) -> None:
    written.manifest.write_text(content)
    with pytest.raises(MgstudyError, match=rf"study\.json: {re.escape(complaint)}") as raised:
        StudyManifest.read(written)
    assert "\n" not in str(raised.value)
    assert str(raised.value).endswith("; delete it and launch the study file again, which goes on "
                                      "with the recorded trials")  # fmt: skip


@pytest.mark.parametrize(
    ("recorded", "by"),
    [
        ({"format": 2, "environment": {"packages": {"mgstudy": "9.9"}}}, "mgstudy 9.9"),
        ({"name": "s"}, "another version of mgstudy"),
    ],
)
def test_another_format_is_refused_with_the_version_that_reads_it(
    written: StudyFolder, recorded: dict[str, object], by: str
) -> None:
    written.manifest.write_text(json.dumps(recorded))
    with pytest.raises(MgstudyError, match=f"{by} wrote it and reads it$"):
        StudyManifest.read(written)


def test_what_an_environment_does_not_say_is_unknown(written: StudyFolder) -> None:
    content = json.loads(written.manifest.read_text())
    written.manifest.write_text(json.dumps({**content, "environment": {"later": []}}))
    found = StudyManifest.read(written).environment
    assert (found.python, found.packages, found.git_revision) == ("unknown", {}, None)
    damaged = {**content, "environment": {"packages": "torch"}}
    written.manifest.write_text(json.dumps(damaged))
    with pytest.raises(MgstudyError, match=r"study\.json: cannot be read: environment\.packages: "):
        StudyManifest.read(written)


@pytest.mark.parametrize("where", ["novelty", "config.novelty", "cells.0.novelty"])
def test_what_a_newer_version_has_written_besides_is_neither_lost_nor_taken(
    tmp_path: Path, where: str
) -> None:
    folder = StudyFolder(tmp_path / "s")
    entry = CellEntry(key="a", levels={}, study="s/a", budget=1)
    summary_of([], entries=[entry]).manifest.write(folder)
    content = json.loads(folder.manifest.read_text())
    content["environment"] = {"packages": {"mgstudy": "9.9"}}
    place = content
    *steps, name = where.split(".")
    for step in steps:
        place = place[int(step) if step.isdecimal() else step]
    place[name] = 1
    folder.manifest.write_text(json.dumps(content))
    said = f"has `{where}`, which this version does not know; mgstudy 9.9 wrote it and reads it"
    with pytest.raises(MgstudyError, match=re.escape(said)):
        StudyManifest.read(folder)


def test_a_missing_manifest_is_said(tmp_path: Path) -> None:
    with pytest.raises(MgstudyError, match="No such file"):
        StudyManifest.read(StudyFolder(tmp_path))


PIPELINE = """\
name: tiny
source: {kind: synthetic, users: 30, items: 40, interactions_per_user: 6}
"""
STUDY = """\
name: launched
factors: {dataset: [tiny], model: [VBPR], gradient: [plain]}
trials: 1
"""


@pytest.mark.parametrize("other", ["source.seed=5", "source.modalities={text: {width: 3}}"])
def test_a_study_is_not_taken_up_again_on_other_data(tmp_path: Path, other: str) -> None:
    (tmp_path / "tiny.yaml").write_text(PIPELINE)
    (tmp_path / "study.yaml").write_text(STUDY)
    api.prepare(tmp_path / "tiny.yaml", home=tmp_path)
    study = api.read_study(tmp_path / "study.yaml", home=tmp_path)
    place = {"uri": "sqlite:///mlflow.db", "experiment": "launched"}
    manifest = StudyManifest.of(study, place)
    workspace = Workspace.resolve(tmp_path)
    assert as_launched(manifest, study.folder, workspace).config == study.config
    api.prepare(tmp_path / "tiny.yaml", [other], home=tmp_path)
    with pytest.raises(InputError, match="dataset 'tiny' was prepared anew since study 'launched'"):
        as_launched(manifest, study.folder, workspace)
