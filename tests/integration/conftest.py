"""A workspace with a tiny dataset, and parts of another package that misbehave on purpose."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from mgstudy import api
from mgstudy.private.ray import agent_on_a_free_port

PIPELINE = """\
name: tiny
source:
  kind: synthetic
  users: 80
  items: 60
  interactions_per_user: 8
  modalities: {image: {width: 4, noise: 1.0}, text: {width: 3, noise: 1.0}}
"""

THEIR_PARTS = '''
"""Parts of another package."""

import os
import signal
import time
from pathlib import Path

from optuna.pruners import BasePruner

from mgstudy.models.bpr import BPR


class Counting(BPR):
    """Knows which batch of which epoch (both 0-based) it is at."""

    def before_epoch(self, epoch):
        self.epoch, self.batch = epoch, -1

    def loss(self, batch):
        self.batch += 1
        return super().loss(batch)


class Diverging(Counting):
    name = "diverging"

    def loss(self, batch):
        loss = super().loss(batch)
        return loss * float("nan") if (self.epoch, self.batch) == (2, 1) else loss


class Killed(Counting):
    name = "killed"

    def loss(self, batch):
        if self.epoch == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().loss(batch)


class Buggy(Counting):
    """Breaks at its second batch: at the first, a plan would see it."""

    name = "buggy"

    def loss(self, batch):
        loss = super().loss(batch)
        if self.batch == 1:
            raise KeyError("a bug")
        return loss


class Repairable(Counting):
    """Is broken until there is a file named "repaired" beside the one named by GATE."""

    name = "repairable"

    def loss(self, batch):
        loss = super().loss(batch)
        if self.batch == 1 and not Path(os.environ["GATE"]).with_name("repaired").exists():
            raise KeyError("a bug")
        return loss


class Gated(Counting):
    """After three epochs, waits beside the file named by GATE until that file is there."""

    name = "gated"

    def before_epoch(self, epoch):
        super().before_epoch(epoch)
        gate = Path(os.environ["GATE"])
        if epoch == 3:
            gate.with_name(f"waiting-{os.getpid()}").touch()
        while epoch == 3 and not gate.exists():
            time.sleep(0.01)


class PruneSlow(BasePruner):
    """Prunes what hardly learns, at its second validation."""

    def prune(self, study, trial):
        return trial.params["optimizer.learning_rate"] < 1e-6 and trial.last_step >= 2
'''


@pytest.fixture(scope="session", autouse=True)
def place_of_ray() -> Iterator[Path]:
    """Ray's folder, for the tests of one process: a job is sent to the one started last,
    as a file there says. Its path is short, as those of sockets are. No Ray starts workers ahead:
    those of trials are others."""
    with (
        tempfile.TemporaryDirectory(prefix="r", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv("RAY_enable_worker_prestart", "0")
        yield Path(folder)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[Path]:
    """A workspace in which the dataset ``tiny`` is prepared, and ``their_parts`` importable."""
    folder = tmp_path_factory.mktemp("home")
    shutil.copy(empty_store, folder / "mlflow.db")
    pipeline = folder / "tiny.yaml"
    pipeline.write_text(PIPELINE)
    (folder / "their_parts.py").write_text(THEIR_PARTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MGSTUDY_HOME", str(folder))
        # Workers find modules by the environment they are started with.
        patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        patch.setenv("GATE", str(folder / "gate"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.syspath_prepend(folder)
        api.prepare(pipeline)
        yield folder
    sys.modules.pop("their_parts", None)


@pytest.fixture(scope="module")
def two_slots(home: Path, request: pytest.FixtureRequest) -> Iterator[None]:
    """Ray on this machine, with room for two trials. It counts as many GPUs as a module says."""
    with agent_on_a_free_port():  # Other tests have a Ray of their own at the same time.
        ray.init(
            address="local",
            num_cpus=2,
            num_gpus=getattr(request.module, "COUNTED_GPUS", 0),
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
        )
    yield
    ray.shutdown()
