from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from mgstudy.study.storage.heartbeat import (
    SILENT_SECONDS,
    Driver,
    Heartbeat,
    introduce,
    read_driver,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "driver.json"


def set_back(path: Path, seconds: float, boot: str | None = None) -> None:
    """Make the last sign of life that old; ``boot``: as another machine's."""
    content = json.loads(path.read_text())
    content["moved"] -= seconds
    path.write_text(json.dumps(content if boot is None else {**content, "start": boot}))
    if boot is not None:
        then = time.time() - seconds
        os.utime(path, (then, then))


def test_a_driver_that_lives_and_does_not_move_hangs(path: Path) -> None:
    introduce(path)
    now = read_driver(path, is_alive=True)
    assert now.name.startswith(f"process {os.getpid()} on ")
    assert not now.hangs
    set_back(path, SILENT_SECONDS + 60)
    assert read_driver(path, is_alive=True).hangs
    # One that is gone does not hang.
    assert not read_driver(path, is_alive=False).hangs


def test_another_machine_goes_by_the_file(path: Path) -> None:
    introduce(path)
    set_back(path, 60, boot="another")
    assert 60 <= read_driver(path, is_alive=True).silent_seconds < SILENT_SECONDS
    set_back(path, SILENT_SECONDS + 60, boot="another")
    assert read_driver(path, is_alive=True).hangs


@pytest.mark.parametrize("hours", [-5, 5])
def test_a_clock_that_was_set_makes_no_driver_hang_or_move(path: Path, hours: int) -> None:
    introduce(path)
    then = time.time() - 3600 * hours
    os.utime(path, (then, then))
    assert 0 <= read_driver(path, is_alive=True).silent_seconds < SILENT_SECONDS
    set_back(path, SILENT_SECONDS + 60)
    os.utime(path, (then, then))
    assert read_driver(path, is_alive=True).hangs


def test_the_heartbeat_is_renewed_no_more_often_than_said(path: Path) -> None:
    introduce(path)
    set_back(path, 1000)
    Heartbeat(path, seconds=3600).on_step_begin(1, [])
    assert read_driver(path, is_alive=True).silent_seconds >= 1000
    Heartbeat(path, seconds=0).on_step_begin(1, [])
    assert read_driver(path, is_alive=True).silent_seconds < 1000


def test_a_clock_that_was_set_back_makes_no_heartbeat_of_the_future(path: Path) -> None:
    introduce(path)
    set_back(path, -3600, boot="another")
    assert read_driver(path, is_alive=True) == Driver(
        read_driver(path, is_alive=True).name, is_alive=True, silent_seconds=0.0
    )


def test_a_heartbeat_that_cannot_be_written_or_read_stops_nobody(path: Path) -> None:
    Heartbeat(path, seconds=0).on_step_begin(1, [])
    assert read_driver(path, is_alive=True) == Driver(is_alive=True)
    path.write_text("{")
    assert read_driver(path, is_alive=False) == Driver()
