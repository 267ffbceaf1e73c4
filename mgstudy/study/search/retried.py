"""Run failed trials again once what broke them is repaired.

Optuna keeps a trial that has ended as it is, and so does its record of the failure. The trial runs
again under a new number, with the same parameters and seed, and the failed one no longer counts: a
cell gets as many trials as it would have had, no more and no fewer. Which trial stands for which is
written as Optuna's own retries write it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import optuna
from optuna.trial import FrozenTrial, TrialState

_FIRST = "failed_trial"
_HISTORY = "retry_history"


def replaced(trials: Iterable[FrozenTrial]) -> frozenset[int]:
    """Numbers of the failed trials that others stand for, those that wait included."""
    return frozenset(number for trial in trials for number in trial.system_attrs.get(_HISTORY, ()))


def queue_failed(study: optuna.Study, kept_attributes: Collection[str] = ()) -> int:
    """Queue every failed trial that no other stands for yet; how many those are.

    Args:
        study: The Optuna study.
        kept_attributes: Names of the user attributes that a trial is queued with.
    """
    trials = study.get_trials(deepcopy=False)
    gone = replaced(trials)
    failed = [t for t in trials if t.state is TrialState.FAIL and t.number not in gone]
    for trial in failed:
        attributes = trial.system_attrs
        study.add_trial(
            optuna.create_trial(
                state=TrialState.WAITING,
                user_attrs={
                    name: value
                    for name, value in trial.user_attrs.items()
                    if name in kept_attributes
                },
                system_attrs={
                    "fixed_params": trial.params,
                    _FIRST: attributes.get(_FIRST, trial.number),
                    _HISTORY: [*attributes.get(_HISTORY, ()), trial.number],
                },
            )
        )
    return len(failed)
