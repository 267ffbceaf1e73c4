"""The helper with which tests start programs."""

from __future__ import annotations

import signal
import sys

import psutil
import pytest
from programs import finished, started
from waiting import wait_until

STARTS = """
import signal, sys
sys.path.insert(0, sys.argv[1])
signal.signal(signal.SIGINT, signal.SIG_IGN)
from programs import finished, restore_signals
restore_signals()
child = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
print(finished(sys.executable, "-c", child).stdout)
"""
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
print(child.pid, flush=True)
sys.stdin.read()
"""


def test_a_program_can_be_interrupted_though_this_one_was_started_in_the_background(
    pytestconfig: pytest.Config,
) -> None:
    helpers = pytestconfig.rootpath / "tests" / "helpers"
    assert finished(sys.executable, "-c", STARTS, helpers).stdout.strip() == "True"
    assert signal.getsignal(signal.SIGINT) is not signal.SIG_IGN


def test_what_is_left_running_is_killed_with_all_it_has_started() -> None:
    with started(sys.executable, "-c", PARENT) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert psutil.pid_exists(child)
    assert process.returncode == -signal.SIGKILL
    wait_until(lambda: not _runs(child))


def test_what_outlives_its_time_is_killed_and_reading_ends() -> None:
    with started(sys.executable, "-c", PARENT, seconds=2.0) as process:
        assert process.stdout is not None
        assert len(process.stdout.readlines()) == 1
    with pytest.raises(AssertionError, match="-9"):
        finished(sys.executable, "-c", "import signal; signal.pause()", seconds=1.0)


def test_another_end_than_the_expected_says_what_was_printed() -> None:
    with pytest.raises(AssertionError, match="so it was"):
        finished(sys.executable, "-c", "raise SystemExit('so it was')")
    assert finished(sys.executable, "-c", "exit(3)", code=3).returncode == 3


def _runs(process_id: int) -> bool:
    try:
        return psutil.Process(process_id).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
