"""The sections of ``gpu_check.py`` in which several processes share the card."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

import torch

from mgstudy import api
from mgstudy.study.results.summary import StudySummary
from mgstudy.study.running.gpus import CONTEXT_BYTES, mps_answers
from mgstudy.study.storage.epoch_metrics import EpochMetrics

if TYPE_CHECKING:
    from gpu_check import Check

STUDY = """\
name: {name}
factors:
  dataset: [tiktok]
  model: [{models}]
  gradient: [plain, mirror_gradient]
space: {{optimizer: {{learning_rate: {{log_float: [5.0e-4, 5.0e-3]}}}}}}
trials: {trials}
training: {{epochs: {epochs}, early_stopping: null}}
pruner: NopPruner
confirmation: null
resources: {{gpu: {gpu}}}
"""
MODELS = ("VBPR", "BM3", "FREEDOM", "LightGCN", "MMGCF")
"""Those of the TikTok study."""
MEASURED = ("VBPR", "LightGCN", "FREEDOM")
STUDY_GRADIENTS = 1_060_000
"""Gradient computations of docs/results/tiktok.md: 788,000 of 450 trials, of which 215 were pruned,
and about 275,000 of 75 confirmations."""
STUDY_TRIALS = 525
TRIAL_EPOCHS = 120
"""A typical trial that is not pruned."""
IN_TURN = {"CUDA_MPS_PIPE_DIRECTORY": "/nowhere"}
"""Keeps processes from a daemon of MPS that somebody else has started."""
ROOT = Path(__file__).parents[1]

_TRAINS = """
import sys, time
from pathlib import Path
import torch
from gpu_check import Check
torch.set_num_threads(1)
check = Check({device!r}, {rehearse!r}, Path({data!r}), Path({out!r}))
trainer = check.trainer(check.dataset(), {model!r})
epochs = trainer.epochs()
next(epochs), next(epochs)
print("ready", flush=True)
sys.stdin.readline()
count, end = 0, time.monotonic() + {seconds!r}
while time.monotonic() < end:
    next(epochs)
    count += 1
