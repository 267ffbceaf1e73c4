"""How soon a search finds a configuration as good as the best of the whole grid.

    python benchmarks/search.py --home WORKSPACE

The same trainer, space, epochs and number of trials, on the same slots, are searched by mgstudy; by
plain Ray Tune with OptunaSearch, ASHA and MLflowLoggerCallback; by Optuna alone in a loop; and as
the exhaustive grid. Every approach is a process of its own, timed from its start to its end, Ray
and MLflow included.

Printed: wall time until a validation reaches 99 % of the grid's best, wall time in all, time spent
in training and evaluation, and its share of the slots' wall time.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import ray
import torch
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

import mgstudy
from mgstudy.config.document import parse_document
from mgstudy.config.study import StudyConfig
from mgstudy.config.training import EarlyStopping, TrainingSettings
from mgstudy.data.dataset import Dataset
from mgstudy.data.loading import load_dataset
from mgstudy.study.definition.study import check_study
from mgstudy.study.search.events import StudyListener, TrialRequest
from mgstudy.training.run import build_trainer
from mgstudy.workspace import Workspace

OBJECTIVE = "recall@20"
GRID = "exhaustive grid"
GOOD_ENOUGH = 0.99
SPACE: dict[str, dict[str, list[Any]]] = {
    "LightGCN": {
        "layers": [1, 2, 3, 4],
        "regularization": [1e-2, 1e-3, 1e-4, 1e-5, 1e-6],
        "learning_rate": [5e-4, 1e-3, 5e-3],
    },
    "BPR": {
        "embedding_size": [32, 64, 128],
        "regularization": [1e-1, 1e-2, 1e-3, 1e-4, 1e-5],
        "learning_rate": [5e-4, 1e-3, 2e-3, 5e-3],
    },
}


@dataclass(frozen=True)
class Task:
    """What is searched, and on how much.

    Attributes:
        home: Workspace with the prepared dataset.
        dataset: Its name.
        model: The model.
        epochs: Most epochs of a trial.
        warm_up: Epochs before any approach may stop a trial.
        trials: Trials of every approach but the grid.
        slots: Trials at once, with one thread each.
        seed: Of the samplers.
    """

    home: str
    dataset: str
    model: str
    epochs: int
    warm_up: int
    trials: int
    slots: int
    seed: int

    @property
    def space(self) -> dict[str, list[Any]]:
        """The values of every parameter."""
        return SPACE[self.model]

    @property
    def settings(self) -> TrainingSettings:
        """How every trial trains."""
        return TrainingSettings(
            epochs=self.epochs,
            objective=OBJECTIVE,
            early_stopping=EarlyStopping(patience=20, minimum_epochs=30),
        )

    def load(self) -> Dataset:
        """The dataset."""
        return load_dataset(Workspace.resolve(Path(self.home)), self.dataset)


class Log:
    """Collects what every validation gave and when, from several processes, in one file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, parameters: Mapping[str, Any], value: float, seconds: float) -> None:
        """A validation under these parameters, after ``seconds`` of training and evaluation."""
        line = json.dumps(
            {"at": time.time(), "parameters": parameters, "value": value, "seconds": seconds}
        )
        with self.path.open("a") as file:
            file.write(line + "\n")


def validations(
    task: Task, dataset: Dataset, configuration: Mapping[str, Any], log: Log
) -> Iterator[tuple[int, float]]:
    """Train one configuration; epoch and objective after each validation."""
    torch.set_num_threads(1)
    own = dict(configuration)
    rate = own.pop("learning_rate")
    trainer = build_trainer(
        dataset,
        model=task.model,
        model_parameters=own,
        optimizer_parameters={"learning_rate": rate},
        settings=task.settings,
        seed=999,
    )
    for result in trainer.epochs():
        assert result.metrics is not None
        value = result.metrics[OBJECTIVE]
        log.add(configuration, value, result.seconds_training + result.seconds_evaluation)
        yield result.epoch, value


def _tune_trainable(configuration: dict[str, Any], task: Task, dataset: Dataset, log: Log) -> None:
    best = 0.0
    for epoch, value in validations(task, dataset, configuration, log):
        best = max(best, value)
        tune.report({"recall_at_20": value, "best": best, "epoch": epoch})


def _tune(task: Task, log: Log, folder: Path, **settings: Any) -> None:
    ray.init(address="local", num_cpus=task.slots, include_dashboard=False, log_to_driver=False)
    trainable = tune.with_parameters(_tune_trainable, task=task, dataset=task.load(), log=log)
    space = settings.pop("space")
    callbacks = settings.pop("callbacks", [])
    tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        param_space=space,
        tune_config=tune.TuneConfig(metric="recall_at_20", mode="max", **settings),
        run_config=tune.RunConfig(storage_path=str(folder / "ray"), callbacks=callbacks, verbose=0),
    ).fit()
    ray.shutdown()


