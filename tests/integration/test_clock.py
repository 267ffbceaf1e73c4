"""A study while the clock is set an hour forwards and two back, again and again."""

from __future__ import annotations

import itertools
import shutil
import sys
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from programs import MGSTUDY, finished
from undisturbed import check_against_the_library

from mgstudy import api
from mgstudy.study.results.summary import summarize
from mgstudy.study.storage.epoch_metrics import EpochMetrics

pytestmark = pytest.mark.integration

HOUR = 3600
PARTS = '''
import json
import os
import time
from pathlib import Path

from mgstudy.models.bpr import BPR

SHIFTS = {2: 3600, 4: -3600, 6: 0}


def last_recorded_step():
    record = Path(os.environ["RECORD"])
    lines = record.read_bytes().splitlines(keepends=True) if record.exists() else []
    return json.loads(lines[-1]).get("step") if lines and lines[-1].endswith(b"\\n") else None


class Jumping(BPR):
    """Sets the clock that everything sees, where there is one to be set, once the driver has
    recorded what came before."""

    name = "jumping"

    def before_epoch(self, epoch):
        super().before_epoch(epoch)
        if epoch in SHIFTS and "SHIFTED_CLOCK" in os.environ:
            while last_recorded_step() != epoch:
                time.sleep(0.01)
            with open(os.environ["SHIFTED_CLOCK"], "r+") as file:
                file.write(f"{SHIFTS[epoch]:<16}")
'''
STUDY = """\
name: jumping
factors:
  dataset: [tiny]
  model: ['jumping_parts:Jumping']
space:
  model: {embedding_size: 4, regularization: 0.01}
  optimizer: {learning_rate: {choice: [0.05, 0.02, 0.01]}}
trials: 3
training: {epochs: 8, batch_size: 128, objective: ndcg@5, cutoffs: [5], early_stopping: null}
sampler: GridSampler
pruner: NopPruner
start_with_defaults: false
confirmation: {seeds: 0}
resources: {max_concurrent: 1}
checkpoints: {every_seconds: 0.001}
"""


@pytest.fixture
def shifted_clock(tmp_path: Path) -> dict[str, str]:
    """Variables of a process whose clock shows what stands in a file more than the machine's."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("a clock is shifted with a C compiler (cc) on Linux")
    library, clock = tmp_path / "shifted_clock.so", tmp_path / "clock"
    source = Path(__file__).with_name("shifted_clock.c")
    finished(compiler, "-shared", "-fPIC", "-o", library, source, "-ldl")
    clock.write_text(f"{0:<32}")
    return {"LD_PRELOAD": str(library), "SHIFTED_CLOCK": str(clock)}


def test_a_clock_that_jumps_changes_nothing(home: Path, shifted_clock: dict[str, str]) -> None:
    (home / "jumping_parts.py").write_text(PARTS)
    (home / "jumping.yaml").write_text(STUDY)
    study = api.read_study(home / "jumping.yaml")
    environment = {**shifted_clock, "RECORD": str(study.folder.epoch_metrics)}
    # Nor does a HOME that nobody can write to, not even root.
    environment["HOME"] = str(home / "jumping.yaml" / "nobody")
    ended = finished(MGSTUDY, "launch", "jumping.yaml", environment=environment, cwd=home)
    assert (ended.stderr, "nobody" in ended.stdout) == ("", False)

    # It did jump, for the driver itself; but no trial's story goes back in time.
    epochs = [epoch for epoch, _ in EpochMetrics(study.folder.epoch_metrics).read()]
    steps = [after.at - before.at for before, after in itertools.pairwise(epochs)]
    assert max(steps) > 900 * HOUR
    assert min(steps) < -900 * HOUR
    for key in {epoch.trial for epoch in epochs}:
        times = [epoch.at for epoch in epochs if epoch.trial == key]
        assert times == sorted(times)

    # Every trial ran once, with the numbers of a training that no clock disturbs.
    summary = summarize(study.workspace, "jumping")
    check_against_the_library(summary, study)
    (found,) = summary.cells
    rates = {trial.parameters["optimizer.learning_rate"] for trial in found.trials}
    assert (len(found.trials), rates) == (3, {0.05, 0.02, 0.01})
    for trial in found.trials:
        assert trial.value == max(trial.values.values())
        spent = [value for name, value in trial.outcome.items() if name.startswith("seconds_")]
        assert spent
        assert all(0 <= seconds < HOUR / 2 for seconds in spent)

    client = MlflowClient(f"sqlite:///{home}/mlflow.db")
    experiment = client.get_experiment_by_name("jumping")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 4
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert all(run.info.end_time >= run.info.start_time for run in runs)
