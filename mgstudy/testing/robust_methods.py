"""What every robust training method must do, whatever it is."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pytest
import torch
from torch import Tensor

from mgstudy.data.dataset import Dataset
from mgstudy.errors import InputError
from mgstudy.models.base import Batch, Recommender, models
from mgstudy.testing.datasets import small_dataset, with_two_domains
from mgstudy.training.gradient.base import LossClosure
from mgstudy.training.robust.base import BatchContext, RobustMethod, compose, robust_methods

LAST_EPOCH = 19
"""An epoch in which no method is warming up any more."""


@dataclass(frozen=True)
class Problem:
    """A model with random weights, and the first training pairs as a batch."""

    model: Recommender
    batch: Batch

    @classmethod
    def of(
        cls, model: type[Recommender], dataset: Dataset | None = None, **parameters: Any
    ) -> Self:
        """The problem of a model on a dataset, ``small_dataset`` of two domains when none is
        given."""
        dataset = with_two_domains(small_dataset()) if dataset is None else dataset
        torch.manual_seed(0)
        built = model(dataset, model.Parameters(**parameters)).train()
        built.before_epoch(0)
        users, positives = (
            torch.from_numpy(column[:32]) for column in (dataset.train.users, dataset.train.items)
        )
        negatives = (positives + 7) % dataset.item_count if model.samples_negatives else None
        return cls(built, Batch(users, positives, negatives, nominal_size=32))

    def loss(self) -> Tensor:
        """The model's own loss on the batch."""
        return self.model.loss(self.batch)

    def robust_loss(self, *methods: RobustMethod, epoch: int = 0) -> LossClosure:
        """The loss wrapped in methods, the first one innermost."""
        return compose(methods, self.loss, BatchContext(self.batch, epoch=epoch))

    def gradients(self, loss: Callable[[], Tensor]) -> dict[str, Tensor]:
        """The gradient of a loss in every parameter that it depends on, by name."""
        self.model.zero_grad()
        loss().backward()
        return {
            name: weight.grad.clone()
            for name, weight in self.model.named_parameters()
            if weight.grad is not None
        }


def assert_acts_or_refuses(method: type[RobustMethod], problem: Problem, **parameters: Any) -> None:
    """Check that a method refuses a model in a line that names both, or else changes its gradients
    or its data, to finite ones."""
    model = type(problem.model)
    refusal = method.refusal(model, problem.model.dataset)
    if refusal is not None:
        assert refusal.startswith(method.name) and model.name in refusal
        with pytest.raises(InputError) as refused:
            method(problem.model)
        assert str(refused.value) == refusal
        return
    built = method(problem.model, method.Parameters(**parameters))
    results = []
    for loss in (problem.loss, problem.robust_loss(built, epoch=LAST_EPOCH)):
        torch.manual_seed(5)
        results.append(problem.gradients(loss))
    assert all(gradient.isfinite().all() for gradient in results[1].values())
    prepared = method.prepared(problem.model.dataset, built.parameters)
    acts_on_data = prepared.feature_fingerprints != problem.model.dataset.feature_fingerprints
    acts_on_loss = any(not torch.equal(results[0][key], results[1][key]) for key in results[0])
    assert acts_on_data or acts_on_loss, f"{method.name} leaves {model.name} as it was"


class RobustMethodContract:
    """Holds a robust method to what it owes; subclass it and set ``method``.

    Attributes:
        method: The class under test.
        parameters: Settings by name with which it acts, where the defaults do not do.
        neutral: Settings with which it leaves data and loss as they are, one mapping each.
    """

    method: ClassVar[type[RobustMethod]]
    parameters: ClassVar[Mapping[str, Any]] = {}
    neutral: ClassVar[Sequence[Mapping[str, Any]]] = ()

    def on(self, model: str, **parameters: Any) -> tuple[Problem, RobustMethod]:
        """A model's problem and the method on it; skipped where the method refuses the model."""
        kind = models.get(model)
        refusal = self.method.refusal(kind, small_dataset())
        if refusal is not None:
            pytest.skip(refusal)
        problem = Problem.of(kind)
        settings = self.method.Parameters(**{**self.parameters, **parameters})
        return problem, self.method(problem.model, settings)

    @pytest.mark.parametrize("model", ["BPR", "VBPR", "LayerGCN", "FREEDOM", "BM3", "SLMRec"])
    def test_acts_on_a_model_or_refuses_it(self, model: str) -> None:
        assert_acts_or_refuses(self.method, Problem.of(models.get(model)), **self.parameters)

    def test_acts_on_some_model(self) -> None:
        refusals = {kind.name: self.method.refusal(kind, small_dataset()) for kind in models}
        assert None in refusals.values(), refusals

    def test_a_model_without_training_is_refused(self) -> None:
        refusal = self.method.refusal(models.get("ItemKNNCBF"), small_dataset())
        assert refusal is not None
        assert refusal.startswith(self.method.name) and "ItemKNNCBF" in refusal

    def test_a_neutral_setting_is_no_method(self) -> None:
        for settings in self.neutral:
            problem, method = self.on("FREEDOM", **settings)
            wrapped = problem.robust_loss(method, epoch=LAST_EPOCH)
            assert wrapped == problem.loss, settings
            dataset = problem.model.dataset
            assert method.prepared(dataset, method.parameters) is dataset, settings
            assert method.computations_per_loss(method.parameters) == 1, settings

    def test_computes_the_loss_as_often_as_it_says(self) -> None:
        problem, method = self.on("FREEDOM")
        calls = 0

        def loss() -> Tensor:
            nonlocal calls
            calls += 1
            return problem.loss()

        context = BatchContext(problem.batch, epoch=LAST_EPOCH)
        method.wrap(loss, context)()
        assert calls == method.computations_per_loss(method.parameters)

    @pytest.mark.parametrize("other", robust_methods.names())
    def test_composes_with_every_other_method(self, other: str) -> None:
        problem, method = self.on("FREEDOM")
        another = robust_methods.get(other)(problem.model)
        for pair in ((method, another), (another, method)):
            gradients = problem.gradients(problem.robust_loss(*pair, epoch=LAST_EPOCH))
            assert set(gradients) == {name for name, _ in problem.model.named_parameters()}
            assert all(gradient.isfinite().all() for gradient in gradients.values())

    def test_continues_to_the_bit_from_its_state(self) -> None:
        def losses_of_epoch(problem: Problem, method: RobustMethod, epoch: int) -> list[float]:
            torch.manual_seed(epoch)
            loss = problem.robust_loss(method, epoch=epoch)
            return [loss().item() for _ in range(3)]

        problem, method = self.on("FREEDOM")
        losses_of_epoch(problem, method, LAST_EPOCH - 1)
        saved = copy.deepcopy(dict(method.state_dict()))
        expected = losses_of_epoch(problem, method, LAST_EPOCH)
        same, again = self.on("FREEDOM")
        again.load_state_dict(saved)
        assert losses_of_epoch(same, again, LAST_EPOCH) == expected

    def test_changed_data_have_another_fingerprint_and_the_given_ones_stay(self) -> None:
        dataset = small_dataset()
        kept = {modality: table.copy() for modality, table in dataset.features.items()}
        prepared = self.method.prepared(dataset, self.method.Parameters(**self.parameters))
        for modality, table in kept.items():
            assert np.array_equal(dataset.features[modality], table)
            if not np.array_equal(prepared.features[modality], table):
                fingerprints = (data.feature_fingerprints[modality] for data in (prepared, dataset))
                assert len(set(fingerprints)) == 2, modality
        assert prepared.fingerprint == dataset.fingerprint
