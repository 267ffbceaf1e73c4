"""Searches over recorded trainings, under many seeds: whether a search was lucky or is good.

    python benchmarks/search.py --home WORKSPACE --approaches "exhaustive grid" --curves curves.json
    python benchmarks/search_replay.py curves.json --home WORKSPACE

A training of one configuration under one seed always gives the same validations. So once the grid
has recorded those of every combination and how long each epoch took, any search over the same space
can be replayed in milliseconds. Everything that decides is real: mgstudy's record with its samplers
and pruners, Ray Tune's OptunaSearch and ASHAScheduler, Optuna. Only the training, the slots and the
clock are not. What an approach takes besides training is given, as ``search.py`` measures it.

Printed, over the seeds: the time to 99 % of the grid's best and to the end, as a share of the
grid's, with the first and third quartile.
"""

from __future__ import annotations

import argparse
import heapq
import json
import statistics
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import InMemoryStorage
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from search import GOOD_ENOUGH, Task, optuna_parts, ray_tune_parts, study_file, suggest

from mgstudy.config.document import load_document
from mgstudy.study.definition.study import Study, check_study
from mgstudy.study.search.events import TrialRequest
from mgstudy.study.search.record import StudyRecord
from mgstudy.workspace import Workspace


@dataclass(frozen=True)
class Curve:
    """The training of one combination to its end.

    Attributes:
        values: The objective after each epoch.
        seconds: Training and evaluation of each epoch.
    """

    values: list[float]
    seconds: list[float]

    @property
    def best(self) -> float:
        """The best validation."""
        return max(self.values)


@dataclass(frozen=True)
class Recorded:
    """What the grid recorded.

    Attributes:
        task: What was searched.
        curves: The training of each combination, by its values in the order of the space.
    """

    task: Task
    curves: dict[tuple[Any, ...], Curve]

    @classmethod
    def read(cls, path: Path) -> Recorded:
        """Read the file that ``search.py --curves`` wrote."""
        content = json.loads(path.read_text())
        task = Task(**content["task"])
        return cls(
            task,
            {
                tuple(curve["parameters"][name] for name in task.space): Curve(
                    curve["values"], curve["seconds"]
                )
                for curve in content["curves"]
            },
        )

    def curve(self, parameters: Mapping[str, Any]) -> Curve:
        """The training under these parameters, of which the searched ones count."""
        # mgstudy says in front of a parameter's name what part it is of.
        by_name = {name.rpartition(".")[2]: value for name, value in parameters.items()}
        return self.curves[tuple(by_name[name] for name in self.task.space)]

    @property
    def target(self) -> float:
        """99 % of the grid's best."""
        return GOOD_ENOUGH * max(curve.best for curve in self.curves.values())


class Search(ABC):
    """One approach under one seed."""

    @abstractmethod
    def begin(self) -> tuple[Any, Curve] | None:
        """The next trial and its training; ``None`` when the budget is used up."""

    @abstractmethod
    def report(self, trial: Any, epoch: int, value: float) -> bool:
        """Take note of a validation; whether to stop the trial."""

    @abstractmethod
    def end(self, trial: Any, best: float, stopped: bool) -> None:
        """Take note that a trial was stopped or is complete."""


class Grid(Search):
    """Every combination in turn, to its end."""

    def __init__(self, recorded: Recorded) -> None:
        self.left = [recorded.curves[key] for key in product(*recorded.task.space.values())]

    def begin(self) -> tuple[Any, Curve] | None:
        return (None, self.left.pop(0)) if self.left else None

    def report(self, trial: Any, epoch: int, value: float) -> bool:
        return False

    def end(self, trial: Any, best: float, stopped: bool) -> None:
        pass


class ThisPlatform(Search):
    """mgstudy's record of a study."""

    def __init__(self, recorded: Recorded, study: Study) -> None:
        self.recorded = recorded
        self.record = StudyRecord(study.config, study.plan.cells, study.datasets, InMemoryStorage())

    def begin(self) -> tuple[TrialRequest, Curve] | None:
        trial = self.record.next_request()
        return None if trial is None else (trial, self.recorded.curve(trial.parameters))

    def report(self, trial: TrialRequest, epoch: int, value: float) -> bool:
        return self.record.report(trial, epoch, value, {})

    def end(self, trial: TrialRequest, best: float, stopped: bool) -> None:
        finish = self.record.prune if stopped else self.record.complete
        finish(trial, {"best_value": best})


