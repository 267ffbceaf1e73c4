"""Measure a study's trained models on Ray, one model after another on every free CPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import ray
import torch
from numpy.typing import NDArray

from mgstudy.config.robustness import Robustness
from mgstudy.config.training import TrainingSettings
from mgstudy.data.dataset import Dataset
from mgstudy.errors import MgstudyError
from mgstudy.models.base import Recommender
from mgstudy.registry import look_in, used_folders
from mgstudy.robustness.flatness.measures import measure_flatness, measure_landscape
from mgstudy.robustness.trained_model import TrainedModel, UserMetrics, resampled_means
from mgstudy.study.robustness.plan import RobustnessPlan, Task, TrainedCell, rebuild_risk
from mgstudy.study.robustness.results import RobustnessResults
from mgstudy.study.running.cell_trainer import build_cell_trainer
from mgstudy.study.running.deadline import NO_DEADLINE, Deadline
from mgstudy.study.running.failures import Cause, cause_of, reason_of
from mgstudy.study.running.gpus import TrialGpu, ran_out_of_memory
from mgstudy.study.running.interrupts import terminated_like_interrupt
from mgstudy.study.running.placement import TrialResources, larger_share
from mgstudy.study.running.ray_session import raise_if_ray_died
from mgstudy.training.checkpoint import load_checkpoint
from mgstudy.training.evaluation import Evaluator

Measurements: TypeAlias = list[dict[str, Any]]
Progress: TypeAlias = Callable[[TrainedCell, Task, Measurements], None]
"""Told of every task as soon as its result is on disk."""
_SIGNIFICANT_DIGITS = 7
_ATTEMPTS = 3
_LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class ModelJob:
    """What a worker needs to measure one model.

    Attributes:
        trained: The model.
        weights: Its state.
        tasks: What to measure.
        training: How it was trained.
        settings: What is measured.
        gpu: Its share of a GPU, 0 to measure without.
        modules_in: Folders in which the study's own modules are found.
    """

    trained: TrainedCell
    weights: Mapping[str, torch.Tensor]
    tasks: Sequence[Task]
    training: TrainingSettings
    settings: Robustness
    gpu: float = 0.0
    modules_in: tuple[str, ...] = ()


def remaining_tasks(
    plan: RobustnessPlan, results: RobustnessResults
) -> list[tuple[TrainedCell, list[Task]]]:
    """What has no result yet, by model."""
    done = results.read()
    found = []
    for trained in plan.trained:
        tasks = [task for task in plan.tasks(trained) if task.key not in done]
        if tasks:
            found.append((trained, tasks))
    return found


def run_robustness(
    plan: RobustnessPlan,
    results: RobustnessResults,
    resources: TrialResources,
    on_result: Progress = lambda trained, task, measurements: None,
    deadline: Deadline = NO_DEADLINE,
) -> None:
    """Measure what has no result yet. Ray is connected.

    A worker that dies takes only what it had not handed over; that is measured again, twice at
    most. One that had too little memory is not counted while its cell's models can get twice as
    much of a GPU.

    Args:
        plan: What to measure.
        results: Where results are kept.
        resources: What one model takes, and how many are measured at once.
        on_result: Told of every result.
        deadline: When it ends, whether all is measured or not. No model is begun when less time is
            left than a measurement has taken.

    Raises:
        MgstudyError: If a worker fails again and again, naming the model.
        RayDiedError: If Ray died.
        KeyboardInterrupt: After Ctrl-C or SIGTERM; what was measured is kept.
    """
    waiting = [(trained, tasks, 1) for trained, tasks in remaining_tasks(plan, results)]
    datasets = {name: ray.put(dataset) for name, dataset in plan.study.datasets.items()}
    work = ray.remote(
        num_cpus=resources.cpu,
        num_gpus=resources.gpu,
        resources=dict(resources.others),
        max_retries=0,
        num_returns="streaming",
    )(_measure)
    running: dict[Any, tuple[TrainedCell, list[Task], int, float]] = {}
    shares: dict[str, float] = {}
    heard: dict[Any, float] = {}
    longest = 0.0
    with terminated_like_interrupt():
        try:
            while (waiting or running) and deadline.allows():
                if not (running or deadline.allows(longest)):
                    return
                while waiting and len(running) < resources.slots and deadline.allows(longest):
                    trained, tasks, attempt = waiting.pop(0)
                    share = shares.setdefault(trained.cell.key, resources.gpu)
                    job = _job(plan, trained, tasks, share)
                    generator = work.options(num_gpus=share).remote(
                        job, datasets[trained.cell.dataset], resources.cpu
                    )
                    running[generator] = (trained, tasks, attempt, share)
                    heard[generator] = time.monotonic()
                raise_if_ray_died()
                for generator in ray.wait(list(running), timeout=_LOOK_SECONDS)[0]:
                    trained, tasks, attempt, share = running[generator]
                    try:
                        measurements: Measurements = ray.get(next(generator))
                    except StopIteration:
                        del running[generator]
                        results.publish()
                        continue
                    except ray.exceptions.RayError as error:
                        raise_if_ray_died()
                        del running[generator]
                        larger = larger_share(share)
                        if cause_of(error) is Cause.MEMORY and larger > share:
                            shares[trained.cell.key] = max(larger, shares[trained.cell.key])
                        else:
                            _raise_if_hopeless(trained, error, attempt)
                            attempt += 1
                        waiting.insert(0, (trained, tasks, attempt))
                        continue
                    task = tasks.pop(0)
                    took, heard[generator] = time.monotonic() - heard[generator], time.monotonic()
                    longest = max(longest, took)
                    results.append(task.key, measurements)
                    on_result(trained, task, measurements)
        finally:
            for generator in running:
                ray.cancel(generator, force=False)


def measure_model(job: ModelJob, dataset: Dataset) -> Iterator[Measurements]:
    """Do the tasks of one model, in order, and yield what each found."""
    subject = _Subject(job, dataset)
    for task in job.tasks:
        yield subject.measure(task)


def _measure(job: ModelJob, dataset: Dataset, cpus: float) -> Iterator[Measurements]:
    torch.set_num_threads(max(1, int(cpus)))
    if job.gpu:
        TrialGpu().begin(job.gpu)
    try:
        yield from measure_model(job, dataset)
    except Exception as error:
        if job.gpu and ran_out_of_memory(error):
            raise MemoryError(f"out of GPU memory: {' '.join(str(error).split())}") from error
        raise


class _Subject:
    """One model in its worker."""

    def __init__(self, job: ModelJob, dataset: Dataset) -> None:
        look_in(job.modules_in)
        self.job = job
        self.device = "cuda" if job.gpu else "cpu"
        training = job.training
        dataset = job.trained.cell.completed(dataset)
        evaluator = Evaluator(
            dataset,
            job.trained.split,
            training.metrics,
            device=self.device,
            block_size=training.evaluation_block_size,
            exclude_validation=training.mask_validation_in_test and job.trained.split == "test",
        )
        # Only a robust method prepares a dataset.
        prepare = self._prepared if job.trained.cell.robust else _as_it_is
        self.model = TrainedModel(self._build, dataset, evaluator, prepare)

    def measure(self, task: Task) -> Measurements:
        """The measurements of one task."""
        if task.kind == "clean":
            return [self._described("clean", self.model.clean)]
        if task.kind == "risk":
            return self._under_risk(task)
        assert self.job.settings.flatness is not None
        measure = measure_flatness if task.kind == "flatness" else measure_landscape
        found = measure(self.model.model, self.job.settings.flatness, self.job.training.batch_size)
        return [{**self._identity(task.kind), **found}]

    def _under_risk(self, task: Task) -> Measurements:
        assert task.point is not None
        point = task.point
        content = {"risk": point.label, "severity": point.severity, "risk_seed": point.seed}
        return [
            {
                **self._described("risk", found.values, found.reached),
                **content,
                "graph": found.graph.value,
            }
            for found in self.model.under(rebuild_risk(point), point.severity, point.seed)
        ]

    def _described(self, kind: str, values: UserMetrics, reached: bool = True) -> dict[str, Any]:
        of_users = values[self.job.training.clean_objective]
        return {
            **self._identity(kind),
            "split": self.job.trained.split,
            "objective": self.job.training.clean_objective,
            "users": len(self.model.evaluator.users),
            "metrics": {name: float(np.nanmean(column)) for name, column in values.items()},
            "reached": reached,
            # What was not reached has the clean samples.
            "resampled": self._resampled(of_users) if reached else None,
        }

    def _resampled(self, of_users: NDArray[np.float64]) -> list[float]:
        means = resampled_means(of_users[~np.isnan(of_users)], self.job.settings.resamples)
        # Enough for a confidence band, in half the space.
        return [float(f"{mean:.{_SIGNIFICANT_DIGITS}g}") for mean in means]

    def _identity(self, kind: str) -> dict[str, Any]:
        trained = self.job.trained
        return {
            "kind": kind,
            "cell": trained.cell.key,
            "model": trained.key,
            "identity": trained.identity,
            "replicate": trained.replicate,
            "seed": trained.seed,
        }

    def _build(self, dataset: Dataset) -> Recommender:
        trained = self.job.trained
        trainer = build_cell_trainer(
            trained.cell,
            dataset,
            trained.parameters,
            self.job.training,
            self.device,
            trained.seed,
        )
        trainer.model.load_state_dict(self.job.weights)
        return trainer.model

    def _prepared(self, dataset: Dataset) -> Dataset:
        return self._build(dataset).dataset


def _as_it_is(dataset: Dataset) -> Dataset:
    return dataset


def _job(plan: RobustnessPlan, trained: TrainedCell, tasks: Sequence[Task], gpu: float) -> ModelJob:
    # The file may be on the driver's machine alone, so its content goes to the worker.
    state = load_checkpoint(trained.weights)
    return ModelJob(
        trained=trained,
        weights=state["model"],
        tasks=list(tasks),
        training=plan.study.config.training,
        settings=plan.settings,
        gpu=gpu,
        modules_in=used_folders(),
    )


def _raise_if_hopeless(trained: TrainedCell, error: ray.exceptions.RayError, attempt: int) -> None:
    """Raise unless a worker was lost, which another may make good."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, MgstudyError):
        raise cause
    if cause_of(error) is None or attempt >= _ATTEMPTS:
        raise MgstudyError(f"measuring {trained.key} failed: {reason_of(error)}") from error
