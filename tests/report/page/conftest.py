"""Studies that are recorded without being trained: real storages and manifests, given scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from mgstudy import api
from mgstudy.study.definition.manifest import StudyManifest
from mgstudy.study.search.events import TrialRequest
from mgstudy.study.search.record import StudyRecord
from mgstudy.study.storage.optuna_storage import open_storage
from mgstudy.tracking.store import TrackingStore
from mgstudy.urls import sqlite_url
from mgstudy.workspace import Workspace

PIPELINE = """\
name: tiny
source: {kind: synthetic, users: 30, items: 40, interactions_per_user: 8}
"""
STUDY = """\
name: s
question: Is <b>it</b> better? </script>
factors:
  dataset: [tiny]
  model: [BPR, LightGCN]
  gradient: [plain, mirror_gradient]
space:
  model: {embedding_size: 8, regularization: 0.0, LightGCN: {layers: 2}}
  gradient:
    mirror_gradient:
      interval: {choice: [2, 3, 5]}
      alpha1: 1.0
      alpha2: {float: [0.1, 0.9]}
  optimizer: {learning_rate: {log_float: [1.0e-4, 1.0e-1]}}
trials: 14
training: {objective: recall@20, cutoffs: [20]}
sampler: RandomSampler
confirmation: {seeds: 0}
"""

PREFIX = "gradient.mirror_gradient."

Outcome = Mapping[str, Any]
Record = Callable[..., Workspace]


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which the dataset ``tiny`` is prepared."""
    home = tmp_path_factory.mktemp("prepared")
    (home / "tiny.yaml").write_text(PIPELINE)
    api.prepare(home / "tiny.yaml", home=home)
    return home


@pytest.fixture(scope="session")
def record(prepared: Path) -> Iterator[Record]:
    """Record a study: what becomes of each trial is said by a function of the trial."""

    def record_study(
        become: Callable[[TrialRequest], Outcome | None],
        text: str = STUDY,
        name: str = "s",
        overrides: Sequence[str] = (),
    ) -> Workspace:
        path = prepared / "study.yaml"
        path.write_text(text)
        study = api.read_study(path, [f"name={name}", *overrides], prepared)
        url = sqlite_url(study.folder.path / "optuna.db")
        recorded = StudyRecord(
            study.config, study.plan.cells, study.datasets, open_storage(url), []
        )
        store = TrackingStore(study.workspace, study.config.tracking, name)
        StudyManifest.of(study, store.place).write(study.folder)
        while (trial := recorded.next_request()) is not None:
            outcome = become(trial)
            if outcome is None:
                break
            for step, value in outcome.get("values", {}).items():
                recorded.report(trial, step, value, {})
            end = {name: entry for name, entry in outcome.items() if name != "values"}
            if "best_value" in outcome:
                recorded.complete(trial, end)
            elif end["reason"] == "pruned":
                recorded.prune(trial, end)
            else:
                recorded.fail(trial, end)
        return study.workspace

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield record_study


@pytest.fixture(scope="session")
def complete() -> Callable[[TrialRequest], Outcome]:
    """Every trial ends, with a score that its parameters decide."""
    return _complete


@pytest.fixture(scope="session")
def some() -> Callable[[TrialRequest], Outcome]:
    """The first trial of a cell breaks, the second is pruned, the others end."""
    return _some


def _score(trial: TrialRequest) -> float:
    """A plane over the strengths, and a slope over the logarithm of the learning rate."""
    parameters = trial.parameters
    if trial.cell.gradient != "mirror_gradient":
        return 0.3 + 0.1 * math.log10(float(parameters["optimizer.learning_rate"]) * 1e4) / 3
    return (
        0.2
        + 0.02 * float(parameters[f"{PREFIX}interval"])
        + 0.1 * float(parameters[f"{PREFIX}alpha2"])
    )


def _complete(trial: TrialRequest) -> Outcome:
    value = _score(trial)
    mirrored = trial.cell.gradient == "mirror_gradient"
    return {
        "values": {1: value / 2, 2: value, 3: value / 3},
        "best_value": value,
        "best_epoch": 2,
        "best_metrics": {"recall@20": value, "ndcg@20": value / 2},
        "reason": "early_stopping",
        "epochs": 3,
        "gradient_computations": 45 if mirrored else 30,
        "seconds_setup": 1.0,
        "seconds_training": 7.0 if mirrored else 5.0,
        "seconds_evaluation": 2.0,
    }


def _some(trial: TrialRequest) -> Outcome:
    """The first trial of a cell breaks, the second is pruned, the others end."""
    if trial.number == 0:
        return {"reason": "training diverged", "epochs": 1}
    if trial.number == 1:
        return {"values": {1: 0.01}, "reason": "pruned", "epochs": 1}
    return _complete(trial)
