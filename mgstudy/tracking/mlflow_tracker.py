"""Record a study in MLflow: a parent run for the study, a child run for each trial.

Everything is written by one background thread, in batches: a slow or broken tracking server costs
the study nothing but its record.
"""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mgstudy.study.checkpoints import local_copy
from mgstudy.study.events import Assignment, Stage, State, StudyListener
from mgstudy.tracking.store import TrackingStore

logger = logging.getLogger(__name__)

STUDY_TAG = "mgstudy.study"
ROLE_TAG = "mgstudy.role"
TRIAL_TAG = "mgstudy.trial"
CELL_TAG = "mgstudy.cell"
STAGE_TAG = "mgstudy.stage"
SEED_TAG = "mgstudy.seed"
STATE_TAG = "mgstudy.state"
REASON_TAG = "mgstudy.reason"
BEST_TAG = "mgstudy.best_of_cell"
PARENT_TAG = "mlflow.parentRunId"
_STATUS = {State.COMPLETE: "FINISHED", State.PRUNED: "KILLED", State.FAILED: "FAILED"}
_LONGEST_PARAMETER = 6000
_METRICS_PER_BATCH = 1000
_ATTEMPTS = 4


@dataclass(frozen=True)
class StudyDescription:
    """What the parent run holds.

    Attributes:
        name: The study's name.
        question: What it asks.
        artifacts: File name to content: resolved configuration, environment, packages.
        tags: Tags of the parent run, such as the git revision.
        varying_factors: Factors with more than one level; they name the child runs.
    """

    name: str
    question: str
    artifacts: Mapping[str, str]
    tags: Mapping[str, str]
    varying_factors: tuple[str, ...]


