"""One trial, in the process that Ray gives it."""

from __future__ import annotations

import json
import math
import time
import traceback
from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch
from ray.tune import Trainable

from mgstudy.config.parameters import Value
from mgstudy.config.study import Checkpoints
from mgstudy.config.training import TrainingSettings
from mgstudy.data.dataset import Dataset
from mgstudy.errors import InputError
from mgstudy.registry import look_in
from mgstudy.study.definition.cell import Cell
from mgstudy.study.running.cell_trainer import build_cell_trainer
from mgstudy.study.running.failures import Cause
from mgstudy.study.running.gpus import TrialGpu, ran_out_of_memory
from mgstudy.study.running.training_thread import TrainingThread
from mgstudy.study.running.trial_progress import (
    EARLIER,
    GPU_PEAK,
    METRICS,
    OUTCOME,
    PROBLEM,
    STEP,
    VALUE,
    TrialProgress,
)
from mgstudy.study.search.trials import Stage
from mgstudy.study.storage.checkpoints import TEST_USERS, CheckpointFolder, UnreachableError
from mgstudy.study.storage.epoch_metrics import recorded_name
from mgstudy.training.results import DivergedError, EpochResult


class StudyTrial(Trainable):  # type: ignore[misc]
    """Runs the trials it is given, one after another, in one warm process.

    A step trains until the next validation, or for ``seconds_per_result`` where several fit: a
    result costs the driver two milliseconds, too much for each of a GPU's epochs. What goes wrong
    in a trial ends that trial with its reason, and the process stays for the next one.

    Attributes:
        seconds_per_result: How long after its beginning a step begins no further epoch.
    """

    seconds_per_result = 0.25
    _training: TrainingThread | None = None

    def setup(
        self,
        config: dict[str, Any],
        cells: Mapping[str, Cell] | None = None,
        datasets: Mapping[str, Dataset] | None = None,
        settings: TrainingSettings | None = None,
        checkpoints: CheckpointFolder | None = None,
        policy: Checkpoints | None = None,
        modules_in: tuple[str, ...] = (),
    ) -> None:
        """Keep what all trials share; the arrays of ``datasets`` are views of Ray's object store.

        Args:
            config: The first trial, as ``OptunaSearcher.suggest`` gives it.
            cells: Every cell of the study, by key.
            datasets: Every dataset of the study, by its level's label.
            settings: How every trial trains.
            checkpoints: Where trials leave their states and best weights.
            policy: When they do.
            modules_in: Folders in which the study's own modules are found.
        """
        look_in(modules_in)
        assert cells is not None and datasets is not None and settings is not None
        assert checkpoints is not None and policy is not None
        self._cells, self._datasets, self._settings = cells, datasets, settings
        self._checkpoints, self._policy = checkpoints, policy
        resources = self.trial_resources.required_resources if self.trial_resources else {}
        self._threads = max(1, int(resources.get("CPU", 1)))
        torch.set_num_threads(self._threads)
        self._gpu = TrialGpu() if resources.get("GPU", 0) > 0 else None
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Make ready for another trial in the same process."""
        self._end_training()
        self._cell = self._cells[new_config["cell"]]
        self._key: str = new_config["key"]
        self._stage = Stage(new_config["stage"])
        self._seed: int = new_config["seed"]
        self._recorded: int = new_config["recorded"]
        self._parameters: Mapping[str, Value] = new_config["parameters"]
        self._progress: TrialProgress | None = None
        self._problems: list[str] = []
        self._share: float = 0.0 if self._gpu is None else new_config["gpu"]
        if self._gpu is not None:
            self._gpu.begin(self._share)
        return True

    def step(self) -> dict[str, Any]:
        """Train until the next validation, or some of them, or to the end."""
        if self._training is None:
            self._training = TrainingThread(self._next_report, self._threads)
        *earlier, report = self._training.reports(self.seconds_per_result)
        return {**report, EARLIER: json.dumps(earlier)} if earlier else report

    def _next_report(self) -> dict[str, Any]:
        try:
            report = self._advance()
        except DivergedError as error:
            report = self._fail({"reason": str(error)})
        except Exception as error:  # A bug must end this trial only, with its traceback kept.
            report = self._fail(self._what_broke(error))
        if self._problems:
            report[PROBLEM] = "; ".join(self._problems)
            self._problems = []
        return report

    def _what_broke(self, error: Exception) -> dict[str, Any]:
        """What is recorded of an exception; the process ends if it has broken its GPU."""
        if self._gpu is not None and ran_out_of_memory(error):
            reason = f"out of GPU memory: {' '.join(str(error).split())}"
            return {"reason": reason, "cause": Cause.MEMORY.value}
        if self._gpu is not None:
            self._gpu.end_if_broken()
        if isinstance(error, UnreachableError):
            reason = f"its files cannot be read or written: {error}"
            return {"reason": reason, "cause": Cause.FILES.value}
        reason = f"{type(error).__name__}: {error}"
        return {"reason": reason, "traceback": traceback.format_exc()}

    def cleanup(self) -> None:
        """Write down where a trial stands that is stopped from outside, and release its memory."""
        self._end_training()
        if self._progress is not None:
            self._progress.save()
        self._progress = None

    def _end_training(self) -> None:
        if self._training is not None:
            self._training.end()
            self._training = None

    def _advance(self) -> dict[str, Any]:
        if self._progress is None:
            began = time.perf_counter()
            self._progress = self._begin()
            self._progress.spend("seconds_setup", time.perf_counter() - began)
        progress = self._progress
        repeated = progress.next_repeated()
        if repeated is not None:
            return repeated
        while (result := progress.next_epoch()) is not None:
            if result.metrics is not None:
                return self._report(result, progress)
            progress.save_if_due()
        raise RuntimeError("the trainer ended without a last validation")

    def _begin(self) -> TrialProgress:
        """The trial at its last good state, or at its start."""
        found = self._checkpoints.load_last(self._key)
        self._problems += found.problems
        progress = self._build()
        if found.content is None:
            return progress
        try:
            progress.load_state_dict(found.content, self._recorded)
        except (InputError, KeyError, ValueError, RuntimeError) as error:
            # Of another version, say. What it has changed so far must not leak into the trial.
            self._problems.append(f"begun anew: its checkpoint does not fit: {error}")
            progress = self._build()
        return progress

    def _build(self) -> TrialProgress:
        trainer = build_cell_trainer(
            self._cell,
            self._cell.completed(self._datasets[self._cell.dataset]),
            self._parameters,
            self._settings,
            "cpu" if self._gpu is None else "cuda",
            seed=self._seed,
        )
        return TrialProgress(
            self._key,
            trainer,
            self._checkpoints,
            self._policy,
            self._problems.append,
            self._share,
        )

    def _report(self, result: EpochResult, progress: TrialProgress) -> dict[str, Any]:
        assert result.metrics is not None
        report: dict[str, Any] = {
            STEP: result.epoch + 1,
            VALUE: result.metrics[self._settings.objective],
            METRICS: json.dumps(_mlflow_metrics(result, self._settings.objective)),
            **({} if self._gpu is None else {GPU_PEAK: self._gpu.peak()}),
        }
        outcome: dict[str, Any] = {
            **progress.spent(),
            "best_epoch": 1 + (result.best_epoch or 0),
            "best_value": result.best_value,
        }
        if result.stop_reason is None:
            report[OUTCOME] = json.dumps(outcome)
            progress.reports.append(report)
            progress.save_if_due()
            return dict(report)
        outcome["best_metrics"] = progress.trainer.best_metrics
        weights = progress.save_best()
        if weights is not None:
            outcome["checkpoint"] = weights
        if self._stage is Stage.CONFIRMATION:
            outcome |= self._test(progress)
        outcome = {"done": True, "reason": result.stop_reason, **outcome}
        self._progress = None
        return {**report, "done": True, OUTCOME: json.dumps(outcome)}

    def _fail(self, outcome: dict[str, Any]) -> dict[str, Any]:
        spent = {} if self._progress is None else self._progress.spent()
        self._progress = None
        return {"done": True, OUTCOME: json.dumps({**spent, "failed": True, **outcome})}

    def _test(self, progress: TrialProgress) -> dict[str, Any]:
        """Score the best weights on the test split, and keep every user's scores beside them."""
        began = time.perf_counter()
        of_users, metrics = progress.trainer.tested()
        table = pd.DataFrame(of_users).to_parquet(index=False)
        return {
            "test_metrics": metrics,
            "test_users": self._checkpoints.save_bytes(self._key, TEST_USERS, table),
            "seconds_test": time.perf_counter() - began,
        }


def _mlflow_metrics(result: EpochResult, objective: str) -> dict[str, float]:
    """The epoch's measurements under names that MLflow accepts (``@`` is not among them).

    The objective comes first: MLflow's comparison opens on the first metric.
    """
    assert result.metrics is not None
    validation = {
        recorded_name("validation", name): result.metrics[name]
        for name in dict.fromkeys([objective, *result.metrics])
    }
    time_spent = {
        "time/training_seconds": result.seconds_training,
        "time/evaluation_seconds": result.seconds_evaluation,
    }
    if math.isnan(result.loss):  # A model without training has none.
        return {**validation, **time_spent}
    training = {
        "training/loss": result.loss,
        "training/learning_rate": result.learning_rate,
        "training/gradient_computations": result.gradient_computations,
    }
    return {**validation, **training, **time_spent}
