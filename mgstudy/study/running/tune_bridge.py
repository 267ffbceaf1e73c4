"""Ray Tune's two plug-in points, served by the study's record.

Ray's own ``OptunaSearch`` builds its study with a pruner that never prunes, and tells Optuna that a
trial stopped by a Ray scheduler is complete with whatever score it had. Here the searcher hands out
the record's trials, the scheduler asks Optuna's pruner after every validation, and a pruned trial
is recorded as pruned.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from mgstudy.errors import MgstudyError
from mgstudy.private.ray import dead_process
from mgstudy.private.ray_tune import stop_trials_at_once
from mgstudy.study.running.deadline import NO_DEADLINE, Deadline, seconds_of_next
from mgstudy.study.running.failures import Cause, FailureStorm, cause_of, reason_of
from mgstudy.study.running.interrupts import Interrupt
from mgstudy.study.running.placement import GpuPacking, larger_share
from mgstudy.study.running.trial_progress import (
    EARLIER,
    GPU_PEAK,
    METRICS,
    OUTCOME,
    PROBLEM,
    STEP,
    VALUE,
)
from mgstudy.study.search.events import TrialRequest
from mgstudy.study.search.record import StudyRecord
from mgstudy.study.search.state import CellState
from mgstudy.study.search.trials import GPU_SECONDS
from mgstudy.study.storage.lease import Lease
from mgstudy.urls import redacted

logger = logging.getLogger(__name__)

_TEXTS = {"reason", "traceback"}


class OptunaSearcher(Searcher):  # type: ignore[misc]
    """Hands Ray Tune the record's trials, and writes down how each ended.

    Args:
        record: The study's record.
        most_begun: Trials that may be begun and not finished at a time.
        gpu: What a trial gets of a GPU, unless that had too little memory for it.
        packing: Settles that instead, from the memory that trials were seen to take.
        deadline: No trial begins that does not end before it.
        interrupt: None begins once one has come.

    Attributes:
        running: Ray's trial id to the trial it runs.
        pruned: Ray's id to what came of a trial that the pruner has decided to stop.
        errors: Ray's id to what it raised of a trial whose worker broke.
        spent: Ray's id to what its trial had cost at its last validation.
        storm: Whether all that was tried failed alike.
        failure: Why the study ends before its time: files of trials stay out of reach.
        nothing_fits: Whether nothing that is left would end before the deadline.
    """

    def __init__(
        self,
        record: StudyRecord,
        most_begun: int,
        gpu: float = 0.0,
        packing: GpuPacking | None = None,
        deadline: Deadline = NO_DEADLINE,
        interrupt: Interrupt | None = None,
    ) -> None:
        # Naming no metric lets a failed trial end with a result that has none.
        super().__init__()
        self.record = record
        self.most_begun = most_begun
        self.gpu = gpu
        self.packing = packing
        self.deadline = deadline
        self.interrupt = interrupt or Interrupt()
        self.running: dict[str, TrialRequest] = {}
        self.pruned: dict[str, dict[str, Any]] = {}
        self.errors: dict[str, BaseException | None] = {}
        self.spent: dict[str, dict[str, Any]] = {}
        self.storm = FailureStorm(record.config.retries.stop_after_failures)
        self.failure: MgstudyError | None = None
        self.nothing_fits = False
        self._problems: set[str] = set()

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The configuration of the next trial, ``None`` for not yet, or that there is none."""
        if self.interrupt.has_come:
            return str(Searcher.FINISHED)
        is_full = self.packing is not None and not self.packing.admits()
        if is_full or len(self.running) >= self.most_begun:
            return None
        request = self.record.next_request(self._fits)
        if request is None:
            # What is running may break and have to run again, or let a confirmation begin.
            waits = self.running or (self.record.remaining() and not self.deadline.is_set)
            self.nothing_fits = self.deadline.is_set and not self.running
            return None if waits else str(Searcher.FINISHED)
        self.running[trial_id] = request
        share = self._share(request)
        if self.packing is not None:
            self.packing.begun(trial_id, share)
        return {
            "cell": request.cell.key,
            "key": request.key,
            "stage": request.stage.value,
            "seed": request.seed,
            "recorded": self.record.recorded_step(request),
            "gpu": share,
            "parameters": dict(request.parameters),
        }

    def on_trial_complete(
        self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False
    ) -> None:
        """Write down how a trial ended; one without an outcome stays open and will run again."""
        request = self.running.pop(trial_id, None)
        share = 0.0 if self.packing is None else self.packing.ended(trial_id)
        if request is None:
            return
        if error and dead_process() is not None:
            return  # All that ran was interrupted, and no trial is to blame.
        spent = self.spent.pop(trial_id, {})
        self.say_problem(request, result or {})
        outcome = json.loads((result or {}).get(OUTCOME, "{}"))
        outcome |= {name: redacted(outcome[name]) for name in _TEXTS & outcome.keys()}
        if error:
            broke = self.errors.pop(trial_id, None)
            outcome = {
                **spent,
                "failed": True,
                "reason": reason_of(broke),
                "traceback": redacted(str(broke)),
            }
            cause = cause_of(broke)
        else:
            cause = Cause(outcome["cause"]) if "cause" in outcome else None
        if cause is Cause.MEMORY and self.packing is not None:
            self.packing.ran_out(request.cell.key, share)
        if trial_id in self.pruned:
            self._finish(request, self.pruned.pop(trial_id), self.record.prune)
        elif outcome.get("failed"):
            if cause is not None and self.record.retry(request, cause.value, outcome["reason"]):
                return
            if cause is Cause.FILES:  # The next trial would not fare better, nor is this to blame.
                said = f"stopped: {request.key}: {outcome['reason']}; the same command goes on"
                self.failure = MgstudyError(said)
            else:
                self._finish(request, outcome, self.record.fail)
        elif outcome.get("done"):
            self._finish(request, outcome, self.record.complete)

    def _finish(
        self,
        request: TrialRequest,
        outcome: dict[str, Any],
        write: Callable[[TrialRequest, Mapping[str, Any]], None],
    ) -> None:
        write(request, outcome)
        self.storm.finished(outcome, failed=bool(outcome.get("failed")))

    def _fits(self, cell: CellState) -> bool:
        """Whether the next trial of a cell ends in time."""
        if not self.deadline.is_set:
            return True
        return self.deadline.allows(seconds_of_next(cell, self.record.states))

    def _share(self, request: TrialRequest) -> float:
        share = self.gpu
        for cause in self.record.retries(request):
            share = larger_share(share) if cause == Cause.MEMORY else share
        return share if self.packing is None else max(share, self.packing.share(request.cell.key))

    def note_memory(self, request: TrialRequest, result: Mapping[str, Any]) -> None:
        """Learn from a trial's validation how much of a GPU its cell takes."""
        if self.packing is not None and GPU_PEAK in result:
            self.packing.measured(request.cell.key, float(result[GPU_PEAK]))

    def say_problem(self, request: TrialRequest, result: Mapping[str, Any]) -> None:
        """Warn of what a trial could not do for itself, the same thing once."""
        problem = result.get(PROBLEM)
        if problem and problem not in self._problems:
            self._problems.add(problem)
            logger.warning("trial %s: %s", request.key, redacted(problem))

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Ray pickles the searcher for a restore that we never make."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the Optuna storage is the truth, Ray's copy is never read."""
        Path(checkpoint_path).write_text("{}")

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""


