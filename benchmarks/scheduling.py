"""What a study's driver costs at scale: thousands of trials that only wait and report, in 64 slots.

    python benchmarks/scheduling.py --trials 5000 --slots 64

The driver's own parts are real: searcher, pruner, record, Optuna storage in a SQLite file, MLflow
in another. The slots are simulated, as 64 worker processes need more memory and CPUs than a desk
has: their waiting is virtual time, and what Ray Tune itself costs is not in the numbers
(``driver_overhead.py`` runs all of Ray, with as many slots as there are CPUs).
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
from driver_overhead import PIPELINE
from rich.console import Console
from rich.table import Table

from mgstudy.config.document import parse_document
from mgstudy.config.pipeline import PipelineConfig
from mgstudy.data.prepare import prepare
from mgstudy.study.definition.manifest import StudyManifest
from mgstudy.study.definition.study import check_study
from mgstudy.study.running.trial_progress import METRICS, OUTCOME, STEP, VALUE
from mgstudy.study.running.tune_bridge import OptunaPruner, OptunaSearcher
from mgstudy.study.search.events import StudyListener
from mgstudy.study.search.record import StudyRecord
from mgstudy.study.storage.epoch_metrics import EpochMetrics
from mgstudy.study.storage.optuna_storage import quiet_optuna
from mgstudy.study.storage.write_behind import open_driven_storage
from mgstudy.tracking.store import TrackingStore
from mgstudy.tracking.tracker import Tracker
from mgstudy.urls import sqlite_url
from mgstudy.workspace import Workspace

STUDY = """
name: scale
factors: {dataset: [tiny], model: [BPR], gradient: [plain, mirror_gradient]}
space: {optimizer: {learning_rate: {log_float: [1.0e-4, 1.0e-2]}}}
pruner: {name: MedianPruner, arguments: {n_startup_trials: 4, n_warmup_steps: 3}}
confirmation: null
"""
REPORTS = 10
MARKS = (100, 1000, 2000, 3000, 4000, 5000, 10_000, 20_000)


@dataclass
class Spent:
    """CPU seconds of the driver's thread and of the whole process, and what they were spent on."""

    asking: float = 0.0
    reporting: float = 0.0
    finishing: float = 0.0
    process: float = 0.0
    trials: int = 0
    reports: int = 0

    def since(self, earlier: Spent) -> Spent:
        return Spent(*(now - then for now, then in zip(self.all, earlier.all, strict=True)))

    @property
    def all(self) -> tuple[Any, ...]:
        return tuple(vars(self).values())