class RayTune(Search):
    """Ray Tune's OptunaSearch and ASHA."""

    def __init__(self, recorded: Recorded, task: Task) -> None:
        self.recorded = recorded
        parts = ray_tune_parts(task)
        self.searcher, self.scheduler = parts["search_alg"], parts["scheduler"]
        self.searcher.set_search_properties("value", "max", parts["space"])
        self.scheduler.set_search_properties("value", "max")
        self.left = task.trials
        self.last: dict[str, dict[str, Any]] = {}

    def begin(self) -> tuple[Trial, Curve] | None:
        if not self.left:
            return None
        self.left -= 1
        trial = Trial("replayed", stub=True, trial_id=str(self.left))
        parameters = self.searcher.suggest(trial.trial_id)
        self.scheduler.on_trial_add(None, trial)
        return trial, self.recorded.curve(parameters)

    def report(self, trial: Trial, epoch: int, value: float) -> bool:
        result = {"value": value, "training_iteration": epoch}
        self.last[trial.trial_id] = result
        self.searcher.on_trial_result(trial.trial_id, result)
        return bool(self.scheduler.on_trial_result(None, trial, result) == TrialScheduler.STOP)

    def end(self, trial: Trial, best: float, stopped: bool) -> None:
        result = self.last[trial.trial_id]
        self.searcher.on_trial_complete(trial.trial_id, result)
        if not stopped:
            self.scheduler.on_trial_complete(None, trial, result)


class OptunaStudy(Search):
    """An Optuna study, whose pruner decides."""

    def __init__(self, study: optuna.Study) -> None:
        self.study = study

    def report(self, trial: optuna.Trial, epoch: int, value: float) -> bool:
        trial.report(value, epoch)
        return trial.should_prune()

    def end(self, trial: optuna.Trial, best: float, stopped: bool) -> None:
        state = optuna.trial.TrialState.PRUNED if stopped else optuna.trial.TrialState.COMPLETE
        self.study.tell(trial, None if stopped else best, state)


class OptunaAlone(OptunaStudy):
    """Optuna's sampler and pruner."""

    def __init__(self, recorded: Recorded, task: Task) -> None:
        super().__init__(optuna.create_study(**optuna_parts(task)))
        self.recorded, self.task = recorded, task

    def begin(self) -> tuple[optuna.Trial, Curve] | None:
        if len(self.study.get_trials(deepcopy=False)) == self.task.trials:
            return None
        trial = self.study.ask()
        return trial, self.recorded.curve(suggest(trial, self.task))


@dataclass(frozen=True)
class Course:
    """A replayed search.

    Attributes:
        reached: Seconds until a validation reached the target; ``None`` if none did.
        wall: Seconds in all.
        computed: Seconds of training and evaluation, over all slots.
        winner: The best validation of the trials that ran to their end.
    """

    reached: float | None
    wall: float
    computed: float
    winner: float


