"""One trial, in the process that Ray gives it."""

from __future__ import annotations

import json
import math
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from ray.tune import Trainable

from mgstudy.config.parameters import Value
from mgstudy.config.training import TrainingSettings
from mgstudy.data.dataset import Dataset
from mgstudy.data.files import written_whole
from mgstudy.study.cells import Cell
from mgstudy.study.events import Stage
from mgstudy.study.folder import BEST_WEIGHTS, TEST_USERS
from mgstudy.study.searcher import METRICS, OUTCOME, STEP, VALUE
from mgstudy.training.checkpoint import save_checkpoint
from mgstudy.training.run import build_trainer
from mgstudy.training.trainer import DivergedError, EpochResult, Trainer


class StudyTrial(Trainable):  # type: ignore[misc]
    """Runs the trials it is given, one after another, in one warm process.

    A step trains until the next validation. What goes wrong in a trial ends that trial with its
    reason, and the process stays for the next one.
    """

    def setup(
        self,
        config: dict[str, Any],
        cells: Mapping[str, Cell] | None = None,
        datasets: Mapping[str, Dataset] | None = None,
        settings: TrainingSettings | None = None,
        checkpoints: Path | None = None,
    ) -> None:
        """Keep what all trials share; the arrays of ``datasets`` are views of Ray's object store.

        Args:
            config: The first trial, as ``OptunaSearcher.suggest`` gives it.
            cells: Every cell of the study, by key.
            datasets: Every dataset of the study, by name.
            settings: How every trial trains.
            checkpoints: Folder under which a trial leaves its best weights.
        """
        assert cells is not None and datasets is not None and settings is not None
        assert checkpoints is not None
        self._cells, self._datasets, self._settings = cells, datasets, settings
        self._checkpoints = checkpoints
        resources = self.trial_resources.required_resources if self.trial_resources else {}
        torch.set_num_threads(max(1, int(resources.get("CPU", 1))))
        self._device = "cuda" if resources.get("GPU", 0) > 0 else "cpu"
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Make ready for another trial in the same process."""
        self._cell = self._cells[new_config["cell"]]
        self._folder = self._checkpoints / new_config["key"]
        self._stage = Stage(new_config["stage"])
        self._seed: int = new_config["seed"]
        self._parameters: Mapping[str, Value] = new_config["parameters"]
        self._trainer: Trainer | None = None
        self._epochs: Iterator[EpochResult] = iter(())
        self._cost: dict[str, float] = {
            "seconds_setup": 0.0,
            "seconds_training": 0.0,
            "seconds_evaluation": 0.0,
        }
        return True

    def step(self) -> dict[str, Any]:
        """Train until the next validation, or to the end."""
        try:
            return self._advance()
        except DivergedError as error:
            return self._end({"failed": True, "reason": str(error)})
        except torch.OutOfMemoryError as error:
            return self._end({"failed": True, "reason": f"out of GPU memory: {error}"})
        except Exception as error:  # A bug must end this trial only, with its traceback kept.
            reason = f"{type(error).__name__}: {error}"
            trace = traceback.format_exc()
            return self._end({"failed": True, "reason": reason, "traceback": trace})

    def cleanup(self) -> None:
        """Release the trainer's memory."""
        self._trainer = None

    def _advance(self) -> dict[str, Any]:
        if self._trainer is None:
            began = time.perf_counter()
            self._trainer = self._build()
            self._epochs = self._trainer.epochs()
            self._cost["seconds_setup"] = time.perf_counter() - began
        for result in self._epochs:
            self._cost["seconds_training"] += result.seconds_training
            self._cost["seconds_evaluation"] += result.seconds_evaluation
            if result.metrics is not None:
                return self._report(result)
        raise RuntimeError("the trainer ended without a last validation")

    def _build(self) -> Trainer:
        return build_cell_trainer(
            self._cell,
            self._datasets[self._cell.dataset],
            self._parameters,
            self._settings,
            self._device,
            seed=self._seed,
        )

    def _report(self, result: EpochResult) -> dict[str, Any]:
        assert result.metrics is not None and self._trainer is not None
        report: dict[str, Any] = {
            STEP: result.epoch + 1,
            VALUE: result.metrics[self._settings.objective],
            METRICS: json.dumps(_mlflow_metrics(result, self._settings.objective)),
        }
        outcome: dict[str, Any] = {
            **self._cost,
            "epochs": result.epoch + 1,
            "best_epoch": 1 + (result.best_epoch or 0),
            "best_value": result.best_value,
            "gradient_computations": result.gradient_computations,
        }
        if result.stop_reason is None:
            return {**report, OUTCOME: json.dumps(outcome)}
        outcome["best_metrics"] = self._trainer.best_metrics
        outcome["checkpoint"] = str(self._save_best())
        if self._stage is Stage.CONFIRMATION:
            outcome |= self._test()
        return {**report, **self._end({"done": True, "reason": result.stop_reason, **outcome})}

    def _end(self, outcome: dict[str, Any]) -> dict[str, Any]:
        self._trainer = None
        self._epochs = iter(())
        return {"done": True, OUTCOME: json.dumps({**self._cost, **outcome})}

    def _save_best(self) -> Path:
        assert self._trainer is not None
        path: Path = self._folder / BEST_WEIGHTS
        self._trainer.restore_best()
        save_checkpoint(path, {"model": self._trainer.model.state_dict()})
        return path

    def _test(self) -> dict[str, Any]:
        """Score the best weights on the test split, and keep every user's scores beside them."""
        assert self._trainer is not None
        began = time.perf_counter()
        users = pd.DataFrame(self._trainer.test_users())
        path = self._folder / TEST_USERS
        with written_whole(path) as file:
            users.to_parquet(file, index=False)
        return {
            "test_metrics": users.drop(columns="user").mean().to_dict(),
            "test_users": str(path),
            "seconds_test": time.perf_counter() - began,
        }


def _mlflow_metrics(result: EpochResult, objective: str) -> dict[str, float]:
    """The epoch's measurements under names that MLflow accepts (``@`` is not among them).

    The objective comes first: MLflow's comparison opens on the first metric.
    """
    assert result.metrics is not None
    validation = {
        f"validation/{name.replace('@', '_at_')}": result.metrics[name]
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


def build_cell_trainer(
    cell: Cell,
    dataset: Dataset,
    parameters: Mapping[str, Value],
    settings: TrainingSettings,
    device: str = "cpu",
    seed: int | None = None,
) -> Trainer:
    """Build what a trial of ``cell`` trains.

    Args:
        cell: The cell.
        dataset: The cell's dataset.
        parameters: A value for every parameter of the cell.
        settings: How it trains.
        device: Where it trains.
        seed: The training seed; the cell's when not given.
    """
    own = cell.own
    return build_trainer(
        dataset,
        model=cell.model,
        model_parameters=own("model", cell.model, parameters),
        gradient=cell.gradient,
        gradient_parameters=own("gradient", cell.gradient, parameters),
        robust=[(method, own("robust", method, parameters)) for method in cell.robust],
        optimizer=cell.optimizer,
        optimizer_parameters=own("optimizer", None, parameters),
        settings=settings,
        seed=cell.seed if seed is None else seed,
        device=device,
    )
