"""A study that is stopped from outside, and goes on where it was."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pexpect
import psutil
import pytest
from mlflow.tracking import MlflowClient
from programs import MGSTUDY, started
from waiting import wait_until

from mgstudy import api
from mgstudy.errors import MgstudyError
from mgstudy.study.results.summary import StudySummary, summarize
from mgstudy.workspace import Workspace

pytestmark = pytest.mark.integration

DEADLINE = 180.0
STUDY = """\
name: gated
factors:
  dataset: [tiny]
  model: ['their_parts:Gated']
space:
  model: {embedding_size: 4, regularization: 0.01}
  optimizer: {learning_rate: {log_float: [1e-3, 1e-1]}}
trials: 4
confirmation: null
training: {epochs: 6, batch_size: 128, objective: ndcg@5, cutoffs: [5]}
pruner: NopPruner
resources: {max_concurrent: 2}
"""


@contextmanager
def launching(home: Path) -> Iterator[subprocess.Popen[str]]:
    """Type ``mgstudy launch`` in a terminal."""
    with started(MGSTUDY, "launch", "gated.yaml", cwd=home) as process:
        yield process


def two_at_the_gate(home: Path) -> Callable[[], bool]:
    """Whether two more trials have come to the gate than when this was called."""
    before = len(list(home.glob("waiting-*")))
    return lambda: len(list(home.glob("waiting-*"))) == before + 2


def look(home: Path) -> StudySummary:
    return summarize(Workspace(home), "gated")


def stop(process: subprocess.Popen[str], send: Callable[[], None]) -> str:
    """Send a signal; what the process printed before it ended with 130."""
    send()
    out, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 130, (out, err)
    assert "Traceback" not in out + err
    return out


def watch_and_interrupt(home: Path) -> None:
    """Type ``mgstudy status --watch`` in a terminal, and Ctrl-C once the study is seen to run."""
    terminal = pexpect.spawn(
        str(MGSTUDY),
        ["status", "gated", "--watch"],
        env={**os.environ, "TERM": "xterm"},
        cwd=str(home),
        encoding="utf-8",
        timeout=DEADLINE,
        dimensions=(40, 120),
    )
    terminal.expect_exact("study gated: running; 0 of 4 trials, 0 failed; remaining unknown")
    terminal.sendintr()
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 130
    assert "Traceback" not in str(terminal.before)


def test_a_study_survives_interruptions_with_no_trial_lost_or_doubled(home: Path) -> None:
    (home / "gated.yaml").write_text(STUDY)
    folder = api.read_study(home / "gated.yaml").folder

    # Ctrl-C while Ray starts.
    with launching(home) as process:
        wait_until(folder.manifest.exists, process=process)
        stop(process, lambda: os.killpg(process.pid, signal.SIGINT))
    assert look(home).cells[0].counts["waiting"] == 4

    # SIGTERM while Ray starts, which a batch system sends to the driver alone.
    with launching(home) as process:
        wait_until(lambda: psutil.Process(process.pid).children(), process=process)
        stop(process, process.terminate)

    # Ctrl-C in the middle of an epoch, which reaches every process of the terminal.
    arrived = two_at_the_gate(home)
    with launching(home) as process:
        wait_until(arrived, process=process)
        running = look(home)
        assert running.driven
        assert running.driver.name.startswith(f"process {process.pid} on ")
        assert running.stale == 0
        assert running.cells[0].counts == {
            "complete": 0, "pruned": 0, "failed": 0, "running": 2, "waiting": 2
        }  # fmt: skip
        with pytest.raises(MgstudyError, match=rf"already being driven by process {process.pid} "):
            api.launch(api.read_study(home / "gated.yaml"))
        watch_and_interrupt(home)
        assert process.poll() is None
        out = stop(process, lambda: os.killpg(process.pid, signal.SIGINT))
        assert "interrupted; the same command goes on where it stopped" in out
    assert not look(home).driven
    assert look(home).stale == 2
    interrupted = look(home).cells[0]
    assert interrupted.counts["waiting"] == 4
    assert [list(trial.values) for trial in interrupted.trials] == [[1, 2, 3]] * 2

    # SIGTERM, which a batch system sends to the driver alone.
    arrived = two_at_the_gate(home)
    with launching(home) as process:
        wait_until(arrived, process=process)
        stop(process, process.terminate)
    assert [trial.number for trial in look(home).cells[0].trials] == [0, 1]

    # To the end.
    (home / "gate").touch()
    with launching(home) as process:
        out, err = process.communicate(timeout=DEADLINE)
        assert process.returncode == 0, (out, err)
    (cell,) = look(home).cells
    assert cell.counts["complete"] == 4
    assert cell.finished
    assert [trial.number for trial in cell.trials] == [0, 1, 2, 3]
    assert all(list(trial.values) == [1, 2, 3, 4, 5, 6] for trial in cell.trials)
    for before, after in zip(interrupted.trials, cell.trials, strict=False):
        assert after.parameters == before.parameters
        assert {step: after.values[step] for step in before.values} == before.values
    assert len({trial.parameters["optimizer.learning_rate"] for trial in cell.trials}) == 4

    # MLflow has one run for each, without doubled steps.
    client = MlflowClient(f"sqlite:///{home}/mlflow.db")
    experiment = client.get_experiment_by_name("gated")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    by_key = {run.data.tags.get("mgstudy.trial"): run for run in runs}
    assert len(runs) == len(by_key) == 5
    assert by_key[None].data.tags["mgstudy.role"] == "study"
    for trial in cell.trials:
        run = by_key[f"{cell.key}/{trial.number}"]
        history = client.get_metric_history(run.info.run_id, "validation/ndcg_at_5")
        assert [(point.step, point.value) for point in history] == list(trial.values.items())
        assert run.data.tags["mgstudy.state"] == "complete"
    assert {run.info.status for run in runs} == {"FINISHED"}