class SimulatedSlots:
    """Does what Ray Tune does with a searcher and a scheduler, in virtual time.

    Args:
        searcher: Hands out the trials.
        slots: Trials at once.
    """

    def __init__(self, searcher: OptunaSearcher, slots: int) -> None:
        self.searcher = searcher
        self.scheduler = OptunaPruner(searcher)
        self.slots = slots
        self.spent = Spent()
        self._random = random.Random(1)
        self._due: list[tuple[float, str, int]] = []
        self._began = time.process_time()
        self._names = 0

    def run(self, at_mark: Any) -> None:
        """Run all trials; ``at_mark`` is called whenever a number in ``MARKS`` is reached."""
        now = 0.0
        while self._fill(now) or self._due:
            now, name, step = heapq.heappop(self._due)
            if self._report(name, step):
                heapq.heappush(self._due, (now + self._wait(), name, step + 1))
            elif self.spent.trials in MARKS:
                self.spent.process = time.process_time() - self._began
                at_mark(self.spent)

    def _fill(self, now: float) -> bool:
        began = False
        while len(self._due) < self.slots:
            start = time.thread_time()
            name = f"t{self._names}"
            config = self.searcher.suggest(name)
            self.spent.asking += time.thread_time() - start
            if not isinstance(config, dict):
                break
            self.searcher.record.start(self.searcher.running[name])
            self._names += 1
            began = True
            heapq.heappush(self._due, (now + self._wait(), name, 1))
        return began

    def _report(self, name: str, step: int) -> bool:
        """One validation of a trial; whether it goes on."""
        trial = SimpleNamespace(trial_id=name, error_file=None)
        value = 1 - (1 - self._random.random() * 0.1) / (step + 1)
        outcome = {"best_value": value, "best_epoch": step, "epochs": step}
        result: dict[str, Any] = {
            STEP: step,
            VALUE: value,
            METRICS: json.dumps({"validation/made_up": value, "training/loss": 1 - value}),
        }
        done = step == REPORTS
        result[OUTCOME] = json.dumps({**outcome, **({"done": True} if done else {})})
        start = time.thread_time()
        if done:
            self.scheduler.on_trial_complete(None, trial, result)
            pruned = False
        else:
            pruned = self.scheduler.on_trial_result(None, trial, result) == "STOP"
        reported = time.thread_time()
        self.spent.reporting += reported - start
        self.spent.reports += 1
        if done or pruned:
            self.searcher.on_trial_complete(name, result)
            self.spent.finishing += time.thread_time() - reported
            self.spent.trials += 1
        return not (done or pruned)

    def _wait(self) -> float:
        return self._random.expovariate(1.0)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--trials", type=int, default=5000)
    arguments.add_argument("--slots", type=int, default=64)
    arguments.add_argument("--patience", type=float, default=1800.0, help="seconds for MLflow")
    options = arguments.parse_args()
    table = Table(
        "trials", "ms/ask", "ms/report", "ms/end", "CPU s", "RSS MiB", "store MiB", "MLflow behind"
    )
    console = Console()
    with tempfile.TemporaryDirectory() as folder, quiet_optuna():
        home = Path(folder)
        workspace = Workspace(home)
        prepare(PipelineConfig.model_validate(PIPELINE), workspace)
        document = parse_document(f"{STUDY}trials: {options.trials // 2}\n", "benchmark")
        study = check_study(document, workspace)
        store = TrackingStore(workspace, study.config.tracking, study.config.name)
        url, listeners = sqlite_url(home / "optuna.db"), list[StudyListener]()
        metrics = EpochMetrics(home / "metrics.jsonl")
        record = StudyRecord(
            study.config,
            study.plan.cells,
            study.datasets,
            open_driven_storage(url),
            listeners,
            metrics,
        )
        manifest = StudyManifest.of(study, store.place)
        tracker = Tracker(store, manifest, metrics, lambda: record.states)
        listeners.append(tracker)
        tracker.start()
        searcher = OptunaSearcher(record, most_begun=options.slots)
        earlier = [Spent()]

        def at_mark(spent: Spent) -> None:
            part = spent.since(earlier[0])
            earlier[0] = Spent(*spent.all)
            size = sum(path.stat().st_size for path in home.glob("optuna.db*"))
            row = (
                f"{spent.trials}",
                f"{1000 * part.asking / part.trials:.1f}",
                f"{1000 * part.reporting / part.reports:.2f}",
                f"{1000 * part.finishing / part.trials:.2f}",
                f"{spent.process:.0f}",
                f"{psutil.Process().memory_info().rss / 2**20:.0f}",
                f"{size / 2**20:.1f}",
                f"{tracker.undelivered}",
            )
            table.add_row(*row)
            print(" ".join(f"{cell:>9}" for cell in row), flush=True)

        began, processor_before = time.perf_counter(), time.process_time()
        slots = SimulatedSlots(searcher, options.slots)
        slots.run(at_mark)
        driven = time.perf_counter() - began
        of_the_driver = slots.spent.asking + slots.spent.reporting + slots.spent.finishing
        tracker.finish(complete=True, seconds=options.patience)
        beside = time.process_time() - processor_before - of_the_driver
        console.print(table)
        console.print(
            f"{slots.spent.trials} trials, {slots.spent.reports} reports over {options.slots} "
            f"slots; each row since the row above it, CPU and memory in all; {driven:.0f} s, and "
            f"{time.perf_counter() - began - driven:.0f} s more until MLflow had everything, "
            f"{tracker.undelivered} records not delivered; CPU of writers and tracker beside the "
            f"driver's thread: {1000 * beside / slots.spent.trials:.1f} ms per trial"
        )


if __name__ == "__main__":
    main()
