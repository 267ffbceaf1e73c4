"""Measurements on disk: whole lines count, torn ones do not."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from mgstudy.errors import MgstudyError
from mgstudy.study.robustness.results import RobustnessResults
from mgstudy.study.storage.layout import StudyFolder


def test_what_was_appended_is_read_and_a_torn_line_is_dropped(tmp_path: Path) -> None:
    results = RobustnessResults(StudyFolder(tmp_path / "study"))
    assert results.read() == {}
    with results.writing():
        results.append("a", [{"kind": "clean", "value": 0.1 + 0.2}])
        results.append("b", [{"kind": "flatness", "top_eigenvalue": math.nan}])
    with results.log.open("ab") as file:
        file.write(b'{"task": "c", "measu')
    found = results.read()
    assert found["a"] == [{"kind": "clean", "value": 0.1 + 0.2}]
    assert math.isnan(found["b"][0]["top_eigenvalue"])
    assert set(found) == {"a", "b"}
    with results.writing():
        results.append("c", [])
    assert set(results.read()) == {"a", "b", "c"}


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    results = RobustnessResults(StudyFolder(tmp_path))
    with results.writing():
        results.append("a", [])
        results.log.write_bytes(results.log.read_bytes() + b"rubbish\n")
        with pytest.raises(MgstudyError, match=r"measurements\.jsonl:2: cannot be read .*delete"):
            results.read()