class OptunaPruner(FIFOScheduler):  # type: ignore[misc]
    """Asks Optuna's pruner after every validation, and stops the trials it prunes.

    Args:
        searcher: The searcher that hands out the trials.
    """

    def __init__(self, searcher: OptunaSearcher) -> None:
        super().__init__()
        self.searcher = searcher

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Let a stopped trial finish its step for a moment only: after Ctrl-C, Ray would wait ten
        seconds more than its first five. It goes on from its last checkpoint."""
        stop_trials_at_once(tune_controller)
        super().on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Report the validations to the record, and stop the trial when the pruner says so."""
        request = self.searcher.running[trial.trial_id]
        if OUTCOME in result:
            self.searcher.spent[trial.trial_id] = costs(json.loads(result[OUTCOME]))
        last = self._report(request, result)
        if last is None:
            return str(TrialScheduler.CONTINUE)
        self._prune(trial, last, result)
        return str(TrialScheduler.STOP)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Report the last validations, which Ray does not show a scheduler of a finished trial. One
        that was to be stopped before them has not come to its end."""
        request = self.searcher.running.get(trial.trial_id)
        if request is None or trial.trial_id in self.searcher.pruned:
            return
        last = self._report(request, result)
        if last is not None and last is not result:
            self._prune(trial, last, result)

    def _report(self, request: TrialRequest, result: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Report a result's validations in order, up to the one at which the pruner wants the trial
        stopped; that one, if it does."""
        self.searcher.note_memory(request, result)
        earlier: list[Mapping[str, Any]] = json.loads(result.get(EARLIER, "[]"))
        for validation in (*earlier, result):
            self.searcher.say_problem(request, validation)
            if report(self.searcher.record, request, validation):
                return validation
        return None

    def _prune(self, trial: Trial, last: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """Settle what came of a trial: what it had come to at its last validation. Only the time
        that it took beyond that counts."""
        outcome = json.loads(last[OUTCOME])
        taken = costs(json.loads(result[OUTCOME]))
        seconds = {name: value for name, value in taken.items() if name not in _COUNTS}
        self.searcher.pruned[trial.trial_id] = {**outcome, **seconds}


_COUNTS = ("epochs", "gradient_computations")


def costs(outcome: Mapping[str, Any]) -> dict[str, Any]:
    """What an outcome says that its trial has cost."""
    return {
        name: value
        for name, value in outcome.items()
        if name.startswith("seconds_") or name in (*_COUNTS, GPU_SECONDS)
    }


def report(record: StudyRecord, request: TrialRequest, result: Mapping[str, Any]) -> bool:
    """Write down what a Ray result says; whether the pruner wants the trial stopped."""
    if STEP not in result:
        return False
    return record.report(
        request, int(result[STEP]), float(result[VALUE]), json.loads(result[METRICS])
    )


class Heartbeat(Callback):  # type: ignore[misc]
    """Says that the driver moves, as long as Ray Tune's loop goes round."""

    def __init__(self, held: Lease) -> None:
        self.held = held

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, as of the searcher."""
        return {}

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """The loop begins another round."""
        self.held.beat()


class StartNotice(Callback):  # type: ignore[misc]
    """Tells the record when a trial gets its worker."""

    def __init__(self, searcher: OptunaSearcher) -> None:
        self.searcher = searcher

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """The trial has a worker."""
        request = self.searcher.running.get(trial.trial_id)
        if request is not None:
            self.searcher.record.start(request)