def grid(task: Task, log: Log, folder: Path) -> None:
    """Every combination once, trained to its end, the slots side by side."""
    space = {name: tune.grid_search(values) for name, values in task.space.items()}
    _tune(task, log, folder, space=space, num_samples=1)


def ray_tune_parts(task: Task) -> dict[str, Any]:
    """What its documentation recommends for Ray Tune: OptunaSearch and ASHA."""
    return {
        "space": {name: tune.choice(values) for name, values in task.space.items()},
        "search_alg": OptunaSearch(sampler=optuna.samplers.TPESampler(seed=task.seed)),
        "scheduler": ASHAScheduler(max_t=task.epochs, grace_period=task.warm_up),
    }


def optuna_parts(task: Task) -> dict[str, Any]:
    """Optuna's default sampler and pruner."""
    return {
        "direction": "maximize",
        "sampler": optuna.samplers.TPESampler(seed=task.seed),
        "pruner": optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=task.warm_up),
    }


def suggest(trial: optuna.Trial, task: Task) -> dict[str, Any]:
    """Optuna's next parameters."""
    return {name: trial.suggest_categorical(name, values) for name, values in task.space.items()}


def ray_tune(task: Task, log: Log, folder: Path) -> None:
    """Ray Tune with MLflow's callback."""
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    _tune(
        task,
        log,
        folder,
        **ray_tune_parts(task),
        num_samples=task.trials,
        callbacks=[MLflowLoggerCallback(tracking_uri=uri, experiment_name="search")],
    )


