from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from mgstudy.study.heartbeat import SILENT_SECONDS, Driver, Heartbeat, introduce, read_driver


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "driver.json"


def set_back(path: Path, seconds: float) -> None:
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


def test_the_heartbeat_is_renewed_no_more_often_than_said(path: Path) -> None:
    introduce(path)
    set_back(path, 1000)
    Heartbeat(path, seconds=3600).on_step_begin(1, [])
    assert read_driver(path, is_alive=True).silent_seconds >= 1000
    Heartbeat(path, seconds=0).on_step_begin(1, [])
    assert read_driver(path, is_alive=True).silent_seconds < 1000


def test_a_clock_that_was_set_back_makes_no_heartbeat_of_the_future(path: Path) -> None:
    introduce(path)
    set_back(path, -3600)
    assert read_driver(path, is_alive=True) == Driver(
        read_driver(path, is_alive=True).name, is_alive=True, silent_seconds=0.0
    )


def test_a_heartbeat_that_cannot_be_written_or_read_stops_nobody(path: Path) -> None:
    Heartbeat(path, seconds=0).on_step_begin(1, [])
    assert read_driver(path, is_alive=True) == Driver(is_alive=True)
    path.write_text("{")
    assert read_driver(path, is_alive=False) == Driver()
