"""Run a study's remaining trials on Ray Tune."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Set
from enum import Enum, auto
from typing import Any

from ray import tune

from mgstudy.environment import for_a_while
from mgstudy.errors import MgstudyError
from mgstudy.private.ray import dead_process
from mgstudy.private.ray_tune import trial_errors_told
from mgstudy.registry import used_folders
from mgstudy.study.running.deadline import NO_DEADLINE, Deadline
from mgstudy.study.running.interrupts import Interrupt, terminated_like_interrupt
from mgstudy.study.running.placement import GpuPacking, TrialResources
from mgstudy.study.running.ray_session import raise_if_ray_died
from mgstudy.study.running.trial import StudyTrial
from mgstudy.study.running.tune_bridge import Heartbeat, OptunaPruner, OptunaSearcher, StartNotice
from mgstudy.study.search.events import StudyListener, TrialRequest
from mgstudy.study.search.record import StudyRecord
from mgstudy.study.search.trials import Stage, State, trial_key
from mgstudy.study.storage.checkpoints import CheckpointFolder
from mgstudy.study.storage.layout import StudyFolder
from mgstudy.study.storage.lease import Lease
from mgstudy.study.storage.write_behind import WriteBehindStorage


class KeepBestCheckpoint(StudyListener):
    """Deletes what a finished trial does not need, and weights of the search that are not those of
    its cell's best trial.

    Args:
        record: The study's record, which says what is best.
        checkpoints: The study's checkpoints.
    """

    def __init__(self, record: StudyRecord, checkpoints: CheckpointFolder) -> None:
        self.record = record
        self.checkpoints = checkpoints
        policy = record.config.checkpoints
        # States that trials left on purpose stay.
        self._keeps_states = policy.keep_last or policy.keep_every is not None
        self._kept = {
            state.key: {state.best.number} for state in record.states if state.best is not None
        }

    def trial_finished(
        self, trial: TrialRequest, state: State, value: float | None, outcome: Mapping[str, Any]
    ) -> None:
        """Keep the weights of the cell's best trial; a confirmation's stay, all of them."""
        self.checkpoints.discard_states(trial.key)
        if trial.stage is Stage.SEARCH:
            self._keep_best(trial.cell.key, {trial.number})

    def sweep(self) -> None:
        """Delete what finished trials left after they were told of: a worker that is stopped
        writes its state a last time, and a driver that is killed deletes nothing."""
        for cell in self.record.states:
            left = set(self.checkpoints.trials(cell.key))
            ended = {t.number for t in (*cell.trials, *cell.retried) if t.state.is_ended}
            for number in left & ended:
                self.checkpoints.discard_states(trial_key(cell.key, number))
            self._keep_best(cell.key, left & ended)

    def _keep_best(self, cell: str, numbers: Set[int]) -> None:
        """Delete the weights of these ended trials, and of what was best before, but for the best
        trial's."""
        best = self.record.cells[cell].state.best
        kept = set() if best is None else {best.number}
        if not self._keeps_states:
            for number in (numbers | self._kept.get(cell, set())) - kept:
                self.checkpoints.discard(trial_key(cell, number))
        self._kept[cell] = kept


class Ending(Enum):
    """How the running of a study's trials ended."""

    FINISHED = auto()
    INTERRUPTED = auto()
    OUT_OF_TIME = auto()


