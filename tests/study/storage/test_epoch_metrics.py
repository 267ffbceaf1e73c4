"""What epochs measured, on disks that fill up and in workspaces that several machines share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from disks import small_disk

from mgstudy.errors import MgstudyError
from mgstudy.study.storage import epoch_metrics
from mgstudy.study.storage.epoch_metrics import EpochMetrics
from mgstudy.study.storage.layout import StudyFolder
from mgstudy.workspace import Workspace

OnMachine = Callable[[str], StudyFolder]


def steps(metrics: EpochMetrics) -> list[int]:
    return [epoch.step for epoch, _ in metrics.read()]


def test_an_epoch_that_a_full_disk_took_half_of_spoils_none_after_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with small_disk(tmp_path / "disk", "64k") as disk:
        metrics = EpochMetrics(disk / "metrics.jsonl")
        metrics.add("a", 1, {"x": 0.1})
        ballast = disk / "ballast"
        with pytest.raises(OSError, match="No space left"), ballast.open("wb", 0) as file:
            while True:
                file.write(bytes(4096))
        written = 1
        while not caplog.records:
            written += 1
            metrics.add("a", written, {"x": 0.1})
        assert not metrics.path.read_bytes().endswith(b"\n"), "it has taken half a line"
        metrics.add("a", written + 1, {"x": 0.1})
        assert len(caplog.records) == 1
        ballast.unlink()
        metrics.add("a", written + 2, {"x": 0.1})
        assert steps(metrics) == [*range(1, written), written + 2]
        assert steps(EpochMetrics(disk / "metrics.jsonl")) == steps(metrics)


def test_what_is_damaged_is_said_before_anything_is_added(tmp_path: Path) -> None:
    metrics = EpochMetrics(tmp_path / "metrics.jsonl")
    metrics.begin()
    metrics.add("a", 1, {"x": 0.1})
    metrics.path.write_bytes(metrics.path.read_bytes() + b"rubbish\n")
    with pytest.raises(MgstudyError, match=r"metrics\.jsonl: cannot be read"):
        EpochMetrics(metrics.path).begin()


def test_a_disk_that_takes_nothing_stops_no_study_that_begins(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    EpochMetrics(tmp_path / "file" / "metrics.jsonl").begin()
    assert "MLflow misses records" in caplog.text


def test_the_epochs_of_one_machine_are_read_and_gone_on_with_on_another(
    on_machine: OnMachine,
) -> None:
    first = EpochMetrics.of(on_machine("first"))
    first.add("a", 1, {"x": 0.1})
    first.publish()
    second = EpochMetrics.of(on_machine("second"))
    assert steps(second) == [1]
    second.add("a", 1, {"x": 0.2})
    second.add("a", 2, {"x": 0.2})
    second.publish()
    again = EpochMetrics.of(on_machine("first"))
    assert [(epoch.step, epoch.metrics["x"]) for epoch, _ in again.read()] == [(1, 0.1), (2, 0.2)]


def test_epochs_that_were_not_published_yet_survive_those_that_were(on_machine: OnMachine) -> None:
    killed = EpochMetrics.of(on_machine("first"))
    killed.add("a", 1, {"x": 0.1})
    killed.publish()
    killed.add("a", 2, {"x": 0.1})
    assert steps(EpochMetrics.of(on_machine("first"))) == [1, 2]


def test_epochs_are_published_now_and_then(
    on_machine: OnMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    seldom = EpochMetrics.of(on_machine("first"))
    seldom.add("a", 1, {"x": 0.1})
    assert steps(EpochMetrics.of(on_machine("second"))) == []
    monkeypatch.setattr(epoch_metrics, "_SECONDS_UNPUBLISHED", -1.0)
    monkeypatch.setattr(epoch_metrics, "_PAUSES", -1)
    always = EpochMetrics.of(on_machine("first"))
    for step in (2, 3):
        always.add("a", step, {"x": 0.1})
        assert steps(EpochMetrics.of(on_machine("second"))) == list(range(1, step + 1))


def test_a_workspace_that_takes_nothing_stops_no_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "shared").mkdir()
    monkeypatch.setenv("MGSTUDY_CACHE", str(tmp_path / "cache"))
    folder = StudyFolder.of(Workspace.resolve(f"file://{tmp_path}/shared/file/x"), "s")
    metrics = EpochMetrics.of(folder)
    (tmp_path / "shared" / "file").touch()
    metrics.add("a", 1, {"x": 0.1})
    metrics.publish()
    assert "cannot be reached" in caplog.text and steps(metrics) == [1]
