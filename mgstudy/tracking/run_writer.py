"""Turn a study's events into MLflow runs: a parent run for the study, a child run for each trial.

Everything may be told twice, and is recorded once: runs are found again by their tags, steps that a
run has are left out, and a run that has ended is left alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mgstudy.study.search.state import GPU_SECONDS, Stage, State
from mgstudy.study.storage.epoch_metrics import recorded_name
from mgstudy.tracking.spool import FINISHED, REPORTED
from mgstudy.tracking.store import TrackingStore

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


@dataclass(frozen=True)
class StudyDescription:
    """What the parent run holds.

    Attributes:
        name: The study's name.
        question: What it asks.
        artifacts: File name to content: resolved configuration, environment, packages.
        tags: Tags of the parent run, such as the git revision.
        varying_factors: Factors with more than one level; they name the child runs.
        experiment_tags: Tags of the experiment, such as the views that MLflow's UI offers.
    """

    name: str
    question: str
    artifacts: Mapping[str, str]
    tags: Mapping[str, str]
    varying_factors: tuple[str, ...]
    experiment_tags: Mapping[str, str] = field(default_factory=dict)


@dataclass
class _Waiting:
    """What a run is to be told with the next request: a request for each thing would be a
    transaction for each."""

    params: list[Any] = field(default_factory=list)
    steps: list[list[Any]] = field(default_factory=list)


class RunWriter:
    """Writes to MLflow; whatever MLflow raises goes to the caller, who may try again.

    Args:
        store: Where to record.
        description: What the parent run holds.
        trials: What each trial is, by its key; may grow.
    """

    def __init__(
        self,
        store: TrackingStore,
        description: StudyDescription,
        trials: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self.store = store
        self.description = description
        self.trials = trials
        self._waiting: dict[str, _Waiting] = {}
        self._parent_run: str | None = None
        self._runs: dict[str, str] = {}
        self._ended: set[str] = set()
        self._recorded_steps: dict[str, int] = {}

    def write(self, event: Mapping[str, Any]) -> None:
        """Record one event; params and metrics wait for ``flush``, or for their run's end."""
        key = event["trial"]
        run_id = self._run_id(key, event["at"])
        if key in self._ended:
            return
        if event["event"] == REPORTED:
            self._collect_metrics(key, run_id, event)
        elif event["event"] == FINISHED:
            self._finish_trial(run_id, event)
            self._ended.add(key)

    def flush(self) -> None:
        """Send what was collected, one request for each run if that takes it."""
        for run_id in list(self._waiting):
            self._send(run_id)

    def open_study(self) -> str:
        """The parent run's id; opened when it is first needed."""
        if self._parent_run is None:
            for name, content in self.description.experiment_tags.items():
                self.store.client.set_experiment_tag(self.store.experiment_id, name, content)
            self._parent_run = self._find_or_create_parent()
        return self._parent_run

    def finish_study(self, complete: bool, best: Mapping[str, str | None]) -> None:
        """Mark the best trial of each cell, keep its weights as an artifact and close the parent;
        runs of trials that wait to be continued do not go on as if they ran.

        Args:
            complete: Whether all of the study's trials have run.
            best: Keys of the best trials so far, whenever they ran, with their checkpoint files;
                ``None`` where there is none.
        """
        parent, client = self.open_study(), self.store.client
        best_runs = {key: self._runs[key] for key in best if key in self._runs}
        for run in self.store.child_runs(parent):
            is_best, was_best = run.info.run_id in best_runs.values(), BEST_TAG in run.data.tags
            if is_best and not was_best:
                client.set_tag(run.info.run_id, BEST_TAG, "true")
            elif was_best and not is_best:
                client.delete_tag(run.info.run_id, BEST_TAG)
            if run.info.status == "RUNNING":
                client.set_tag(run.info.run_id, STATE_TAG, State.WAITING.value)
                client.set_terminated(run.info.run_id, status="KILLED")
        for key in best_runs:
            if (checkpoint := best[key]) is not None:
                self.store.log_file(parent, checkpoint, f"checkpoints/{key.rpartition('/')[0]}")
        client.log_text(
            parent,
            json.dumps({key.rpartition("/")[0]: run for key, run in best_runs.items()}, indent=2),
            "best_runs.json",
        )
        client.set_terminated(parent, status="FINISHED" if complete else "KILLED")

    def _send(self, run_id: str, last: Sequence[Any] = (), tags: Sequence[Any] = ()) -> None:
        """Send what waits for a run, and its last metrics and tags."""
        waiting = self._waiting.get(run_id, _Waiting())
        self.store.log(run_id, waiting.params, [*waiting.steps, last], tags)
        self._waiting.pop(run_id, None)

    def _find_or_create_parent(self) -> str:
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
            found = str(run.info.run_id)
        else:
            client.update_run(found, status="RUNNING")
        for name, content in self.description.artifacts.items():
            client.log_text(found, content, name)
        for run in self.store.child_runs(found):
            key = run.data.tags.get(TRIAL_TAG)
            if key is None:
                continue
            self._runs[key] = run.info.run_id
            if run.data.tags.get(STATE_TAG) in _STATUS and run.info.status in _STATUS.values():
                self._ended.add(key)
        return found

    def _run_id(self, key: str, at: int) -> str:
        """The trial's run, opened when it is first needed."""
        parent = self.open_study()
        if key not in self._runs:
            self._create_run(key, parent, at)
        elif key not in self._recorded_steps and key not in self._ended:
            run_id = self._runs[key]
            self._recorded_steps[key] = self.store.last_step(run_id)
            self.store.client.update_run(run_id, status="RUNNING")
            self.store.client.set_tag(run_id, STATE_TAG, State.RUNNING.value)
            if self._recorded_steps[key] == 0:
                # It may have been opened by a request whose end never came.
                self._collect_params(key, run_id)
        return self._runs[key]

    def _create_run(self, key: str, parent: str, at: int) -> None:
        trial = self.trials[key]
        levels = trial["levels"]
        named = [levels[factor] for factor in self.description.varying_factors]
        is_search = trial["stage"] == Stage.SEARCH
        number = f"#{trial['number']}" if is_search else f"confirmation {trial['number']}"
        run = self.store.client.create_run(
            self.store.experiment_id,
            start_time=at,
            run_name=" ".join([*named, number]),
            tags={
                STUDY_TAG: self.description.name,
                ROLE_TAG: "trial" if is_search else "confirmation",
                STAGE_TAG: trial["stage"],
                SEED_TAG: str(trial["seed"]),
                TRIAL_TAG: key,
                CELL_TAG: trial["cell"],
                STATE_TAG: State.RUNNING.value,
                PARENT_TAG: parent,
            },
        )
        self._runs[key] = run.info.run_id
        self._recorded_steps[key] = 0
        self._collect_params(key, run.info.run_id)

    def _collect_params(self, key: str, run_id: str) -> None:
        trial = self.trials[key]
        self._waiting.setdefault(run_id, _Waiting()).params = self.store.params(
            {
                name: str(value)[:_LONGEST_PARAMETER]
                for name, value in {**trial["levels"], **trial["parameters"]}.items()
            }
        )

    def _collect_metrics(self, key: str, run_id: str, event: Mapping[str, Any]) -> None:
        step = event["step"]
        if step > self._recorded_steps[key]:
            self._recorded_steps[key] = step
            self._waiting.setdefault(run_id, _Waiting()).steps.append(
                [
                    self.store.metric(name, number, event["at"], step)
                    for name, number in event["metrics"].items()
                ]
            )

    def _finish_trial(self, run_id: str, event: Mapping[str, Any]) -> None:
        outcome, state = event["outcome"], State(event["state"])
        step = int(outcome.get("epochs", 0))
        numbers = {
            recorded_name(prefix, name): number
            for prefix, kind in (("best", "best_metrics"), ("test", "test_metrics"))
            for name, number in outcome.get(kind, {}).items()
            if number is not None
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
                GPU_SECONDS,
            )
            if name in outcome
        }
        tags = {STATE_TAG: state.value, REASON_TAG: str(outcome.get("reason", state.value))}
        client = self.store.client
        at = event["at"]
        self._send(
            run_id,
            [self.store.metric(n, number, at, step) for n, number in numbers.items()],
            self.store.tags(tags),
        )
        if "traceback" in outcome:
            client.log_text(run_id, outcome["traceback"], "traceback.txt")
        client.set_terminated(run_id, status=_STATUS[state], end_time=at)