def run_trials(
    record: StudyRecord,
    resources: TrialResources,
    folder: StudyFolder,
    held: Lease,
    interrupt: Interrupt,
    trial: type[StudyTrial] = StudyTrial,
    deadline: Deadline = NO_DEADLINE,
) -> Ending:
    """Run what is left of every cell's budget and confirmation.

    Ctrl-C, SIGTERM and the deadline stop after the current results: trials that were running stay
    open in the record and run again, with the same parameters, when the study is launched again.

    Args:
        record: The study's record.
        resources: What a trial takes.
        folder: The study's folder.
        held: The hold on it, told that the driver moves.
        interrupt: Whether Ctrl-C has come before Ray Tune listens for it.
        trial: What runs a trial in a worker.
        deadline: When it ends, whether all has run or not.

    Raises:
        RayDiedError: If Ray died.
        MgstudyError: If everything fails for one reason, the storage takes nothing more, or the
            trials' files stay out of reach.
    """
    if record.remaining() == 0:
        return Ending.FINISHED
    # One trial beyond the slots is begun early, so that a free slot never waits for its parameters;
    # but nobody knows when it would end.
    is_tight = record.config.resources.max_concurrent == resources.slots or deadline.is_set
    ahead = 0 if is_tight else 1
    packing = GpuPacking(resources.packed_gpus, resources.gpu) if resources.packed_gpus else None
    searcher = OptunaSearcher(
        record, resources.slots + ahead, resources.gpu, packing, deadline, interrupt
    )
    trainable = tune.with_parameters(
        trial,
        cells={key: entry.cell for key, entry in record.cells.items()},
        datasets=dict(record.datasets),
        settings=record.config.training,
        checkpoints=folder.trial_files,
        policy=record.config.checkpoints,
        modules_in=used_folders(),
    )
    tuner = tune.Tuner(
        tune.with_resources(
            trainable, lambda trial: tune.PlacementGroupFactory([resources.reserved(trial)])
        ),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=OptunaPruner(searcher),
            num_samples=-1,  # As many as the searcher says: a broken trial runs again.
            reuse_actors=True,
            trial_name_creator=lambda trial: trial.trial_id,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(folder.ray.absolute()),
            stop=_StopEarly(searcher),
            callbacks=[StartNotice(searcher), Heartbeat(held)],
            failure_config=tune.FailureConfig(max_failures=0),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            verbose=0,
        ),
    )
    shutil.rmtree(folder.ray, ignore_errors=True)
    # By default Ray starts one worker after another, each taking seconds.
    at_once = {"TUNE_MAX_PENDING_TRIALS_PG": str(resources.slots)}
    try:
        with (
            terminated_like_interrupt(),
            for_a_while(at_once),
            trial_errors_told(searcher.errors.__setitem__),
        ):
            tuner.fit()
    except Exception:
        # Ray tells of a driver's own failures as if they were a trial's.
        if (failure := storage_failure(record)) is not None:
            raise failure from None
        raise
    finally:
        record.release()
    raise_if_ray_died()
    if (failure := storage_failure(record)) is not None:
        raise failure
    if searcher.failure is not None:
        raise searcher.failure
    if searcher.storm.reason is not None:
        raise MgstudyError(
            f"stopped: the first {record.config.retries.stop_after_failures} trials all failed "
            f"with {searcher.storm.reason!r}; the same command goes on once that is repaired, and "
            "`retries: {stop_after_failures: null}` goes on in any case"
        )
    if interrupt.has_come:
        return Ending.INTERRUPTED
    if record.remaining() == 0:
        return Ending.FINISHED
    # Of the Ctrl-C that has ended it, Ray Tune says nothing.
    is_over = searcher.nothing_fits or not deadline.allows()
    return Ending.OUT_OF_TIME if is_over else Ending.INTERRUPTED


class _StopEarly(tune.Stopper):  # type: ignore[misc]
    """Ends a study in which everything fails for one reason, whose storage or files are given up,
    whose Ray has died, or whose time is over."""

    def __init__(self, searcher: OptunaSearcher) -> None:
        self.searcher = searcher

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No trial is ended by its results."""
        return False

    def stop_all(self) -> bool:
        """Whether the study is to end."""
        searcher = self.searcher
        failure = searcher.failure or storage_failure(searcher.record)
        failed = failure is not None or searcher.storm.reason is not None
        return failed or not searcher.deadline.allows() or dead_process() is not None


def storage_failure(record: StudyRecord) -> MgstudyError | None:
    """Why the study's storage takes nothing more, if so."""
    storage = record.storage
    return storage.writer.failure if isinstance(storage, WriteBehindStorage) else None
