"""Optuna's own tests of a sampler, over the one that repeats nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.testing.pytest_samplers import BasicSamplerTestCase, RelativeSamplerTestCase

from mgstudy.study.search.unrepeated import UnrepeatedSampler

SAMPLERS = {
    "random": lambda: RandomSampler(seed=1),
    "tpe": lambda: TPESampler(seed=1, n_startup_trials=3),
}


class TestBesideWhatItCounts(BasicSamplerTestCase):
    """Parameters beside those it counts are left to the sampler that proposes."""

    @pytest.fixture(params=list(SAMPLERS))
    def sampler(self, request: pytest.FixtureRequest) -> Callable[[], BaseSampler]:
        counted = {"other": IntDistribution(0, 9), "kind": CategoricalDistribution(["a", "b"])}
        return lambda: UnrepeatedSampler(SAMPLERS[request.param](), counted, seed=2)


class TestWhatItCounts(RelativeSamplerTestCase):
    """Whatever space it counts, what it proposes lies in it."""

    @pytest.fixture(params=list(SAMPLERS))
    def sampler(self, request: pytest.FixtureRequest) -> Callable[[], BaseSampler]:
        if request.node.originalname == "test_trial_relative_params":
            pytest.skip("searches ranges of numbers, which have no combinations to count")
        given: dict[str, BaseDistribution] = request.node.callspec.params
        space = {
            "x": given.get("x_distribution", CategoricalDistribution([1, 10, 100])),
            "y": given.get("y_distribution", CategoricalDistribution([-1, -10, -100])),
        }
        counted = {
            name: distribution
            for name, distribution in space.items()
            if isinstance(distribution, CategoricalDistribution | IntDistribution)
        }
        if counted.keys() != space.keys():
            pytest.skip("a range of numbers has no combinations to count")
        return lambda: UnrepeatedSampler(SAMPLERS[request.param](), counted, seed=2)
