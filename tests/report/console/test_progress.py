"""What takes long says how far it is."""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from mgstudy.report.console.progress import RobustnessProgress, progress_bar
from mgstudy.study.definition.cell import Cell
from mgstudy.study.robustness.plan import Task, TrainedCell


def shown(console: Console) -> str:
    assert isinstance(console.file, StringIO)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", console.file.getvalue())


def test_a_terminal_shows_how_many_of_how_many_and_bytes_as_such() -> None:
    console = Console(file=StringIO(), force_terminal=True, width=100)
    with progress_bar(console) as progress:
        for done in (0, 1200):
            progress("encode images", done, 36_000)
        progress("read a.csv", 2_000_000, 5_000_000)
    assert "1,200 of 36,000" in shown(console)
    assert "2.0 MB of 5.0 MB" in shown(console)


def test_elsewhere_what_takes_long_is_told_in_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    console = Console(file=StringIO(), width=100)
    with progress_bar(console, every=15) as progress:
        for now, done in ((0.0, 100), (10.0, 200), (20.0, 300), (30.0, 400), (40.0, 500)):  # noqa: B007
            progress("encode text", done, 1_100)
        now = 41.0
        progress("write text", 1_100, 1_100)
    assert shown(console).splitlines() == [
        "encode text: 300 of 1,100; elapsed 20 s, remaining about 1 min 20 s",
        "encode text: 500 of 1,100; elapsed 40 s, remaining about 1 min 0 s",
    ]


def test_measured_models_are_named_by_the_factors_that_they_have() -> None:
    """Which another cell, of an earlier launch, may have had one more of."""
    levels = {"dataset": "a", "model": "BPR", "gradient": "plain"}
    cell = Cell(levels, "a", "BPR", "plain", (), "adam", 7, {})
    trained, task = TrainedCell(cell, "k", 0, 7, {}, Path(), "test"), Task("clean", "t")
    console = Console(file=StringIO(), width=100)
    factors = ["model", "completion", "gradient"]
    with RobustnessProgress([(trained, [task])], factors, "recall@20", console).shown() as advance:
        advance(trained, task, [])
    assert "[1/1] BPR plain, seed 7 measured;" in shown(console)