class MlflowTracker(StudyListener):
    """Writes a study's events to MLflow.

    Run ids are found again by tags, so a study launched again goes on with the same runs.

    Args:
        store: Where to record.
        description: What the parent run holds.

    Attributes:
        undelivered: Operations that MLflow did not take after several attempts.
    """

    def __init__(self, store: TrackingStore, description: StudyDescription) -> None:
        self.store = store
        self.description = description
        self.undelivered = 0
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._metrics: dict[str, list[Any]] = {}
        self._runs: dict[str, str] = {}
        self._recorded_steps: dict[str, int] = {}
        self._is_down = False
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="mlflow-tracker", daemon=True)
        self._thread.start()
        self._queue.put(self._open_study)

    def trial_started(self, trial: Assignment) -> None:
        """Open the trial's run, with its levels and parameters as params."""
        self._queue.put(lambda: self._open_trial(trial))

    def trial_reported(
        self, trial: Assignment, step: int, value: float, metrics: Mapping[str, float]
    ) -> None:
        """Log the epoch's metrics under their step."""
        stamp = int(time.time() * 1000)
        self._queue.put(lambda: self._collect_metrics(trial, step, metrics, stamp))

    def trial_finished(
        self, trial: Assignment, state: State, value: float | None, outcome: Mapping[str, Any]
    ) -> None:
        """Log the result and close the run."""
        self._queue.put(lambda: self._finish_trial(trial, state, value, outcome))

    def finish(self, complete: bool, best: Mapping[str, str] | None = None) -> None:
        """Mark the best trial of each cell, keep its weights as an artifact and close the parent.

        Args:
            complete: Whether all of the study's trials have run.
            best: Keys of the best trials so far, whenever they ran, with their checkpoint files.
        """
        self._queue.put(lambda: self._finish_study(complete, best or {}))
        self.close()

    def close(self) -> None:
        """Wait until everything is written."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
            self._thread.join()

    def _work(self) -> None:
        ended = False
        while not ended:
            operations = [self._queue.get()]
            while not self._queue.empty():
                operations.append(self._queue.get())
            for operation in operations:
                if operation is None:
                    ended = True
                else:
                    self._deliver(operation)
            self._deliver(self._flush_metrics)

    def _deliver(self, operation: Callable[[], None]) -> None:
        # A server that is down is not waited for again with every record.
        for attempt in range(1 if self._is_down else _ATTEMPTS):
            try:
                operation()
                self._is_down = False
                return
            except Exception as error:  # Whatever the server does, the study goes on.
                problem = str(error).splitlines()[0] if str(error) else type(error).__name__
                if not self._is_down:
                    time.sleep(0.2 * 2**attempt)
        self._is_down = True
        self.undelivered += 1
        if self.undelivered == 1:
            logger.warning("MLflow at %s does not take records: %s", self.store.shown_uri, problem)

    def _open_study(self) -> None:
        client, experiment = self.store.client, self.store.experiment_id
        found = self.store.find_run({STUDY_TAG: self.description.name, ROLE_TAG: "study"})
        if found is None:
            tags = {
                STUDY_TAG: self.description.name,
                ROLE_TAG: "study",
                "mlflow.note.content": self.description.question,
                **self.description.tags,
            }
            run = client.create_run(experiment, tags=tags, run_name=self.description.name)
            found = run.info.run_id
        else:
            client.update_run(found, status="RUNNING")
        for name, content in self.description.artifacts.items():
            client.log_text(found, content, name)
        self._runs[""] = found
        children = self.store.child_runs(found)
        for run in children:
            key = run.data.tags.get(TRIAL_TAG)
            if key is not None:
                self._runs[key] = run.info.run_id

    def _parent(self) -> str:
        if "" not in self._runs:
            self._open_study()
        return self._runs[""]

    def _open_trial(self, trial: Assignment) -> None:
        self._run_id(trial)

    def _run_id(self, trial: Assignment) -> str:
        """The trial's run, opened when it is first needed."""
        parent = self._parent()
        if trial.key in self._runs and trial.key not in self._recorded_steps:
            self._recorded_steps[trial.key] = self.store.last_step(self._runs[trial.key])
            self.store.client.update_run(self._runs[trial.key], status="RUNNING")
        if trial.key not in self._runs:
            self._create_run(trial, parent)
        return self._runs[trial.key]

    def _create_run(self, trial: Assignment, parent: str) -> None:
        levels = trial.cell.levels
        named = [levels[factor] for factor in self.description.varying_factors]
        is_search = trial.stage is Stage.SEARCH
        number = f"#{trial.number}" if is_search else f"confirmation {trial.number}"
        run = self.store.client.create_run(
            self.store.experiment_id,
            run_name=" ".join([*named, number]),
            tags={
                STUDY_TAG: self.description.name,
                ROLE_TAG: "trial" if is_search else "confirmation",
                STAGE_TAG: trial.stage.value,
                SEED_TAG: str(trial.seed),
                TRIAL_TAG: trial.key,
                CELL_TAG: trial.cell.key,
                STATE_TAG: State.RUNNING.value,
                PARENT_TAG: parent,
            },
        )
        self._runs[trial.key] = run.info.run_id
        self._recorded_steps[trial.key] = 0
        self.store.log_params(
            run.info.run_id,
            {
                name: str(value)[:_LONGEST_PARAMETER]
                for name, value in {**levels, **trial.parameters}.items()
            },
        )

    def _collect_metrics(
        self, trial: Assignment, step: int, metrics: Mapping[str, float], stamp: int
    ) -> None:
        run_id = self._run_id(trial)
        if step > self._recorded_steps[trial.key]:
            # A trial that runs again after an interruption repeats what is recorded already.
            self._recorded_steps[trial.key] = step
            self._metrics.setdefault(run_id, []).extend(
                self.store.metric(name, number, stamp, step) for name, number in metrics.items()
            )

    def _flush_metrics(self) -> None:
        for run_id in list(self._metrics):
            batch = self._metrics[run_id]
            for start in range(0, len(batch), _METRICS_PER_BATCH):
                self.store.client.log_batch(
                    run_id, metrics=batch[start : start + _METRICS_PER_BATCH]
                )
            del self._metrics[run_id]

    def _finish_trial(
        self, trial: Assignment, state: State, value: float | None, outcome: Mapping[str, Any]
    ) -> None:
        run_id = self._run_id(trial)
        self._flush_metrics()
        stamp, step = int(time.time() * 1000), int(outcome.get("epochs", 0))
        numbers = {
            f"{prefix}/{name.replace('@', '_at_')}": number
            for prefix, kind in (("best", "best_metrics"), ("test", "test_metrics"))
            for name, number in outcome.get(kind, {}).items()
        }
        numbers |= {
            f"cost/{name}": outcome[name]
            for name in (
                "epochs",
                "best_epoch",
                "gradient_computations",
                "seconds_setup",
                "seconds_training",
                "seconds_evaluation",
                "seconds_test",
            )
            if name in outcome
        }
        tags = {STATE_TAG: state.value, REASON_TAG: str(outcome.get("reason", state.value))}
        client = self.store.client
        client.log_batch(
            run_id,
            metrics=[self.store.metric(n, number, stamp, step) for n, number in numbers.items()],
            tags=self.store.tags(tags),
        )
        if "traceback" in outcome:
            client.log_text(run_id, outcome["traceback"], "traceback.txt")
        client.set_terminated(run_id, status=_STATUS[state])

    def _finish_study(self, complete: bool, best: Mapping[str, str]) -> None:
        parent, client = self._parent(), self.store.client
        best_runs = {key: self._runs[key] for key in best if key in self._runs}
        for run in self.store.child_runs(parent):
            is_best, was_best = run.info.run_id in best_runs.values(), BEST_TAG in run.data.tags
            if is_best and not was_best:
                client.set_tag(run.info.run_id, BEST_TAG, "true")
            elif was_best and not is_best:
                client.delete_tag(run.info.run_id, BEST_TAG)
        for key in best_runs:
            with local_copy(best[key]) as weights:
                client.log_artifact(parent, weights, f"checkpoints/{key.rpartition('/')[0]}")
        client.log_text(
            parent,
            json.dumps({key.rpartition("/")[0]: run for key, run in best_runs.items()}, indent=2),
            "best_runs.json",
        )
        client.set_terminated(parent, status="FINISHED" if complete else "KILLED")
