from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mgstudy.environment import (
    _cpu_quotas,
    for_a_while,
    left_as_found,
    memory_limits,
    usable_cpus,
)


def test_what_is_changed_for_a_while_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MGSTUDY_A", "theirs")
    monkeypatch.delenv("MGSTUDY_B", raising=False)
    logger = logging.getLogger("mgstudy.of.a.test")
    logger.setLevel(logging.INFO)
    variables = {"MGSTUDY_A": "ours", "MGSTUDY_B": "ours"}
    with pytest.raises(ZeroDivisionError), for_a_while(variables, {logger.name: logging.ERROR}):
        assert (os.environ["MGSTUDY_A"], os.environ["MGSTUDY_B"]) == ("theirs", "ours")
        assert logger.level == logging.ERROR
        raise ZeroDivisionError
    assert os.environ["MGSTUDY_A"] == "theirs"
    assert "MGSTUDY_B" not in os.environ
    assert logger.level == logging.INFO


WITHOUT_A_HOME = """
import os, pwd

def nobody(user):
    raise KeyError(user)

os.environ.pop("HOME", None)
pwd.getpwuid = nobody
from mgstudy.errors import InputError
from mgstudy.study.running import ray_session
from mgstudy.workspace import Workspace

assert "RAY_AUTH_TOKEN" in ray_session._token()
for place in ("~/ws", "memory://team"):
    try:
        Workspace.resolve(place)
    except InputError as error:
        print(error)
"""


def test_nobody_needs_a_home() -> None:
    told = subprocess.run(
        [sys.executable, "-c", WITHOUT_A_HOME],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert told.stdout.splitlines() == [
        "~/ws: nobody's home is known by `~` here",
        "~/.cache/mgstudy: nobody's home is known by `~` here",
    ]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux binds processes to CPUs")
def test_a_process_uses_the_cpus_that_it_is_bound_to() -> None:
    one = str(min(os.sched_getaffinity(0)))
    command = "from mgstudy.environment import usable_cpus; print(usable_cpus())"
    bound = subprocess.run(
        ["taskset", "-c", one, sys.executable, "-c", command],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert bound.stdout == "1\n"


def test_what_slurm_has_allocated_is_no_more_than_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_CPUS_ON_NODE", raising=False)
    of_ours = usable_cpus()
    for allocated, usable in (("1", 1), ("100000", of_ours), ("", of_ours), ("2(x3)", of_ours)):
        monkeypatch.setenv("SLURM_CPUS_ON_NODE", allocated)
        assert usable_cpus() == usable


@pytest.mark.parametrize(
    ("groups", "files", "quotas"),
    [
        ("0::/", {"cpu.max": "max 100000"}, []),
        ("0::/", {"cpu.max": "150000 100000"}, [1.5]),
        ("0::/a/job", {"a/cpu.max": "400000 100000", "a/job/cpu.max": "50000 100000"}, [0.5, 4.0]),
        ("0::/the/host's/path", {"cpu.max": "200000 100000"}, [2.0]),
        (
            "5:cpu,cpuacct:/job\n4:memory:/job",
            {
                "cpu,cpuacct/job/cpu.cfs_quota_us": "300000",
                "cpu,cpuacct/job/cpu.cfs_period_us": "100000",
                "memory/cpu.max": "100000 100000",
            },
            [3.0],
        ),
        (
            "5:cpu:/",
            {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"},
            [],
        ),
    ],
)
def test_quotas_of_control_groups_are_read(
    groups: str, files: dict[str, str], quotas: list[float], tmp_path: Path
) -> None:
    assert _cpu_quotas(tmp_path) == []
    in_groups(tmp_path, groups, files)
    assert sorted(_cpu_quotas(tmp_path)) == quotas


def in_groups(root: Path, groups: str, files: dict[str, str]) -> None:
    """A process's control groups, as a root of the file system has them."""
    files = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    for name, text in {"proc/self/cgroup": groups, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")


@pytest.mark.parametrize(
    ("groups", "files", "limits"),
    [
        ("0::/", {"memory.max": "max"}, []),
        ("0::/a/job", {"a/memory.max": "8589934592", "a/job/memory.max": "max"}, [8 * 2**30]),
        (
            "5:cpu:/\n4:memory:/job",
            {"memory/job/memory.limit_in_bytes": "4294967296", "cpu/memory.max": "1"},
            [4 * 2**30],
        ),
    ],
)
def test_limits_of_memory_of_control_groups_are_read(
    groups: str, files: dict[str, str], limits: list[int], tmp_path: Path
) -> None:
    assert memory_limits(tmp_path) == []
    in_groups(tmp_path, groups, files)
    assert memory_limits(tmp_path) == limits


def test_what_a_library_changes_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MGSTUDY_A", "theirs")
    monkeypatch.setenv("MGSTUDY_B", "theirs")
    logger, handler = logging.getLogger("mgstudy.of.a.test"), logging.NullHandler()
    logger.setLevel(logging.INFO)
    interrupt = signal.getsignal(signal.SIGINT)
    with pytest.raises(ZeroDivisionError), left_as_found():
        os.environ.update({"MGSTUDY_A": "ours", "MGSTUDY_C": "ours"})
        del os.environ["MGSTUDY_B"]
        logger.setLevel(logging.ERROR)
        logger.addHandler(handler)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise ZeroDivisionError
    assert (os.environ["MGSTUDY_A"], os.environ["MGSTUDY_B"]) == ("theirs", "theirs")
    assert "MGSTUDY_C" not in os.environ
    assert (logger.level, logger.handlers) == (logging.INFO, [])
    assert signal.getsignal(signal.SIGINT) is interrupt


def test_another_thread_than_the_main_one_leaves_signals_alone() -> None:
    ended = []

    def work() -> None:
        with left_as_found():
            pass
        ended.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60)
    assert ended == [True]
