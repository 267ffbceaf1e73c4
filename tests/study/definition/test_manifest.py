from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from states import summary_of

from mgstudy.errors import MgstudyError
from mgstudy.study.definition.manifest import FORMAT, StudyManifest
from mgstudy.study.storage.layout import StudyFolder


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
        (f'{{"format": {FORMAT}, "name": 3}}', "cannot be read: name: Input should be a valid"),
        ("[" * 100_000, "cannot be read: "),
    ],
)
def test_a_damaged_manifest_is_said(written: StudyFolder, content: str, complaint: str) -> None:
    written.manifest.write_text(content)
    with pytest.raises(MgstudyError, match=rf"study\.json: {re.escape(complaint)}") as raised:
        StudyManifest.read(written)
    assert "\n" not in str(raised.value)


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


def test_a_missing_manifest_is_said(tmp_path: Path) -> None:
    with pytest.raises(MgstudyError, match="No such file"):
        StudyManifest.read(StudyFolder(tmp_path))