def optuna_alone(task: Task, log: Log, folder: Path) -> None:
    """Optuna's own loop: one trial after another, in one process."""
    dataset = task.load()

    def objective(trial: optuna.Trial) -> float:
        best = 0.0
        for epoch, value in validations(task, dataset, suggest(trial, task), log):
            best = max(best, value)
            trial.report(value, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return best

    storage = f"sqlite:///{folder / 'optuna.db'}"
    study = optuna.create_study(storage=storage, **optuna_parts(task))
    study.optimize(objective, n_trials=task.trials)


class _Observer(StudyListener):
    def __init__(self, log: Log) -> None:
        self.log = log

    def trial_reported(
        self, trial: TrialRequest, step: int, value: float, metrics: Mapping[str, float]
    ) -> None:
        seconds = metrics["time/training_seconds"] + metrics["time/evaluation_seconds"]
        self.log.add(trial.parameters, value, seconds)


def study_file(task: Task) -> dict[str, Any]:
    """The task as mgstudy's study file, under its default pruner."""
    model_space = {n: {"choice": v} for n, v in task.space.items() if n != "learning_rate"}
    pruner = StudyConfig.model_fields["pruner"].default.model_dump()
    pruner["arguments"]["wrapped_pruner"]["arguments"]["n_warmup_steps"] = task.warm_up
    return {
        "name": "search",
        "factors": {"dataset": [task.dataset], "model": [task.model]},
        "space": {
            "model": {task.model: model_space},
            "optimizer": {"learning_rate": {"choice": task.space["learning_rate"]}},
        },
        "trials": task.trials,
        "seed": task.seed,
        "training": task.settings.model_dump(mode="json"),
        "pruner": pruner,
        "resources": {"cpu": 1, "max_concurrent": task.slots},
        "confirmation": {"seeds": 0},  # Nobody else retrains the winner.
    }


def this_platform(task: Task, log: Log, folder: Path) -> None:
    """mgstudy, launched as from the command line."""
    source, workspace = Workspace.resolve(Path(task.home)), Workspace.resolve(folder / "home")
    workspace.datasets.parent.mkdir(parents=True)
    workspace.datasets.symlink_to(source.datasets.resolve())
    workspace.tables.symlink_to(source.tables.resolve())
    checked = check_study(parse_document(json.dumps(study_file(task)), "search"), workspace)
    mgstudy.launch(checked, listeners=[_Observer(log)])


APPROACHES: dict[str, Callable[[Task, Log, Path], None]] = {
    GRID: grid,
    "mgstudy": this_platform,
    "Ray Tune + OptunaSearch + ASHA": ray_tune,
    "Optuna alone": optuna_alone,
}


@dataclass(frozen=True)
class Course:
    """One approach's run.

    Attributes:
        began: Time of its start, in seconds since the epoch.
        wall: Seconds from its start to its end.
        observations: Every validation, in order of time.
    """

    began: float
    wall: float
    observations: list[dict[str, float]]

    @property
    def best(self) -> float:
        """The best validation."""
        return max(observation["value"] for observation in self.observations)

    @property
    def computed(self) -> float:
        """Seconds of training and evaluation."""
        return sum(observation["seconds"] for observation in self.observations)

    @property
    def before(self) -> float:
        """Seconds from its start to that of the first training."""
        first = self.observations[0]
        return first["at"] - first["seconds"] - self.began

    @property
    def after(self) -> float:
        """Seconds from the last validation to its end."""
        return self.began + self.wall - self.observations[-1]["at"]

    def reached(self, value: float) -> float | None:
        """Seconds until a validation was at least ``value``; ``None`` if none was."""
        for observation in self.observations:
            if observation["value"] >= value:
                return observation["at"] - self.began
        return None


def run_apart(approach: str, task: Task) -> Course:
    """Run an approach in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.jsonl"
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_AIR_NEW_OUTPUT": "0"}
        began = time.time()
        ended = subprocess.run(
            [sys.executable, __file__, "--run", approach, folder, json.dumps(vars(task))],
            check=False,
            capture_output=True,
            text=True,
            env=environment,
        )
        if ended.returncode:
            sys.exit(f"{approach} failed:\n{ended.stderr}")
        wall = time.time() - began
        lines = log.read_text().splitlines()
    return Course(began, wall, sorted(map(json.loads, lines), key=lambda line: line["at"]))


def write_curves(path: Path, task: Task, grid_course: Course) -> None:
    """Write every combination's validations and their seconds, for ``search_replay.py``."""
    curves: dict[str, dict[str, Any]] = {}
    for observation in grid_course.observations:
        key = json.dumps(observation["parameters"], sort_keys=True)
        empty = {"parameters": observation["parameters"], "values": [], "seconds": []}
        curve = curves.setdefault(key, empty)
        curve["values"].append(observation["value"])
        curve["seconds"].append(observation["seconds"])
    path.write_text(json.dumps({"task": vars(task), "curves": list(curves.values())}))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--home", type=Path, required=True, help="workspace with the dataset")
    arguments.add_argument("--dataset", default="tiktok")
    arguments.add_argument("--model", default="LightGCN", choices=SPACE)
    arguments.add_argument("--epochs", type=int, default=300)
    arguments.add_argument(
        "--warm-up", type=int, default=10, help="epochs before a trial is judged"
    )
    arguments.add_argument("--trials", type=int, default=60)
    arguments.add_argument("--slots", type=int, default=2)
    arguments.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments.add_argument("--approaches", nargs="+", default=list(APPROACHES), choices=APPROACHES)
    arguments.add_argument("--best", type=float, help="the grid's, when it is not to run again")
    arguments.add_argument("--curves", type=Path, help="write the grid's validations, to replay")
    options = arguments.parse_args()
    if options.best is None and GRID not in options.approaches:
        arguments.error(f"--best: the {GRID} must run, or its best be given")
    names = ("dataset", "model", "epochs", "warm_up", "trials", "slots")
    settings = {name: getattr(options, name) for name in names}
    tasks = [Task(home=str(options.home), seed=seed, **settings) for seed in options.seeds]
    size = len(list(itertools.product(*tasks[0].space.values())))
    print(
        f"{options.model} on {options.dataset}: {size} combinations, {options.trials} trials of "
        f"at most {options.epochs} epochs, {options.slots} slots, seeds {options.seeds}\n"
    )
    courses: dict[str, list[Course]] = {}
    best = options.best
    if GRID in options.approaches:
        courses[GRID] = [run_apart(GRID, tasks[0])]
        best = courses[GRID][0].best
        if options.curves is not None:
            write_curves(options.curves, tasks[0], courses[GRID][0])
    target = GOOD_ENOUGH * best
    print(f"best validation {OBJECTIVE} of the grid: {best:.6f}\n")
    columns = (
        "approach",
        "reached 99 % of it, s",
        "wall s",
        "before the first training s",
        "after the last validation s",
        "training and evaluation s",
        "share of the slots",
        "best",
    )
    print(f"| {' | '.join(columns)} |\n|---|{'---:|' * (len(columns) - 1)}")
    for approach in options.approaches:
        # Seeds alternate between approaches only through this loop: what disturbs the machine for
        # long shows as a spread between them.
        if approach != GRID:
            courses[approach] = [run_apart(approach, task) for task in tasks]
        slots = 1 if approach == "Optuna alone" else options.slots
        print(row(approach, courses[approach], target, slots), flush=True)


def row(approach: str, courses: list[Course], target: float, slots: int) -> str:
    """A row of the table: when each seed reached the target, and medians over the seeds."""
    reached = [course.reached(target) for course in courses]
    shares = [course.computed / (slots * course.wall) for course in courses]
    return " | ".join(
        [
            f"| {approach}",
            " ".join("never" if seconds is None else f"{seconds:.0f}" for seconds in reached),
            f"{statistics.median(course.wall for course in courses):.0f}",
            f"{statistics.median(course.before for course in courses):.0f}",
            f"{statistics.median(course.after for course in courses):.0f}",
            f"{statistics.median(course.computed for course in courses):.0f}",
            f"{statistics.median(shares):.0%}",
            f"{max(course.best for course in courses):.4f} |",
        ]
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        name, where, content = sys.argv[2:5]
        APPROACHES[name](Task(**json.loads(content)), Log(Path(where) / "log.jsonl"), Path(where))
    else:
        main()
