"""Private parts of Ray Tune."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.tune.experiment import Trial

_GRACE = "_actor_force_cleanup_timeout"


def stop_trials_at_once(tune_controller: Any) -> None:
    """Let trials of a Ray Tune run that ends finish their step for a moment only.

    Stands in for a setting such as ``TUNE_FORCE_TRIAL_CLEANUP_S``: when a run ends, Tune waits ten
    seconds, whatever that says, until it kills the actors that have not stopped.
    """
    if hasattr(tune_controller, _GRACE):
        setattr(tune_controller, _GRACE, 0)


@contextmanager
def trial_errors_told(tell: Callable[[str, BaseException | None], None]) -> Iterator[None]:
    """Be told of the exception that broke a trial, with Ray Tune's id of the trial.

    Stands in for an argument of ``TrialScheduler.on_trial_error``: Tune keeps no more than text of
    most exceptions. And it knows of two kinds only; by any other of Ray's, such as the one of the
    memory monitor, it would end the whole run. Those come as the ``__cause__`` of one it knows.
    """
    handle_error, task_failed = Trial.handle_error, RayActorManager._actor_task_failed

    def told(trial: Any, exc: BaseException | None = None) -> None:
        tell(trial.trial_id, exc)
        handle_error(trial, exc)

    def failed(manager: Any, tracked_actor_task: Any, exception: BaseException) -> None:
        if isinstance(exception, RayError) and not isinstance(
            exception, RayActorError | RayTaskError
        ):
            known = RayActorError(error_msg=str(exception))
            known.__cause__ = exception
            exception = known
        task_failed(manager, tracked_actor_task, exception)

    Trial.handle_error, RayActorManager._actor_task_failed = told, failed
    try:
        yield
    finally:
        Trial.handle_error, RayActorManager._actor_task_failed = handle_error, task_failed
