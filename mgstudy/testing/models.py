"""What every model must do, whatever it is."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from mgstudy.config.parameters import ParameterSet
from mgstudy.data.dataset import Dataset
from mgstudy.data.derived import DerivedArrays
from mgstudy.errors import InputError
from mgstudy.models.base import Batch, ModalityNeed, Recommender
from mgstudy.testing.datasets import COLD_ITEMS, COLD_USERS, COLD_WIDTHS, dataset_with_cold_ends
from mgstudy.testing.robust_methods import Problem, assert_acts_or_refuses
from mgstudy.training.gradient.base import gradient_strategies
from mgstudy.training.robust.base import robust_methods

BATCH_SIZE = 64


class ModelContract:
    """Holds a model to what it owes; subclass it and set ``model``.

    What cannot be asked of a model (a loss of one that is not trained) is skipped.

    Attributes:
        model: The class under test.
        parameters: Hyper-parameters by name, where the defaults do not do.
    """

    model: ClassVar[type[Recommender]]
    parameters: ClassVar[Mapping[str, Any]] = {}

    def build(self, dataset: Dataset) -> Recommender:
        """The model on a dataset, from the same random numbers every time."""
        torch.manual_seed(3)
        return self.model(dataset, self.chosen())

    def chosen(self) -> ParameterSet:
        """The parameters the model is built with."""
        return self.model.Parameters(**{**self.model.tried_with, **self.parameters})

    def test_two_epochs_lower_the_loss(self) -> None:
        self._needs_training()
        dataset = dataset_with_cold_ends()
        model = self.build(dataset)
        before = total_loss(model, dataset)
        train(model, dataset)
        assert total_loss(model, dataset) < before

    def test_shared_read_only_arrays_give_the_same_scores(self, tmp_path: Path) -> None:
        """A worker reads its dataset from shared memory and its graphs from mapped files."""
        self._needs_training()
        dataset = dataset_with_cold_ends()
        expected = self.build(dataset)
        train(expected, dataset)
        shared = replace(dataset_with_cold_ends(), derived=DerivedArrays(tmp_path))
        shared.train.users.flags.writeable = shared.train.items.flags.writeable = False
        for table in shared.features.values():
            table.flags.writeable = False
        for _ in range(2):  # Graphs are built, and then found.
            model = self.build(replace(shared, derived=DerivedArrays(tmp_path)))
            train(model, shared)
            torch.testing.assert_close(scores(model), scores(expected), rtol=0, atol=0)

    def test_a_noised_table_never_meets_a_clean_table_s_graph(self, tmp_path: Path) -> None:
        if self.model.modality_need.minimum() == 0:
            pytest.skip(f"{self.model.name} needs no features")
        clean = replace(dataset_with_cold_ends(), derived=DerivedArrays(tmp_path))
        noise = np.random.default_rng(1).standard_normal((COLD_ITEMS, max(COLD_WIDTHS.values())))
        noised = clean.with_features(
            {
                modality: table + noise[:, : table.shape[1]].astype(np.float32)
                for modality, table in clean.features.items()
            }
        )
        # Leaves its graphs where the other finds them, unless they are kept apart.
        self.build(clean)
        actual = self.build(noised)
        expected = self.build(replace(noised, derived=DerivedArrays()))
        for one, other in zip(actual.buffers(), expected.buffers(), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0)
        torch.testing.assert_close(scores(actual), scores(expected), rtol=0, atol=0)
        if self.model.trainable:
            assert total_loss(actual, noised) == total_loss(expected, noised)

    @pytest.mark.parametrize("modalities", [0, 1, 2, 3])
    def test_scores_every_item_or_refuses_clearly(self, modalities: int) -> None:
        dataset = dataset_with_cold_ends(modalities)
        if self.model.refusal(dataset) is not None:
            assert modalities < self.model.modality_need.minimum()
            complaint = rf"^{self.model.name} needs .* dataset 'tastes' has"
            with pytest.raises(InputError, match=complaint):
                self.build(dataset)
            return
        model = self.build(dataset)
        if self.model.trainable:
            train(model, dataset, epochs=1)
        result = scores(model)
        assert result.shape == (COLD_USERS, COLD_ITEMS)
        assert torch.isfinite(result).all()
        some = torch.tensor([5, COLD_USERS - 1, 5])
        torch.testing.assert_close(scores(model, some), result[some])
        uses_no_features = self.model.modality_need is ModalityNeed.NONE
        assert (len(model.features.modalities) == 0) == uses_no_features

    def test_a_restored_model_gives_identical_scores(self) -> None:
        dataset = dataset_with_cold_ends()
        model = self.build(dataset)
        if model.trainable:
            train(model, dataset)
        torch.manual_seed(99)
        restored = self.model(dataset, self.chosen())
        restored.load_state_dict(copy.deepcopy(model.state_dict()))
        assert torch.equal(scores(model), scores(restored))

    def test_scoring_is_deterministic_and_changes_nothing(self) -> None:
        model = self.build(dataset_with_cold_ends())
        state = copy.deepcopy(model.state_dict())
        assert torch.equal(scores(model), scores(model))
        assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())

    def test_the_same_seed_repeats_to_the_bit(self) -> None:
        self._needs_training()
        dataset = dataset_with_cold_ends()
        results = []
        for _ in range(2):
            model = self.build(dataset)
            train(model, dataset)
            results.append(scores(model))
        assert torch.equal(*results)

    def test_every_parameter_receives_a_gradient(self) -> None:
        """What is not trained is a buffer, or given. The first factor of an adapter receives one
        when the second is no longer zero."""
        self._needs_training()
        dataset = dataset_with_cold_ends()
        model = self.build(dataset)
        model.train()
        model.before_epoch(0)
        optimizer = torch.optim.SGD(model.trained_parameters(), lr=1e-3)
        without = trained_names(model)
        for batch in batches(model, dataset)[: 2 if model.given else 1]:
            optimizer.zero_grad()
            model.loss(batch).backward()
            optimizer.step()
            gradients = {key: parameter.grad for key, parameter in model.named_parameters()}
            without -= {key for key, grad in gradients.items() if grad is not None and grad.any()}
        assert without == set()

    def test_a_checkpoint_holds_what_is_trained_and_nothing_that_is_given(self) -> None:
        model = self.build(dataset_with_cold_ends())
        kept = set(model.state_dict())
        assert trained_names(model) <= kept
        given = {
            key
            for key, parameter in model.named_parameters()
            if not parameter.requires_grad and key.startswith(tuple(f"{n}." for n in model.given))
        }
        assert bool(given) == bool(model.given) and not given & kept

    def test_the_loss_leaves_the_batch_as_it_was_and_gives_one_finite_number(self) -> None:
        self._needs_training()
        dataset = dataset_with_cold_ends()
        model = self.build(dataset)
        batch = batches(model, dataset)[-1]
        kept = copy.deepcopy(batch)
        model.before_epoch(0)
        loss = model.loss(batch)
        assert loss.shape == ()
        assert math.isfinite(loss.item())
        assert torch.equal(batch.users, kept.users)
        assert torch.equal(batch.positives, kept.positives)
        if batch.negatives is not None and kept.negatives is not None:
            assert torch.equal(batch.negatives, kept.negatives)

    @pytest.mark.parametrize("strategy", ["plain", "mirror_gradient"])
    def test_every_strategy_steps_every_parameter(self, strategy: str) -> None:
        self._needs_training()
        dataset = dataset_with_cold_ends()
        model = self.build(dataset)
        model.train()
        model.before_epoch(0)
        before = {
            key: value.clone() for key, value in model.named_parameters() if value.requires_grad
        }
        optimizer = torch.optim.Adam(model.trained_parameters(), lr=1e-3)
        steps = gradient_strategies.get(strategy)(optimizer)
        steps.start_epoch(0)
        for batch in batches(model, dataset)[:2]:
            loss = steps.step(partial(model.loss, batch))
            assert math.isfinite(loss.item())
        now = dict(model.named_parameters())
        unmoved = [key for key, value in before.items() if torch.equal(value, now[key])]
        assert unmoved == []

    @pytest.mark.parametrize("method", robust_methods.names())
    def test_every_robust_method_acts_on_it_or_refuses_it(self, method: str) -> None:
        self._needs_training()
        problem = Problem.of(self.model, **{**self.model.tried_with, **self.parameters})
        assert_acts_or_refuses(robust_methods.get(method), problem)

    def test_training_never_changes_the_dataset(self) -> None:
        dataset = dataset_with_cold_ends()
        features = {modality: table.copy() for modality, table in dataset.features.items()}
        model = self.build(dataset)
        if model.trainable:
            train(model, dataset)
        for modality, table in features.items():
            assert np.array_equal(dataset.features[modality], table)

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    def test_cpu_and_cuda_agree(self) -> None:
        dataset = dataset_with_cold_ends()
        model = self.build(dataset).eval()
        batch = batches(model, dataset)[0]
        on_gpu = copy.deepcopy(model).to("cuda")
        torch.testing.assert_close(scores(on_gpu), scores(model), atol=1e-4, rtol=1e-4)
        if model.trainable:
            train(on_gpu, dataset, device="cuda")
            assert math.isfinite(on_gpu.loss(batches(on_gpu, dataset, "cuda")[0]).item())
            assert math.isfinite(model.loss(batch).item())

    def _needs_training(self) -> None:
        if not self.model.trainable:
            pytest.skip(f"{self.model.name} is not trained")


def trained_names(model: Recommender) -> set[str]:
    """The names of the parameters that are trained."""
    return {key for key, parameter in model.named_parameters() if parameter.requires_grad}


def batches(model: Recommender, dataset: Dataset, device: str = "cpu") -> list[Batch]:
    """The training pairs in one random order, cut into batches."""
    random = np.random.default_rng(1)
    order = random.permutation(len(dataset.train))
    users, positives = dataset.train.users[order], dataset.train.items[order]
    negatives = (positives + random.integers(1, 4, len(order))) % (dataset.item_count - 1)
    rows = [
        torch.split(torch.from_numpy(column).to(device), BATCH_SIZE)
        for column in (users, positives, negatives)
    ]
    return [
        Batch(u, p, n if model.samples_negatives else None, BATCH_SIZE)
        for u, p, n in zip(*rows, strict=True)
    ]


def total_loss(model: Recommender, dataset: Dataset) -> float:
    """Loss over one epoch's batches at fixed weights, with the same noise on every call."""
    torch.manual_seed(11)
    model.train()
    model.before_epoch(0)
    return sum(model.loss(batch).item() for batch in batches(model, dataset))


def train(model: Recommender, dataset: Dataset, epochs: int = 2, device: str = "cpu") -> None:
    """Train by Adam, from the same random numbers every time."""
    torch.manual_seed(5)
    optimizer = torch.optim.Adam(model.trained_parameters(), lr=1e-3)
    model.train()
    for epoch in range(epochs):
        model.before_epoch(epoch)
        for batch in batches(model, dataset, device):
            optimizer.zero_grad()
            model.loss(batch).backward()
            optimizer.step()


def scores(model: Recommender, users: Tensor | None = None) -> Tensor:
    """Scores of all items for some users, or all."""
    model.eval()
    device = next(iter(model.parameters()), torch.empty(0)).device
    with torch.no_grad():
        chosen = torch.arange(model.dataset.user_count) if users is None else users
        return model.scorer()(chosen.to(device)).cpu()
