"""Machines that die, disks that fill up: what a study comes to after each."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from disks import small_disk
from programs import DEADLINE, MGSTUDY, finished, started
from ray.cluster_utils import Cluster
from undisturbed import check_against_the_library
from waiting import wait_until

from mgstudy import api
from mgstudy.errors import MgstudyError
from mgstudy.study.results.summary import summarize
from mgstudy.study.search.events import StudyListener, TrialRequest
from mgstudy.study.search.trials import State
from mgstudy.workspace import Workspace

pytestmark = pytest.mark.integration

STUDY = """\
name: {name}
factors:
  dataset: [tiny]
  model: [BPR]
  gradient: [plain, mirror_gradient]
space:
  model: {{embedding_size: 4, regularization: 0.01}}
  gradient: {{mirror_gradient: {{alpha1: 1.0, alpha2: 0.3, interval: 2}}}}
  optimizer: {{learning_rate: {{choice: [0.05, 0.02, 0.01]}}}}
trials: 3
training: {{epochs: 12, batch_size: 128, objective: ndcg@5, cutoffs: [5], early_stopping: null}}
sampler: GridSampler
pruner: NopPruner
start_with_defaults: false
confirmation: {{seeds: 0}}
checkpoints: {{every_epochs: 2, every_seconds: null}}
retries: {{max_retries: 20}}
"""


class ReplaceNode(StudyListener):
    """Takes a machine out of the cluster while it trains, and puts a new one in, twice; then opens
    the gate at which all trainings wait after three epochs."""

    def __init__(self, cluster: Cluster, gate: Path) -> None:
        self.cluster = cluster
        self.gate = gate
        self.node = cluster.add_node(num_cpus=1, object_store_memory=100 << 20)
        self.at_gate = 0
        self.interrupted: list[str] = []

    def trial_reported(
        self, trial: TrialRequest, step: int, value: float, metrics: Mapping[str, float]
    ) -> None:
        self.at_gate += step == 3
        # Two wait, one on each node; then the one that was begun anew does.
        if step == 3 and self.at_gate in (2, 3):
            self.cluster.remove_node(self.node, allow_graceful=False)
            self.node = self.cluster.add_node(num_cpus=1, object_store_memory=100 << 20)
        if self.at_gate == 3:
            self.gate.touch()

    def trial_interrupted(self, trial: TrialRequest, reason: str) -> None:
        self.interrupted.append(trial.key)


@pytest.fixture
def cluster(home: Path) -> Iterator[Cluster]:
    """A Ray cluster of several nodes on this machine; the head runs one trial, too."""
    made = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "object_store_memory": 100 << 20},
    )
    ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
    yield made
    ray.shutdown()
    made.shutdown()


def test_nodes_may_come_and_go(home: Path, cluster: Cluster) -> None:
    path = home / "nodes.yaml"
    journal = f"journal:///{home}/nodes.log"
    text = STUDY.format(name="nodes").replace("BPR", "their_parts:Gated")
    path.write_text(text + f"storage: {journal}\n")
    study = api.read_study(path)
    replace = ReplaceNode(cluster, home / "gate")
    cluster.wait_for_nodes()
    launched = api.launch(study, listeners=[replace])
    assert launched.finished
    check_against_the_library(launched.summary, study)
    assert len(replace.interrupted) == 2


def test_ray_that_dies_is_started_anew_and_the_study_goes_on(home: Path, tmp_path: Path) -> None:
    path = home / "dies.yaml"
    # None of the trials has a retry, and none needs one.
    text = STUDY.format(name="dies").replace("max_retries: 20", "max_retries: 0")
    path.write_text(text.replace("BPR", "their_parts:Gated"))
    gate = tmp_path / "gate"
    with started(MGSTUDY, "launch", path, environment={"GATE": gate}) as process:
        wait_until(lambda: list(tmp_path.glob("waiting-*")), process=process)
        (raylet,) = (
            child for child in psutil.Process(process.pid).children() if child.name() == "raylet"
        )
        raylet.kill()
        gate.touch()
        out, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, (out, err)
    lines = [line for line in err.splitlines() if "Ray" in line]
    told = "Ray has died: its raylet was ended by SIGKILL; starting Ray anew, and going on"
    assert lines == [told], err
    assert "raylet" not in out
    study = api.read_study(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GATE", str(gate))
        check_against_the_library(summarize(Workspace(home), "dies"), study)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", "24m") as folder:
        yield folder


def test_a_full_disk_is_said_and_the_study_goes_on_when_there_is_room(
    home: Path, disk: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[..., Any]
) -> None:
    monkeypatch.setenv("MGSTUDY_HOME", str(disk))
    # The record is on the small disk; MLflow's database would fill it by itself.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home}/mlflow.db")
    gate = disk.with_name("gate")
    monkeypatch.setenv("GATE", str(gate))
    path = home / "full.yaml"
    path.write_text(STUDY.format(name="full").replace("[BPR]", "[BPR, 'their_parts:Gated']"))
    api.prepare(home / "tiny.yaml")
    ballast = disk / "ballast"
    with started(MGSTUDY, "launch", path) as process:

        def one_has_finished() -> bool:
            try:
                cells = summarize(Workspace(disk), "full").cells
            except MgstudyError:  # There is none yet.
                return False
            return any(cell.counts["complete"] for cell in cells)

        wait_until(one_has_finished, process=process)
        with ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"\0" * 4096)
            except OSError:
                pass
        gate.touch()
        out, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 1, (out, err)
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, err
    assert "disk is full; what is in it is whole, and the study goes on" in errors[0]
    assert "Traceback" not in out + err
    summary = summarize(Workspace(disk), "full")
    assert sum(cell.counts["complete"] for cell in summary.cells) >= 1

    ballast.unlink()
    assert command("resume", "full").code == 0
    study = api.read_study(path, home=disk)
    check_against_the_library(summarize(Workspace(disk), "full"), study)


def test_a_full_disk_of_checkpoints_stops_the_study_and_no_confirmation_has_failed(
    home: Path, tmp_path: Path
) -> None:
    path = tmp_path / "blocked.yaml"
    text = (
        STUDY.format(name="blocked")
        .replace("seeds: 0", "seeds: 1")
        .replace("max_retries: 20", "max_retries: 1")
    )
    path.write_text(f"{text}storage: sqlite:///{tmp_path}/blocked.db\n")
    study = api.read_study(path, home=home)
    study.folder.path.mkdir(parents=True)
    with small_disk(study.folder.checkpoints, "16k") as full:
        (full / "ballast").write_bytes(bytes(16 << 10))
        with pytest.raises(MgstudyError, match=r"^stopped: .* cannot be .*: No space left on dev"):
            api.launch(study)
    summary = summarize(Workspace(home), "blocked")
    assert not any(t.state is State.FAILED for cell in summary.cells for t in cell.every_trial())
    assert api.launch(study).finished


@pytest.mark.skipif("MGSTUDY_SOAK" not in os.environ, reason="takes minutes: set MGSTUDY_SOAK=1")
def test_a_study_killed_at_random_comes_to_the_same_record() -> None:
    """At least 25 kills of driver, workers and all of Ray; see ``soak.py``."""
    soak = Path(__file__).with_name("soak.py")
    done = finished(sys.executable, soak, "--faults", "14", "--seed", "7", seconds=1700)
    last = done.stdout.splitlines()[-1]
    assert "trials lost 0, trials duplicated 0, metrics differing 0" in last
    assert int(last.split()[2]) >= 25
