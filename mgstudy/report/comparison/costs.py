"""What the trainings that are compared cost, and their difference where they cost the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mgstudy.report.comparison.baselines import ComparedCell
from mgstudy.report.texts import relative
from mgstudy.statistics import seed_tests
from mgstudy.study.search.trials import RecordedTrial

NO_COSTS = dict.fromkeys(
    ("cost_ratio", "equal_cost", "equal_cost_relative", "equal_cost_low", "equal_cost_high"),
    math.nan,
)
"""The columns of a cell whose costs cannot be compared."""


def at_equal_cost(entry: ComparedCell, metric: str) -> dict[str, float]:
    """A cell beside its baseline within the same gradient computations, as columns.

    Both trainings are looked at up to the gradient computations that the cheaper of the two took in
    the mean: each replicate counts with the best *validation* score of the objective that its
    recorded curve has by then. This is what a training stopped there would have kept, since nothing
    in a training depends on when it will end. It is not a test score, which only the weights of the
    whole training's best epoch have; and not what a search at that cost would have found, for
    the configurations were chosen by whole trainings.

    Args:
        entry: The cell with its baseline, both of which have scores enough to be tested.
        metric: What is compared; only the objective has a recorded curve.

    Returns:
        ``cost_ratio`` (of a training, over the baseline's), ``equal_cost`` (the gradient
        computations within which both are compared), ``equal_cost_relative`` (the difference over
        the baseline's score) with its 95 % interval over seeds, ``equal_cost_low`` and
        ``equal_cost_high``; NaN where it is not recorded.
    """
    ours, theirs, paired = entry.replicates()
    costs = [mean_cost(side) for side in (ours, theirs)]
    if not all(costs):
        return NO_COSTS
    budget = min(costs)
    scores = [[_best_within(trial, budget) for trial in side] for side in (ours, theirs)]
    found = NO_COSTS | {"cost_ratio": costs[0] / costs[1], "equal_cost": budget}
    mean, other = (sum(side) / len(side) for side in scores)
    if metric != entry.study.objective or math.isnan(mean) or not other:
        return found
    test = seed_tests(scores[0], scores[1], paired)
    return found | {
        "equal_cost_relative": relative(mean - other, other),
        "equal_cost_low": relative(test.difference.low, other),
        "equal_cost_high": relative(test.difference.high, other),
    }


def mean_cost(trials: Sequence[RecordedTrial]) -> float:
    """Gradient computations of a training, in the mean; 0 if not known."""
    costs: list[Any] = [trial.outcome.get("gradient_computations", 0) for trial in trials]
    return sum(costs) / len(trials) if trials else 0.0


def _best_within(trial: RecordedTrial, budget: float) -> float:
    """The best validation score by the epoch whose end these gradient computations reach."""
    epochs = trial.outcome.get("epochs")
    per_epoch = trial.outcome["gradient_computations"] / epochs if epochs else math.inf
    # What a whole training took is within what it took.
    last = budget * (1 + 1e-9) / per_epoch
    within = (value for epoch, value in trial.values.items() if epoch <= last)
    return max(within, default=math.nan)
