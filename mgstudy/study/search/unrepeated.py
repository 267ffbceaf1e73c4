"""A sampler that proposes no combination twice."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from mgstudy.private.optuna import fixed_parameters

_DRAWS = 32
_SAME_DRAWS = 3


class UnrepeatedSampler(BaseSampler):
    """Lets another sampler propose, again if the study has had its proposal already.

    All trials of a cell train with one seed, so that a second one with the same parameters gives
    the same numbers: it would cost a training and tell nothing. Samplers that learn, such as TPE,
    come back to what was good: of 60 trials in a space of 60 combinations, TPE repeats some 40 %.

    When the other sampler only repeats itself, one of the combinations that are left is drawn
    evenly. Only when none is left is one repeated.

    Args:
        sampler: The one that proposes.
        distributions: Of every parameter, by its name.
        seed: Of the draws among what is left.
    """

    def __init__(
        self,
        sampler: BaseSampler,
        distributions: Mapping[str, CategoricalDistribution | IntDistribution],
        seed: int,
    ) -> None:
        self.sampler = sampler
        self.distributions = distributions
        self._random = random.Random(seed)

    def reseed_rng(self) -> None:
        """As the other sampler does it."""
        self.sampler.reseed_rng()

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """All parameters: whether a combination is a new one shows only when it is complete."""
        return dict(self.distributions)

    def sample_relative(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        """A combination that no other trial of the study has, around what the trial has already."""
        given = {**(fixed_parameters(trial) or {}), **trial.params}
        if self.distributions.keys() <= given.keys():
            return {}
        tried = {
            self._combination(other.params)
            for other in study.get_trials(deepcopy=False)
            if other.number != trial.number and other.state is not TrialState.WAITING
        }
        proposal: dict[str, Any] = {}
        repeated: Counter[tuple[Any, ...]] = Counter()
        # Some samplers compute for long to come to the same proposal again.
        while repeated.total() < _DRAWS and max(repeated.values(), default=0) < _SAME_DRAWS:
            proposal = {**self._draw(study, trial), **given}
            if self._combination(proposal) not in tried:
                return proposal
            repeated[self._combination(proposal)] += 1
        left = [values for values in self._combinations(given) if values not in tried]
        return (
            dict(zip(self.distributions, self._random.choice(left), strict=True))
            if left
            else proposal
        )

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """As the other sampler does it."""
        return self.sampler.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Passed on."""
        self.sampler.before_trial(study, trial)

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Passed on."""
        self.sampler.after_trial(study, trial, state, values)

    def _draw(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, Any]:
        """What the other sampler proposes."""
        space = self.sampler.infer_relative_search_space(study, trial)
        proposal = self.sampler.sample_relative(study, trial, space)
        return {
            name: proposal[name]
            if name in proposal
            else self.sample_independent(study, trial, name, distribution)
            for name, distribution in self.distributions.items()
        }

    def _combination(self, parameters: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(parameters.get(name) for name in self.distributions)

    def _combinations(self, given: Mapping[str, Any]) -> itertools.product[tuple[Any, ...]]:
        return itertools.product(
            *(
                [given[name]] if name in given else _values(distribution)
                for name, distribution in self.distributions.items()
            )
        )


def _values(distribution: CategoricalDistribution | IntDistribution) -> Sequence[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    return range(distribution.low, distribution.high + 1, distribution.step)
