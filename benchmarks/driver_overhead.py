"""What a study costs beyond training: wall time per trial of trials that do nothing but report.

    python benchmarks/driver_overhead.py

Everything else is real: Ray Tune, the Optuna storage in a SQLite file, the pruner, MLflow in
another. Optuna alone in a loop, asked and told the same on the same kind of storage, stands beside
it for scale.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import ray

from mgstudy.config.document import parse_document
from mgstudy.config.pipeline import PipelineConfig
from mgstudy.data.prepare import prepare
from mgstudy.study.definition.manifest import StudyManifest
from mgstudy.study.definition.study import check_study
from mgstudy.study.running.driver import run_trials
from mgstudy.study.running.interrupts import Interrupt
from mgstudy.study.running.placement import TrialResources
from mgstudy.study.running.ray_session import ray_session
from mgstudy.study.running.trial import StudyTrial
from mgstudy.study.running.trial_progress import METRICS, OUTCOME, STEP, VALUE
from mgstudy.study.search.events import StudyListener
from mgstudy.study.search.record import StudyRecord
from mgstudy.study.storage.epoch_metrics import EpochMetrics
from mgstudy.study.storage.layout import StudyFolder
from mgstudy.study.storage.lease import lease
from mgstudy.study.storage.optuna_storage import open_storage, quiet_optuna
from mgstudy.study.storage.write_behind import open_driven_storage
from mgstudy.tracking.store import TrackingStore
from mgstudy.tracking.tracker import Tracker
from mgstudy.urls import sqlite_url
from mgstudy.workspace import Workspace

PIPELINE = {
    "name": "tiny",
    "source": {"kind": "synthetic", "users": 60, "items": 80},
}
STUDY = """
name: overhead
factors: {dataset: [tiny], model: [BPR], gradient: [plain, mirror_gradient]}
space: {optimizer: {learning_rate: {log_float: [1.0e-4, 1.0e-2]}}}
"""


class ReportingTrial(StudyTrial):
    """Reports ten made-up values and is done."""

    reports = 10

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin to count again."""
        self.count = 0
        return super().reset_config(new_config)

    def step(self) -> dict[str, Any]:
        """Report the next value."""
        self.count += 1
        done = self.count == self.reports
        value = self.count / self.reports + int(self._key.rpartition("/")[2]) / 1000
        outcome: Mapping[str, Any] = (
            {"done": True, "best_value": value, "best_epoch": self.count, "reason": "epochs"}
            if done
            else {}
        )
        report = {
            STEP: self.count,
            VALUE: value,
            METRICS: json.dumps({"validation/made_up": value}),
        }
        return {**report, "done": done, OUTCOME: json.dumps(outcome)}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--trials", type=int, default=40)
    arguments.add_argument("--slots", type=int, default=2)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        study = study_seconds(Path(folder), options.trials, options.slots)
        alone = optuna_alone_seconds(Path(folder), options.trials)
    print(f"{options.trials} trials of {ReportingTrial.reports} reports, {options.slots} slots")
    for name, seconds in (("mgstudy, after ray.init", study), ("Optuna alone, one loop", alone)):
        print(f"{name:26} {seconds / options.trials:6.3f} s per trial ({seconds:.1f} s in all)")


def study_seconds(home: Path, trials: int, slots: int) -> float:
    """Wall time of a whole study after ``ray.init``, until MLflow has everything."""
    workspace = Workspace(home)
    prepare(PipelineConfig.model_validate(PIPELINE), workspace)
    document = parse_document(f"{STUDY}\ntrials: {-(-trials // 2)}\n", "benchmark")
    study = check_study(document, workspace)
    store = TrackingStore(workspace, study.config.tracking, study.config.name)
    database = sqlite_url(home / "optuna.db")
    with ray_session(), quiet_optuna():
        ray.get(ray.remote(lambda: None).remote())
        began = time.perf_counter()
        listeners = list[StudyListener]()
        metrics = EpochMetrics(home / "metrics.jsonl")
        record = StudyRecord(
            study.config,
            study.plan.cells,
            study.datasets,
            open_driven_storage(database),
            listeners,
            metrics,
        )
        manifest = StudyManifest.of(study, store.place)
        tracker = Tracker(store, manifest, metrics, lambda: record.states)
        listeners.append(tracker)
        tracker.start()
        resources = TrialResources(cpu=1, gpu=0, slots=slots)
        folder = StudyFolder(home / "study")
        with lease(folder.path, database, study.config.name) as held:
            run_trials(record, resources, folder, held, Interrupt(), ReportingTrial)
        tracker.finish(complete=True)
        return time.perf_counter() - began


def optuna_alone_seconds(home: Path, trials: int) -> float:
    """The same asking, reporting, pruning and telling in one loop, without Ray and MLflow."""
    study = optuna.create_study(
        storage=open_storage(sqlite_url(home / "alone.db")),
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=20),
    )
    began = time.perf_counter()
    for _ in range(trials):
        trial = study.ask()
        trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True)
        value = 0.0
        for step in range(1, ReportingTrial.reports + 1):
            value = step / ReportingTrial.reports
            trial.report(value, step)
            trial.should_prune()
        study.tell(trial, value)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
