"""A model with a batch, and what robust methods do to its loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mgstudy.data.dataset import Dataset
from mgstudy.models.base import models
from mgstudy.testing.robust_methods import Problem
from mgstudy.training.robust.base import RobustMethod, robust_methods


class NamedProblem(Problem):
    """A problem whose methods are made by name."""

    def method(self, name: str, **settings: Any) -> RobustMethod:
        kind = robust_methods.get(name)
        return kind(self.model, kind.Parameters(**settings))


@pytest.fixture
def make_problem(small_dataset: Dataset) -> Callable[..., NamedProblem]:
    def make(
        model: str = "VBPR", dataset: Dataset = small_dataset, **settings: Any
    ) -> NamedProblem:
        return NamedProblem.of(models.get(model), dataset, **settings)

    return make


@pytest.fixture
def vbpr(make_problem: Callable[..., NamedProblem]) -> NamedProblem:
    """A model without randomness of its own, with weights large enough to matter."""
    problem = make_problem("VBPR", embedding_size=4, regularization=0.01)
    with torch.no_grad():
        for weight in problem.model.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    return problem
