"""What is found on machines, and what is said about it."""

from __future__ import annotations

import dataclasses
import os
import platform
import shutil
from importlib.metadata import version
from pathlib import Path

import pytest

from mgstudy.cluster.findings import Finding, Level
from mgstudy.cluster.probe import (
    Machine,
    check_agreement,
    check_clocks,
    check_machine,
    look,
)

GOOD = Machine(
    host="node1",
    python="3.11.7",
    packages={"mgstudy": "0.1.0", "ray": "2.60.0", "torch": "2.13.0", "optuna": "5", "mlflow": "3"},
    cpus=8,
    memory=32 * 2**30,
    gpus=["NVIDIA A10G"],
    cuda_error="",
    disk_free=10**11,
    shared_memory=10 * 2**30,
    clock=0.0,
)


def bad(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.level is not Level.FINE]


def test_this_machine_is_described_as_it_is(tmp_path: Path) -> None:
    machine = look(tmp_path)
    assert machine.python == platform.python_version()
    assert machine.cpus == os.cpu_count()
    assert machine.packages["ray"] == version("ray")
    assert machine.disk_free == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.1)


def test_a_good_machine_gets_no_advice() -> None:
    assert bad(check_machine(GOOD)) == []


@pytest.mark.parametrize(
    ("change", "text", "advice"),
    [
        ({"disk_free": 10**9}, "1 GB disk free", "free some"),
        ({"shared_memory": 2**26}, "0.1 GiB shared memory", "--shm-size"),
        ({"cuda_error": "driver too old", "gpus": []}, "driver too old", "torch build"),
    ],
)
def test_every_shortage_is_said_with_what_to_do(
    change: dict[str, object], text: str, advice: str
) -> None:
    [finding] = bad(check_machine(dataclasses.replace(GOOD, **change)))  # type: ignore[arg-type]
    assert text in finding.text
    assert advice in finding.advice


def test_nodes_with_other_versions_are_named() -> None:
    other = dataclasses.replace(GOOD, host="node2", packages={**GOOD.packages, "torch": "2.8.0"})
    [finding] = check_agreement([GOOD, other])
    assert finding.level is Level.PROBLEM
    assert finding.subject == "torch"
    assert "node1 has 2.13.0, node2 has 2.8.0" in finding.text
    assert check_agreement([GOOD, GOOD]) == []


def test_a_clock_is_wrong_from_two_seconds_on_in_either_direction() -> None:
    [ahead, behind] = check_clocks({"a": 2.1, "b": -60.0, "c": 1.9, "d": -1.9})
    assert (ahead.subject, behind.subject) == ("a", "b")
    assert "2.1 s ahead" in ahead.text
    assert "60.0 s behind" in behind.text


def test_findings_survive_the_way_through_json() -> None:
    finding = Finding(Level.WARNING, "disk", "full", "empty it")
    assert Finding.from_content(finding.content()) == finding
    assert finding.line == "disk: full; empty it"