def replay(
    search: Search, target: float, slots: int, start: float = 0.0, gap: float = 0.0
) -> Course:
    """Let trials run side by side on a simulated clock.

    Args:
        search: What decides.
        target: What is to be reached.
        slots: Trials at once.
        start: Seconds before the first training.
        gap: Seconds between one trial's last epoch and the next one's first.
    """
    now, computed, winner, reached = start, 0.0, 0.0, None
    # When the next validation of a slot is due, which slot, its trial, its curve, the epoch.
    due: list[tuple[float, int, Any, Curve, int]] = []

    def begin(slot: int, since: float) -> None:
        begun = search.begin()
        if begun is not None:
            trial, curve = begun
            heapq.heappush(due, (since + curve.seconds[0], slot, trial, curve, 0))

    for slot in range(slots):
        begin(slot, start)
    while due:
        now, slot, trial, curve, epoch = heapq.heappop(due)
        computed += curve.seconds[epoch]
        if reached is None and curve.values[epoch] >= target:
            reached = now
        stopped = search.report(trial, epoch + 1, curve.values[epoch])
        if stopped or epoch + 1 == len(curve.values):
            best = max(curve.values[: epoch + 1])
            winner = winner if stopped else max(winner, best)
            search.end(trial, best, stopped)
            begin(slot, now + gap)
        else:
            following = now + curve.seconds[epoch + 1]
            heapq.heappush(due, (following, slot, trial, curve, epoch + 1))
    return Course(reached, now, computed, winner)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("curves", type=Path, help="what search.py --curves wrote")
    arguments.add_argument("--home", type=Path, required=True, help="workspace with the dataset")
    arguments.add_argument("--seeds", type=int, default=100, help="searches of every approach")
    arguments.add_argument("--warm-up", type=int, help="epochs before any approach may stop one")
    arguments.add_argument("--start", type=float, default=13.0, help="s before the first training")
    arguments.add_argument("--gap", type=float, default=0.7, help="s between trials of mgstudy")
    arguments.add_argument("--ray-gap", type=float, default=6.5, help="s between those of Ray Tune")
    arguments.add_argument(
        "--variant",
        nargs="+",
        action="append",
        default=[],
        metavar="A.B=VALUE",
        help="also mgstudy with these fields of the study file; may be repeated",
    )
    options = arguments.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    recorded = Recorded.read(options.curves)
    target, slots = recorded.target, recorded.task.slots
    warm_up = options.warm_up or recorded.task.warm_up
    settings = {**vars(recorded.task), "home": str(options.home), "warm_up": warm_up}
    workspace = Workspace.resolve(options.home)

    def ours(variant: list[str]) -> Callable[[Task], Search]:
        def build(task: Task) -> Search:
            with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
                json.dump(study_file(task), file)
                file.flush()
                document = load_document(Path(file.name), variant)
            return ThisPlatform(recorded, check_study(document, workspace))

        return build

    whole = replay(Grid(recorded), target, slots, options.start, options.ray_gap)
    good = sum(curve.best >= target for curve in recorded.curves.values())
    print(
        f"{recorded.task.model} on {recorded.task.dataset}: {good} of {len(recorded.curves)} "
        f"combinations reach {target:.4f}; the grid takes {whole.wall:.0f} s on {slots} slots, "
        f"{whole.computed:.0f} s of training; no trial is stopped before epoch {warm_up}\n"
    )
    columns = (
        "approach",
        "99 % reached, of the grid's time",
        "never",
        "whole time, of the grid's",
        "training and evaluation, of the grid's",
        "best of the finished, of the grid's",
    )
    print(f"| {' | '.join(columns)} |\n|---|{'---:|' * (len(columns) - 1)}", flush=True)
    approaches: dict[str, tuple[Callable[[Task], Search], int, float]] = {
        "mgstudy": (ours([]), slots, options.gap),
        **{f"mgstudy {' '.join(v)}": (ours(v), slots, options.gap) for v in options.variant},
        "Ray Tune + OptunaSearch + ASHA": (partial(RayTune, recorded), slots, options.ray_gap),
        "Optuna alone": (partial(OptunaAlone, recorded), 1, 0.0),
    }
    for name, (build, own_slots, gap) in approaches.items():
        courses = [
            replay(build(Task(**{**settings, "seed": seed})), target, own_slots, options.start, gap)
            for seed in range(options.seeds)
        ]
        print(row(name, courses, whole), flush=True)


def row(name: str, courses: list[Course], whole: Course) -> str:
    """Quartiles over the seeds, as shares of the grid's."""
    times = [sys.float_info.max if c.reached is None else c.reached for c in courses]
    never = sum(course.reached is None for course in courses)
    return (
        f"| {name} | {quartiles(times, whole.wall)} | {never / len(courses):.0%} | "
        f"{quartiles([course.wall for course in courses], whole.wall)} | "
        f"{quartiles([course.computed for course in courses], whole.computed)} | "
        f"{quartiles([course.winner for course in courses], whole.winner)} |"
    )


def quartiles(values: list[float], unit: float) -> str:
    """The median, and the first and third quartile."""
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle / unit:.3f} ({low / unit:.3f} to {high / unit:.3f})"


if __name__ == "__main__":
    main()
