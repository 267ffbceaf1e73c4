"""How much of the scores each searched parameter explains."""

from __future__ import annotations

import optuna

from mgstudy.study.search.state import CellState
from mgstudy.study.storage.optuna_storage import quiet_optuna

FEWEST_TRIALS_FOR_IMPORTANCE = 8
_EVALUATOR_SEED = 0


@quiet_optuna()
def importance(cell: CellState) -> dict[str, float]:
    """The share of the variance of a cell's completed trials' scores that each searched parameter
    explains, by Optuna's fANOVA (Hutter et al., ICML 2014); empty if the trials are too few, their
    scores equal, or nothing is searched."""
    if not _can_be_explained(cell):
        return {}
    # Only here: it imports scikit-learn.
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances  # noqa: PLC0415

    trials = [trial.frozen for trial in cell.trials if trial.frozen is not None]
    objectives = max(len(trial.values or ()) for trial in trials)
    study = optuna.create_study(directions=["maximize"] * objectives)
    study.add_trials(trials)
    return get_param_importances(
        study,
        evaluator=FanovaImportanceEvaluator(seed=_EVALUATOR_SEED),
        target=lambda trial: (trial.values or [0.0])[0],
    )


def _can_be_explained(cell: CellState) -> bool:
    values = [trial.value for trial in cell.trials if trial.value is not None]
    return (
        bool(cell.searched) and len(values) >= FEWEST_TRIALS_FOR_IMPORTANCE and len(set(values)) > 1
    )
