"""A study that is driven by hand: a real record in a workspace, nothing trained. And what MLflow
holds of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mlflow.tracking import MlflowClient

from mgstudy.config.document import parse_document
from mgstudy.config.study import StudyConfig
from mgstudy.data.dataset import Dataset, Interactions
from mgstudy.study.definition.expansion import expand
from mgstudy.study.definition.manifest import CellEntry, DatasetEntry, Environment, StudyManifest
from mgstudy.study.search.events import TrialRequest
from mgstudy.study.search.record import StudyRecord
from mgstudy.study.storage.epoch_metrics import EpochMetrics
from mgstudy.study.storage.layout import StudyFolder
from mgstudy.study.storage.optuna_storage import open_storage
from mgstudy.tracking.projection import Projection
from mgstudy.tracking.store import TrackingStore, using_mlflow
from mgstudy.tracking.tracker import Tracker
from mgstudy.urls import sqlite_url
from mgstudy.workspace import Workspace

STUDY = """\
name: {name}
question: why?
factors: {{dataset: [a], model: [BPR], gradient: [plain, mirror_gradient]}}
space: {{optimizer: {{learning_rate: {{log_float: [1.0e-4, 1.0e-1]}}}}}}
trials: {trials}
sampler: RandomSampler
training: {{objective: recall@20, cutoffs: [20]}}
confirmation: {{seeds: {seeds}}}
tracking: {{uri: {uri}}}
"""


class Driven:
    """A study, in the workspace at ``home``.

    Opened again it goes on, as after a launch that was interrupted.
    """

    def __init__(
        self,
        home: Path,
        name: str,
        uri: str | None = None,
        trials: int = 3,
        seeds: int = 0,
        dataset: Dataset | None = None,
    ) -> None:
        text = STUDY.format(name=name, trials=trials, seeds=seeds, uri=uri or "null")
        document = parse_document(text, "s.yaml")
        self.config = document.validate(StudyConfig)
        self.home, self.name = home, name
        self.workspace = Workspace(home)
        self.folder = StudyFolder.of(self.workspace, name)
        self.folder.path.mkdir(parents=True, exist_ok=True)
        url = sqlite_url(self.folder.path / "optuna.db")
        datasets = {"a": dataset or _dataset()}
        cells = expand(self.config, document, datasets).cells
        self.store = TrackingStore(self.workspace, self.config.tracking, name)
        self.manifest = StudyManifest(
            name=name,
            config=self.config,
            tracking=self.store.place,
            cells=tuple(CellEntry.of(name, cell, cell.budget(trials)) for cell in cells),
            datasets={label: DatasetEntry.of(dataset) for label, dataset in datasets.items()},
            launched="2026-01-01T00:00:00+00:00",
            environment=Environment(git_revision="abc"),
        )
        self.manifest.write(self.folder)
        self.metrics = EpochMetrics(self.folder.epoch_metrics)
        self.record = StudyRecord(
            self.config,
            cells,
            datasets,
            open_storage(url),
            [],
            self.metrics,
            self.folder.checkpoints,
        )

    def tracker(self) -> Tracker:
        """A tracker that is told of what follows."""
        tracker = Tracker(
            self.store, self.manifest, self.metrics, lambda: self.record.states, "mlflow==3"
        )
        self.record.listeners.append(tracker)
        tracker.start()
        return tracker

    def project(self, complete: bool = True) -> Projection:
        """Bring MLflow up to the record once, here."""
        with using_mlflow():
            projection = Projection(
                self.store, self.manifest, self.metrics, lambda: self.record.states
            )
            projection.advance()
            projection.close(complete)
        return projection

    def begin(self) -> TrialRequest:
        """The next trial, with a worker."""
        trial = self.record.next_request()
        assert trial is not None
        self.record.start(trial)
        return trial

    def report(self, trial: TrialRequest, steps: range, **metrics: float) -> None:
        """Epochs, whose scores grow."""
        for step in steps:
            score = (trial.number + step) / 100
            self.record.report(
                trial, step, score, {"validation/recall_at_20": score, "x": step, **metrics}
            )

    def complete(self, trial: TrialRequest, epochs: int = 3, **outcome: Any) -> None:
        """Report these epochs, and that the trial is complete with its weights."""
        self.report(trial, range(1, epochs + 1))
        value = outcome.pop("value", (trial.number + epochs) / 100)
        weights = self.folder.checkpoints / trial.key / "best.pt"
        weights.parent.mkdir(parents=True, exist_ok=True)
        weights.write_text(trial.key)
        result = {
            "reason": "epochs",
            "epochs": epochs,
            "best_value": value,
            "best_metrics": {"recall@20": value},
            "checkpoint": str(weights),
            "seconds_training": 1.5,
        }
        self.record.complete(trial, {**result, **outcome})


def content(client: MlflowClient, experiment_name: str, files: bool = True) -> dict[str, Any]:
    """All that MLflow holds in an experiment, but its own ids: each run by its name, once."""
    experiment = client.get_experiment_by_name(experiment_name)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    names = {run.info.run_id: run.info.run_name for run in runs}
    assert len(set(names.values())) == len(runs)
    return {
        run.info.run_name: {
            "status": run.info.status,
            "params": run.data.params,
            "tags": {
                key: names[tag] if key == "mlflow.parentRunId" else tag
                for key, tag in run.data.tags.items()
                if key.startswith("mgstudy.") or key == "mlflow.parentRunId"
            },
            "curves": {
                metric: [
                    (point.step, point.value, point.timestamp)
                    for point in client.get_metric_history(run.info.run_id, metric)
                ]
                for metric in run.data.metrics
            },
            "files": _files(client, run.info.run_id, names) if files else {},
        }
        for run in runs
    }


def _files(client: MlflowClient, run: str, names: Mapping[str, str], folder: str = "") -> Any:
    found = {}
    for file in client.list_artifacts(run, folder or None):
        if file.is_dir:
            found |= _files(client, run, names, file.path)
        else:
            path = Path(client.download_artifacts(run, file.path))
            text = path.read_text()
            for run_id, name in names.items():
                text = text.replace(run_id, name)
            found[file.path] = text
    return found


def steps(found: Mapping[str, Any], run: str, metric: str = "x") -> list[int]:
    """The steps of a run's curve."""
    return [step for step, _, _ in found[run]["curves"].get(metric, [])]


def _dataset() -> Dataset:
    pairs = np.arange(9)
    splits = (Interactions(pairs[part::3] % 3, pairs[part::3]) for part in range(3))
    return Dataset.from_arrays("a", 3, 9, *splits, {})
