"""MLflow as a projection of a study's record: what the record has and MLflow lacks is written.

What MLflow has is read from MLflow itself: runs by their tags, a curve by its last step, an end by
state and status. So what was cut off at any point, by a kill or by an answer that never came, is
made good the next time, and nothing is there twice.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from mgstudy.files import Progress, no_progress
from mgstudy.fingerprint import fingerprint
from mgstudy.study.definition.manifest import StudyManifest
from mgstudy.study.search.state import CellState
from mgstudy.study.search.trials import GPU_SECONDS, RecordedTrial, Stage, State
from mgstudy.study.storage.epoch_metrics import EpochMetrics, EpochRecord, recorded_name
from mgstudy.tracking.store import ROLE_TAG, STUDY_TAG, TRIAL_TAG, TrackingStore
from mgstudy.tracking.views import NOTE_TAG, cell_titles, experiment_tags

STAGE_TAG = "mgstudy.stage"
SEED_TAG = "mgstudy.seed"
STATE_TAG = "mgstudy.state"
REASON_TAG = "mgstudy.reason"
BEST_TAG = "mgstudy.best_of_cell"
PARENT_TAG = "mlflow.parentRunId"
COMMIT_TAG = "mlflow.source.git.commit"

_STATUS = {State.COMPLETE: "FINISHED", State.PRUNED: "KILLED", State.FAILED: "FAILED"}
_RUNNING = (State.RUNNING.value, "RUNNING")
_COSTS = (
    "epochs",
    "best_epoch",
    "gradient_computations",
    *(f"seconds_{part}" for part in ("setup", "training", "evaluation", "test")),
    GPU_SECONDS,
)
_LONGEST_PARAMETER = 6000
_EPOCHS_AT_ONCE = 1000
_DIGEST_DIGITS = 8


@dataclass
class _Run:
    """What MLflow has of a trial.

    Attributes:
        id: The run's id.
        stands: The trial's state by the run's tag, and the run's own status.
        step: The first step that may not be there whole.
        params: Names of its params.
        is_best: Whether it is marked as the best of its cell.
        is_deleted: Whether it was deleted there.
    """

    id: str
    stands: tuple[str, str] = _RUNNING
    step: int = 0
    params: frozenset[str] = frozenset()
    is_best: bool = False
    is_deleted: bool = False


@dataclass
class _Begun:
    """A trial whose end MLflow does not have, and the steps that were measured of it."""

    cell: CellState
    trial: RecordedTrial
    steps: set[int] = field(default_factory=set)


class Projection:
    """Brings MLflow up to a study's record. Whatever MLflow raises goes to the caller, who makes
    another projection and tries again.

    Args:
        store: Where to record.
        manifest: The study.
        metrics: What every epoch measured.
        states: Gives the study's cells as they stand; a cell that has not changed is the same
            object as before.
        requirements: The installed packages, where the study runs now.
        restore: Whether what was deleted in MLflow is restored; else it stays deleted.

    Attributes:
        written: Runs begun, epochs and ends that MLflow was told.
    """

    def __init__(
        self,
        store: TrackingStore,
        manifest: StudyManifest,
        metrics: EpochMetrics,
        states: Callable[[], Sequence[CellState]],
        requirements: str | None = None,
        restore: bool = False,
    ) -> None:
        self.store, self.manifest, self.written = store, manifest, 0
        self._metrics, self._states, self._restore = metrics, states, restore
        self._objective = recorded_name("validation", manifest.config.training.objective)
        self._place = 0
        self._cells: dict[str, CellState] = {}
        self._begun: dict[str, _Begun] = {}
        self._ended: set[str] = set()
        self._runs: dict[str, _Run] = {}
        store.experiment_id = store.open_experiment(experiment_tags(manifest), restore)
        revision = manifest.environment.git_revision
        self._commit = {COMMIT_TAG: revision} if revision else {}
        self._title = cell_titles([cell.levels for cell in manifest.cells])
        self._parent = self._open_parent()
        cells = [{"levels": cell.levels, "spaces": cell.spaces} for cell in manifest.cells]
        artifacts = {
            "study.json": manifest.config.model_dump_json(indent=2),
            "cells.json": json.dumps(cells, indent=2),
            "environment.json": manifest.environment.model_dump_json(indent=2, exclude_unset=True),
            "requirements.txt": requirements,
        }
        for name, content in artifacts.items():
            if content is not None:
                store.client.log_text(self._parent, content, name)

    def advance(self, progress: Progress = no_progress) -> None:
        """Write all that has come since, epochs in batches.

        Args:
            progress: Told how many trials MLflow has whole.
        """
        self._look()
        # Their last epochs can be read by now. Those that end meanwhile are for the next time.
        ended = {key for key, begun in self._begun.items() if begun.trial.state.is_ended}
        while True:
            read = list(islice(self._metrics.read(self._place), _EPOCHS_AT_ONCE))
            self._look()  # A trial is known before any epoch of it can be read.
            epochs: dict[str, list[EpochRecord]] = {}
            for epoch, _ in read:
                epochs.setdefault(epoch.trial, []).append(epoch)
            is_last = len(read) < _EPOCHS_AT_ONCE
            for key, begun in list(self._begun.items()):
                self._write(begun, epochs.get(key, ()), is_last and key in ended)
                progress("trials", len(self._ended), len(self._ended) + len(self._begun))
            if read:
                self._place = read[-1][1]
            if is_last:
                return

    def close(self, complete: bool) -> None:
        """Mark the best trial of each cell, keep its weights as an artifact and close the study's
        run; runs of trials that wait to be continued do not go on as if they ran.

        Args:
            complete: Whether all of the study's trials have run.
        """
        client = self.store.client
        self._parent = self._read_runs() or self._parent
        best = {cell.best.key: cell.best for cell in self._states() if cell.best is not None}
        runs = {key: run for key, run in self._runs.items() if not run.is_deleted}
        for key, run in runs.items():
            if run.is_best and key not in best:
                client.delete_tag(run.id, BEST_TAG)
            if run.stands[1] == "RUNNING":
                client.set_tag(run.id, STATE_TAG, State.WAITING.value)
                client.set_terminated(run.id, status="KILLED")
        of_cells: dict[str, str] = {}
        for key in best.keys() & runs.keys():
            cell, run = key.rpartition("/")[0], runs[key]
            of_cells[cell] = run.id
            if self._restore or not run.is_best:
                weights = best[key].weights
                where = str(weights) if weights.is_file() else best[key].outcome.get("checkpoint")
                if where is not None:
                    self.store.log_file(self._parent, where, f"checkpoints/{cell}")
                client.set_tag(run.id, BEST_TAG, "true")
        client.log_text(self._parent, json.dumps(of_cells, indent=2), "best_runs.json")
        client.set_terminated(self._parent, status="FINISHED" if complete else "KILLED")

    def _look(self) -> None:
        """Take note of the trials of cells that have changed."""
        for cell in self._states():
            if self._cells.get(cell.key) is not cell:
                self._cells[cell.key] = cell
                for trial in cell.every_trial():
                    if trial.key in self._begun:
                        self._begun[trial.key].trial = trial
                    elif trial.key not in self._ended:
                        self._begun[trial.key] = _Begun(cell, trial)

    def _write(self, begun: _Begun, epochs: Sequence[EpochRecord], ends: bool) -> None:
        """Bring the run of one trial up to these epochs, and to its end if it has come."""
        trial, client = begun.trial, self.store.client
        run = self._runs.get(trial.key)
        end = (trial.state.value, _STATUS.get(trial.state, ""))
        if run is not None and (run.is_deleted or run.stands == end):
            self._forget(trial.key)
            return
        if run is None:
            run = self._runs[trial.key] = self._create_run(begun)
        elif trial.state is State.RUNNING and run.stands != _RUNNING:
            client.update_run(run.id, status="RUNNING")
            client.set_tag(run.id, STATE_TAG, State.RUNNING.value)
            run.stands = _RUNNING
        begun.steps |= {epoch.step for epoch in epochs}
        fresh = [epoch for epoch in epochs if epoch.step >= run.step]
        metric, tags = self.store.metric, {}
        steps = [
            [metric(name, x, epoch.at, epoch.step) for name, x in epoch.metrics.items()]
            for epoch in fresh
        ]
        if ends:
            steps += [*self._unmeasured(begun), self._result(trial)]
            reason = str(trial.outcome.get("reason", trial.state.value))
            tags = {STATE_TAG: trial.state.value, REASON_TAG: reason}
        params = {
            name: str(value)[:_LONGEST_PARAMETER]
            for name, value in {**begun.cell.levels, **trial.parameters}.items()
            if name not in run.params
        }
        if params:  # The first time; what is told again is not there twice.
            self._tell_dataset(run.id, begun.cell.levels["dataset"])
        self.store.log(run.id, params, steps, tags)
        run.params |= params.keys()
        if fresh:
            run.step = fresh[-1].step + 1
        self.written += len(fresh)
        if ends:
            if "traceback" in trial.outcome:
                client.log_text(run.id, trial.outcome["traceback"], "traceback.txt")
            client.set_terminated(run.id, status=end[1], end_time=_span(trial)[1])
            run.stands = end
            self.written += 1
            self._forget(trial.key)

    def _tell_dataset(self, run: str, label: str) -> None:
        """Have MLflow show which dataset a run was trained on, where the manifest still has it."""
        from mlflow.entities import Dataset, DatasetInput, InputTag  # noqa: PLC0415

        entry = self.manifest.datasets.get(label)
        if entry is not None:
            tables = json.dumps({"interactions": entry.interactions, **entry.features})
            digest = fingerprint({"tables": tables})[:_DIGEST_DIGITS]
            told = Dataset(label, digest, "mgstudy", tables)
            context = [InputTag("mlflow.data.context", "training")]
            self.store.client.log_inputs(run, [DatasetInput(told, context)])

    def _forget(self, key: str) -> None:
        del self._begun[key]
        self._ended.add(key)

    def _unmeasured(self, begun: _Begun) -> Iterator[list[Any]]:
        """The objective of the epochs of which no more is kept, evenly over the trial's time."""
        (since, until), values = _span(begun.trial), begun.trial.values
        for step in sorted(values.keys() - begun.steps):
            at = since + (until - since) * step // max(values)
            yield [self.store.metric(self._objective, values[step], at, step)]

    def _result(self, trial: RecordedTrial) -> list[Any]:
        """What came out of a trial, as metrics of its last epoch."""
        outcome = trial.outcome
        numbers = {f"cost/{name}": outcome[name] for name in _COSTS if name in outcome}
        for group in ("best", "test"):
            for name, number in outcome.get(f"{group}_metrics", {}).items():
                if number is not None:
                    numbers[recorded_name(group, name)] = number
        at, step = _span(trial)[1], int(outcome.get("epochs", 0))
        return [self.store.metric(name, number, at, step) for name, number in numbers.items()]

    def _create_run(self, begun: _Begun) -> _Run:
        trial, levels = begun.trial, begun.cell.levels
        is_search = trial.stage is Stage.SEARCH
        number = f"#{trial.number}" if is_search else f"confirmation {trial.number}"
        tags = {
            **self._commit,
            STUDY_TAG: self.manifest.name,
            ROLE_TAG: "trial" if is_search else "confirmation",
            STAGE_TAG: trial.stage.value,
            SEED_TAG: str(trial.seed),
            TRIAL_TAG: trial.key,
            "mgstudy.cell": begun.cell.key,
            STATE_TAG: State.RUNNING.value,
            PARENT_TAG: self._parent,
        }
        created = self.store.client.create_run(
            self.store.experiment_id, _span(trial)[0], tags, f"{self._title(levels)} {number}"
        )
        self.written += 1
        return _Run(created.info.run_id)

    def _open_parent(self) -> str:
        """The study's own run, which goes on; created if it is missing."""
        parent, client = self._read_runs(), self.store.client
        if parent is not None:
            client.update_run(parent, status="RUNNING")
            return parent
        config = self.manifest.config
        tags = {
            **self._commit,
            STUDY_TAG: self.manifest.name,
            ROLE_TAG: "study",
            NOTE_TAG: config.question,
            "mgstudy.objective": config.training.objective,
        }
        run = client.create_run(self.store.experiment_id, tags=tags, run_name=self.manifest.name)
        return str(run.info.run_id)

    def _read_runs(self) -> str | None:
        """Learn what MLflow has, and delete what it has twice; the id of the study's own run."""
        found: dict[str, list[Any]] = {}
        for run in self.store.runs({STUDY_TAG: self.manifest.name}, deleted=True):
            found.setdefault(run.data.tags.get(TRIAL_TAG, ""), []).append(run)
        parents = found.pop("", [])
        self._runs = {
            key: self._known(self._only_one(runs, self._content, self._restore))
            for key, runs in found.items()
        }
        children = Counter(run.data.tags.get(PARENT_TAG) for runs in found.values() for run in runs)
        if not parents:
            return None
        parent = self._only_one(parents, lambda run: children[run.info.run_id], restore=True)
        return str(parent.info.run_id)

    def _only_one(self, runs: Sequence[Any], content: Callable[[Any], Any], restore: bool) -> Any:
        """The run of several that has the most content; the others are deleted, as is what came
        later of a request that was thought lost."""
        client = self.store.client
        ranked = sorted(runs, key=lambda run: (content(run), run.info.run_id))
        active = [run for run in ranked if run.info.lifecycle_stage == "active"]
        if not active and restore:
            client.restore_run(ranked[-1].info.run_id)
            return client.get_run(ranked[-1].info.run_id)
        for other in active[:-1]:
            client.delete_run(other.info.run_id)
        return (active or ranked)[-1]

    def _content(self, run: Any) -> tuple[bool, int]:
        known = self._known(run)
        return known.stands != _RUNNING, known.step

    def _known(self, run: Any) -> _Run:
        steps = [m.step for m in run.data.to_proto().metrics if m.key == self._objective]
        return _Run(
            run.info.run_id,
            (run.data.tags.get(STATE_TAG, ""), run.info.status),
            max(steps, default=0),
            frozenset(run.data.params),
            BEST_TAG in run.data.tags,
            run.info.lifecycle_stage != "active",
        )


def _span(trial: RecordedTrial) -> tuple[int, int]:
    """When a trial began and ended, in ms since 1970, whatever became of the clock meanwhile."""
    began, ended = (
        0 if moment is None else int(moment.timestamp() * 1000)
        for moment in (trial.began, trial.ended)
    )
    return began, max(began, ended)
