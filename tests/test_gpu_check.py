"""The check on a real card, rehearsed where there is none."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from programs import finished

from mgstudy import api
from mgstudy.models.bpr import BPR

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
REHEARSED = ["--device", "cpu", "--rehearse"]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(BENCHMARKS)
    before = set(sys.modules)
    yield importlib.import_module("gpu_check")
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(BENCHMARKS)):
            del sys.modules[name]


def test_every_section_is_rehearsed(
    benchmark: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """But for those that start processes."""
    alone = [*benchmark.PARTS["A"], "epochs", "kernels", "graphs", "stacks"]
    for section in alone:
        words = ["A", *REHEARSED, "--out", str(tmp_path), "--section", section]
        assert benchmark.main(words) == 0, capfd.readouterr()
    lines = [json.loads(line) for line in (tmp_path / "found.jsonl").read_text().splitlines()]
    found = {section: [line for line in lines if line["section"] == section] for section in alone}
    assert found["facts"][1]["launch_us"] > 0
    models = [line["model"] for line in found["agree"]]
    assert len(models) == 3
    assert all(line["same_twice"] and not any(line["apart"].values()) for line in found["agree"])
    assert all(line["same"] for line in found["resume"])
    timed = [line for line in found["epochs"] if "model" in line]
    assert [line["model"] for line in timed] == models
    assert all(line["of_bandwidth"] > 0 and line["steps_per_second"] > 0 for line in timed)
    (product, *_) = [line for line in found["kernels"] if line["what"].startswith("sparse")]
    assert {"one_thread_a_row", "csr", "pieces_of_64"} <= product.keys()


def test_other_numbers_the_second_time_fail_the_check(
    benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss, factors = BPR.loss, iter(range(1, 1000))
    monkeypatch.setattr(BPR, "loss", lambda self, batch: loss(self, batch) * next(factors))
    words = ["A", *REHEARSED, "--out", str(tmp_path), "--section", "agree"]
    assert benchmark.main(words) == 1
    found = [json.loads(line) for line in (tmp_path / "found.jsonl").read_text().splitlines()]
    assert [line["same_twice"] for line in found if line.get("model") == "BPR"] == [False]


def test_the_study_that_is_launched_can_be(benchmark: ModuleType, tmp_path: Path) -> None:
    together = sys.modules["gpu_together"]
    check = benchmark.Check("cpu", True, tmp_path / "tiktok", tmp_path)
    models = ", ".join(together.MODELS)
    values = {"name": "in_turn", "models": models, "trials": 4, "epochs": 30}
    for gpu in ("auto", "packed", "0"):
        file = together.study_file(check, tmp_path, **values, gpu=gpu)
        study = api.read_study(file, home=tmp_path)
        assert len(study.plan.cells) == 10
        assert study.config.resources.gpu == (0 if gpu == "0" else gpu)


def test_a_section_that_hangs_costs_its_own_time_only(
    benchmark: ModuleType, tmp_path: Path
) -> None:
    hangs = "print('begun', flush=True); import signal; signal.pause()"
    command = [sys.executable, "-c", hangs]
    log = tmp_path / "log"
    assert benchmark.run_limited([sys.executable, "-c", "exit(3)"], 60, log) == "exit 3"
    assert benchmark.run_limited(command, 1.0, log) == "stopped after 1 s"
    assert log.read_text() == "begun\n"


def test_what_does_not_fit_into_the_time_is_named(
    benchmark: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert benchmark.main(["A", *REHEARSED, "--out", str(tmp_path), "--deadline", "9"]) == 1
    last = capsys.readouterr().out.splitlines()[-len(benchmark.PARTS["A"]) :]
    assert last[0] == "facts    not begun: 9 s left"
    assert all("not begun" in line for line in last)


@pytest.mark.integration
def test_the_program_says_how_each_section_ended(tmp_path: Path) -> None:
    script, out = BENCHMARKS / "gpu_check.py", tmp_path / "out"
    words = [*REHEARSED, "--out", out, "--only", "facts", "shares"]
    said = finished(sys.executable, script, "A", "B", *words).stdout
    assert "a tiny operation" in said
    assert "VBPR      in turn: 2: " in said
    assert [line.split()[0] for line in said.splitlines()[-2:]] == ["facts", "shares"]
    assert all(line.endswith("exit 0") for line in said.splitlines()[-2:])
