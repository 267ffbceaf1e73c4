"""Measurements on disk: whole lines count, torn ones do not."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

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


OnMachine = Callable[[str], StudyFolder]


def test_machines_add_to_the_measurements_of_each_other(on_machine: OnMachine) -> None:
    first, second = (RobustnessResults(on_machine(name)) for name in ("first", "second"))
    with pytest.raises(KeyboardInterrupt), first.writing():
        first.append("a", [])
        assert second.read() == {}
        raise KeyboardInterrupt
    assert set(second.read()) == {"a"}
    with first.writing(), second.writing():
        first.append("b", [])
        second.append("c", [])
    for results in (first, second, RobustnessResults(on_machine("third"))):
        assert set(results.read()) == {"a", "b", "c"}
    published = first.folder.published(first.log)
    assert published is not None and len(published.splitlines()) == 3


def test_a_measurement_that_was_not_published_survives_those_that_were(
    on_machine: OnMachine,
) -> None:
    killed, other = (RobustnessResults(on_machine(name)) for name in ("killed", "other"))
    with killed.writing():
        killed.append("a", [])
    killed.append("b", [{"here": 1}])
    with other.writing():
        other.append("b", [{"there": 1}])
        other.append("c", [])
    assert killed.read() == {"a": [], "b": [{"there": 1}], "c": []}
    killed.append("d", [])
    with killed.writing():
        pass
    assert set(other.read()) == {"a", "b", "c", "d"}


def test_measurements_that_no_machine_else_can_have_now_are_kept(
    on_machine: OnMachine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    results = RobustnessResults(on_machine("first"))

    def away(files: MemoryFileSystem, *paths: str, **settings: object) -> None:
        raise RuntimeError("the store is away")  # Of no kind that Python knows, as some raise.

    with monkeypatch.context() as patched, results.writing():
        results.append("a", [])
        patched.setattr(MemoryFileSystem, "put_file", away)
        results.publish()
    assert (
        "machines/.mgstudy/studies/s/robustness/measurements.jsonl: cannot be reached: the s"
        in (caplog.text)
    )
    assert set(results.read()) == {"a"}
    with results.writing():
        pass
    assert set(RobustnessResults(on_machine("second")).read()) == {"a"}
