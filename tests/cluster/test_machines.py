"""What is found on machines, and what is said about it."""

from __future__ import annotations

import os
import platform
import shutil
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from mgstudy.cluster import machines
from mgstudy.cluster.machines import Finding, Machine, check_clock, check_versions, look
from mgstudy.study.running import gpus

VERSIONS = {**machines.installed_versions(), "mgstudy": "0.1.0", "ray": "2.60.0"}


def bad(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.level != "fine"]


@pytest.fixture
def good_machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the system and torch say of a good machine, to be changed by a test."""
    facts: dict[str, Any] = {"disk": 10**11, "shared": 10 * 2**30, "gpus": [], "cuda": None}
    facts |= {"memory": 32 * 2**30, "cpus": 4}

    def disk_usage(path: Path) -> SimpleNamespace:
        shared = path == Path("/dev/shm")
        return SimpleNamespace(free=facts["disk"], total=facts["shared"] if shared else 10**12)

    def zeros(*_: object, **__: object) -> None:
        if facts["cuda"]:
            raise RuntimeError(facts["cuda"])

    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=facts["memory"]))
    monkeypatch.setattr(machines, "usable_cpus", lambda: facts["cpus"])
    monkeypatch.setattr(machines, "memory_limits", list)
    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(facts["gpus"]))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: facts["gpus"][index])
    monkeypatch.setattr(torch, "zeros", zeros)
    monkeypatch.setattr(machines, "_SHARED_MEMORY", Path("/dev/shm"))
    monkeypatch.setattr(machines.sys, "platform", "linux")
    return facts


def test_this_machine_is_described_as_it_is(tmp_path: Path) -> None:
    machine = look(tmp_path)
    assert machine.versions["Python"] == platform.python_version()
    assert machine.versions["ray"] == version("ray")
    texts = [finding.text for finding in machine.findings]
    assert f"Python {platform.python_version()}, mgstudy " in texts[0]
    assert texts[1].startswith(f"{os.cpu_count()} CPUs, ")
    free = shutil.disk_usage(tmp_path).free / 10**9
    assert int(texts[3].split()[0]) == pytest.approx(free, rel=0.1)


def test_a_good_machine_gets_no_advice(
    good_machine: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    good_machine["gpus"] = ["NVIDIA A10G"]
    found = look().findings
    assert bad(found) == []
    said = "GPUs: NVIDIA A10G; trials on one run"
    assert f"{said} by time slicing, in turn" in [finding.text for finding in found]
    monkeypatch.setattr(gpus, "mps_answers", lambda: True)
    assert f"{said} by MPS, together" in [finding.text for finding in look().findings]


@pytest.mark.parametrize(
    ("change", "text", "advice"),
    [
        ({"cpus": 1}, "1 CPU, 32 GiB memory: one trial at a time", "plan STUDY --measure"),
        ({"memory": 4 * 2**30}, "4 CPUs, 4 GiB memory: room for few", "max_concurrent: 1"),
        ({"disk": 10**9}, "1 GB disk free", "free some"),
        ({"shared": 2**26}, "0.1 GiB shared memory", "--shm-size"),
        ({"gpus": ["NVIDIA A10G"], "cuda": "driver too old"}, "driver too old", "torch build"),
    ],
)
def test_every_shortage_is_said_with_what_to_do(
    change: dict[str, object], text: str, advice: str, good_machine: dict[str, Any]
) -> None:
    good_machine |= change
    [finding] = bad(look().findings)
    assert text in finding.text
    assert advice in finding.advice


def machine(host: str, **versions: str) -> Machine:
    return Machine(host, {**VERSIONS, **versions}, 0.0, [])


def test_nodes_with_other_versions_are_named() -> None:
    one, other = machine("node1", torch="2.13.0"), machine("node2", torch="2.8.0")
    [finding] = check_versions([one, other], {})
    assert finding.level == "problem"
    assert finding.subject == "torch"
    assert "node1 has 2.13.0, node2 has 2.8.0" in finding.text
    assert check_versions([one, one], {}) == []


@pytest.mark.parametrize(
    ("theirs", "levels"),
    [
        ({"mgstudy": "0.1.0", "ray": "2.60.0", "torch": "1.0"}, {}),
        ({"ray": "2.60.7"}, {}),
        ({"ray": "2.61.0"}, {"ray": "warning"}),
        ({"mgstudy": "0.0.1"}, {"mgstudy": "problem"}),
    ],
)
def test_the_submitting_side_must_have_the_same_mgstudy(
    theirs: dict[str, str], levels: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machines, "installed_versions", lambda: VERSIONS)
    findings = check_versions([machine("head")], theirs)
    assert {finding.subject: finding.level for finding in findings} == levels
    assert all(f"{theirs[f.subject]} here, {VERSIONS[f.subject]} on" in f.text for f in findings)


def test_a_clock_is_wrong_from_two_seconds_on_in_either_direction() -> None:
    offsets = {"a": 2.1, "b": -60.0, "c": 1.9, "d": -1.9}
    [ahead, behind] = [f for host, seconds in offsets.items() for f in check_clock(host, seconds)]
    assert (ahead.subject, behind.subject) == ("a", "b")
    assert "2.1 s ahead" in ahead.text
    assert "60.0 s behind" in behind.text
