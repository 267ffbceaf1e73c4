"""The suite for robust methods finds one that breaks any one promise, for the reason it should."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from mgstudy.config.parameters import ParameterSet
from mgstudy.data.dataset import Dataset
from mgstudy.models.base import Recommender
from mgstudy.testing import RobustMethodContract
from mgstudy.training.gradient.base import LossClosure
from mgstudy.training.robust.base import BatchContext, RobustMethod


class Scaled(RobustMethod):
    """Keeps every promise: multiplies the loss, and so its gradients."""

    name = "scaled"

    class Parameters(ParameterSet):
        factor: float = 2.0

    parameters: Parameters

    def wrap(self, loss: LossClosure, context: BatchContext) -> LossClosure:
        factor = self.parameters.factor
        return loss if factor == 1.0 else lambda: factor * loss()


class DoesNothing(Scaled):
    def wrap(self, loss: LossClosure, context: BatchContext) -> LossClosure:
        return loss


class RefusesAll(Scaled):
    @classmethod
    def refusal(cls, model: type[Recommender], dataset: Dataset | None = None) -> str | None:
        return f"{cls.name} cannot act on {model.name}"


class RefusesNobody(Scaled):
    @classmethod
    def refusal(cls, model: type[Recommender], dataset: Dataset | None = None) -> str | None:
        return None


class RefusesWithoutAName(Scaled):
    @classmethod
    def refusal(cls, model: type[Recommender], dataset: Dataset | None = None) -> str | None:
        return "no"


class WrapsInVain(Scaled):
    def wrap(self, loss: LossClosure, context: BatchContext) -> LossClosure:
        return lambda: self.parameters.factor * loss()


class ComputesTwice(Scaled):
    def wrap(self, loss: LossClosure, context: BatchContext) -> LossClosure:
        return lambda: loss() + loss()


class Overflows(Scaled):
    def wrap(self, loss: LossClosure, context: BatchContext) -> LossClosure:
        return lambda: torch.inf * loss()


class ForgetsWhereItWas(Scaled):
    calls = 0

    def wrap(self, loss: LossClosure, context: BatchContext) -> LossClosure:
        self.calls += 1
        return lambda: self.calls * loss()


class ChangesDataUnseen(Scaled):
    @classmethod
    def prepared(cls, dataset: Dataset, parameters: ParameterSet) -> Dataset:
        changed = {name: table + np.float32(1.0) for name, table in dataset.features.items()}
        return replace(dataset, features=changed)


class WritesToTheDataset(Scaled):
    @classmethod
    def prepared(cls, dataset: Dataset, parameters: ParameterSet) -> Dataset:
        dataset.features["image"][0, 0] += 1.0
        return dataset


BROKEN: list[tuple[str, type[RobustMethod], dict[str, Any], str]] = [
    (
        "test_acts_on_a_model_or_refuses_it",
        DoesNothing,
        {"model": "VBPR"},
        "scaled leaves VBPR as it was",
    ),
    (
        "test_acts_on_a_model_or_refuses_it",
        RefusesWithoutAName,
        {"model": "VBPR"},
        "startswith",
    ),
    ("test_acts_on_some_model", RefusesAll, {}, "scaled cannot act on BPR"),
    ("test_a_model_without_training_is_refused", RefusesNobody, {}, "None is not None"),
    ("test_a_neutral_setting_is_no_method", WrapsInVain, {}, "factor"),
    ("test_computes_the_loss_as_often_as_it_says", ComputesTwice, {}, "2 == 1"),
    (
        "test_composes_with_every_other_method",
        Overflows,
        {"other": "feature_noise"},
        "all",
    ),
    ("test_continues_to_the_bit_from_its_state", ForgetsWhereItWas, {}, "At index 0 diff"),
    (
        "test_changed_data_have_another_fingerprint_and_the_given_ones_stay",
        ChangesDataUnseen,
        {},
        "1 == 2",
    ),
    (
        "test_changed_data_have_another_fingerprint_and_the_given_ones_stay",
        WritesToTheDataset,
        {},
        "array_equal",
    ),
]


def held(kind: type[RobustMethod]) -> RobustMethodContract:
    class Held(RobustMethodContract):
        method = kind
        neutral = ({"factor": 1.0},)

    return Held()


@pytest.mark.parametrize(
    ("check", "kind", "arguments", "reason"),
    BROKEN,
    ids=[kind.__name__ for _, kind, *_ in BROKEN],
)
def test_a_broken_promise_is_found(
    check: str, kind: type[RobustMethod], arguments: dict[str, Any], reason: str
) -> None:
    getattr(held(Scaled), check)(**arguments)
    with pytest.raises(AssertionError, match=reason):
        getattr(held(kind), check)(**arguments)


def test_every_check_can_fail() -> None:
    checks = {name for name in dir(RobustMethodContract) if name.startswith("test_")}
    assert checks == {check for check, *_ in BROKEN}