print(count)
"""


def shares(check: Check) -> None:
    """Trainings side by side: in turn, and under MPS if that is here."""
    check.dataset()
    ways: dict[str, tuple[Mapping[str, str], tuple[int, ...]]] = {"in turn": (IN_TURN, (1, 8))}
    with mps_daemon(check) as environment:
        if environment:
            ways["by MPS"] = environment, (8, 16)
        for model in MEASURED[: 1 if check.rehearse else None]:
            for way, (variables, counts) in ways.items():
                check.attempt(model, partial(_side_by_side, check, model, way, variables, counts))


def _side_by_side(
    check: Check, model: str, way: str, environment: Mapping[str, str], counts: Sequence[int]
) -> None:
    counts = (2,) if check.rehearse else counts
    rates = {count: together(check, model, count, environment) for count in counts}
    batches = -(-len(check.dataset().train) // 2048)
    said = ", ".join(
        f"{count}: {rate * batches:.0f} steps/s = {rate / TRIAL_EPOCHS * 3600:.0f} trials/h"
        for count, rate in rates.items()
    )
    check.found(f"{model:9s} {way}: {said}", model=model, way=way, epochs_per_second=rates)


def together(check: Check, model: str, count: int, environment: Mapping[str, str]) -> float:
    """Epochs per second, validations included, of so many processes that train a model at once."""
    seconds = 0.5 if check.rehearse else 4.0
    code = _TRAINS.format(
        device=check.device,
        rehearse=check.rehearse,
        data=str(check.data),
        out=str(check.out),
        model=model,
        seconds=seconds,
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parent,
            env={**os.environ, **environment, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(count)
    ]
    try:
        for process in running:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == "ready", "a training did not begin"
        for process in running:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        return sum(int(process.communicate()[0]) for process in running) / seconds
    finally:
        for process in running:
            process.kill()
            process.wait()


@contextmanager
def mps_daemon(check: Check) -> Iterator[Mapping[str, str]]:
    """CUDA's Multi-Process Service in a folder of its own, where it is installed; what processes
    need in their environment to use it, nothing without it."""
    control = shutil.which("nvidia-cuda-mps-control") if check.on_gpu else None
    if control is None:
        check.found("MPS is not here")
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="mps-") as folder:
        own = {"CUDA_MPS_PIPE_DIRECTORY": folder, "CUDA_MPS_LOG_DIRECTORY": folder}
        environment = {**os.environ, **own}
        daemon = subprocess.Popen([control, "-f"], env=environment)
        try:
            until = time.monotonic() + 10
            with patch.dict(os.environ, own):
                while not (answers := mps_answers()) and time.monotonic() < until:
                    time.sleep(0.05)
            if not answers:
                check.found("MPS does not answer")
            yield own if answers else {}
        finally:
            quitting = ["timeout", "20", control]
            subprocess.run(quitting, input="quit\n", text=True, env=environment, check=False)
            daemon.kill()
            daemon.wait()


def launches(check: Check) -> None:
    """`mgstudy launch` on Ray: trials per hour, and what the TikTok study would take."""
    gpu = "auto" if check.on_gpu else "0"
    with mps_daemon(check) as environment:
        if environment:
            check.attempt("by MPS", partial(_launch_timed, check, "by_mps", gpu, environment))
    check.attempt("in turn", partial(_launch_timed, check, "in_turn", gpu, IN_TURN))
    if check.on_gpu:
        check.attempt("packed", partial(_launch_timed, check, "packed", "packed", IN_TURN))


def _launch_timed(check: Check, name: str, gpu: str, environment: Mapping[str, str]) -> None:
    trials, epochs = (1, 2) if check.rehearse else (4, 30)
    models = MODELS[:1] if check.rehearse else MODELS
    summary, seconds, training = launched(
        check,
        environment,
        name=name,
        models=", ".join(models),
        trials=trials,
        epochs=epochs,
        gpu=gpu,
    )
    ended = sum(cell.counts["complete"] for cell in summary.cells)
    if ended != trials * len(summary.cells):
        check.failed.append(name)
    spent = sum(cell.spent("gradient_computations") for cell in summary.cells)
    # A longer study has no more of what comes before the first epoch and after the last.
    minutes = (seconds - training + STUDY_GRADIENTS * training / spent) / 60
    check.found(
        f"{name}: {ended} trials of {epochs} epochs in {seconds:.0f} s, "
        f"{ended / seconds * 3600:.0f} trials/h; "
        f"the TikTok study of {STUDY_TRIALS} trainings, estimated: {minutes:.0f} min",
        study=name,
        seconds=seconds,
        seconds_training=training,
        trials=ended,
        gradient_computations=spent,
        estimated_minutes=minutes,
    )


def launched(
    check: Check, environment: Mapping[str, str], **values: object
) -> tuple[StudySummary, float, float]:
    """Launch a study in a workspace of its own; what it came to, in how many seconds, and how many
    lay between its first epoch and its last."""
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        home = Path(folder)
        file = study_file(check, home, **values)
        command = [sys.executable, "-m", "mgstudy.cli", "launch", str(file), "--home", str(home)]
        began = time.monotonic()
        subprocess.run(command, env={**os.environ, **environment}, cwd=home, check=True)
        seconds = time.monotonic() - began
        summary = api.read_summary(str(values["name"]), home)
        times = [epoch.at for epoch, _ in EpochMetrics(summary.folder.epoch_metrics).read()]
        return summary, seconds, (max(times) - min(times)) / 1e3


def study_file(check: Check, home: Path, **values: object) -> Path:
    """Prepare the data in a workspace, and write a study file there."""
    check.dataset()
    source = f"source.path={check.data.resolve()}"
    api.prepare(ROOT / "pipelines" / "tiktok.yaml", [source], home)
    file = home / "study.yaml"
    file.write_text(STUDY.format(**values))
    return file


def memory(check: Check) -> None:
    """A share that is too small for a model: is a trial tried again with twice as much?"""
    # A little more than what a process takes without any tensor.
    share = 1.07 * CONTEXT_BYTES / torch.cuda.mem_get_info()[1] if check.on_gpu else 0.0
    values = {"models": "MMGCN", "trials": 1, "epochs": 2, "gpu": f"{share:.4f}"}
    summary, *_ = launched(check, IN_TURN, name="little_memory", **values)
    for cell in summary.cells:
        ended = {state: count for state, count in cell.counts.items() if count}
        again = len(cell.retried)
        check.found(f"{cell.key}: {ended}, tried again: {again}", ended=ended, again=again)
        if set(ended) != {"complete"} or (check.on_gpu and not again):
            check.failed.append("memory")


SECTIONS: Mapping[str, Callable[[Check], None]] = {
    section.__name__: section for section in (shares, launches, memory)
}
