"""The suite for models finds a model that breaks any one promise, for the reason it should."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mgstudy.data.dataset import Dataset
from mgstudy.models.base import Batch, Scorer
from mgstudy.models.vbpr import VBPR
from mgstudy.testing import ModelContract

UNSEEDED = np.random.default_rng()


class LossGrows(VBPR):
    name = "LossGrows"
    calls = 0

    def loss(self, batch: Batch) -> Tensor:
        self.calls += 1
        return super().loss(batch) + self.calls


class WritesToItsFeatures(VBPR):
    name = "WritesToItsFeatures"

    def __init__(self, dataset: Dataset, parameters: Any) -> None:
        super().__init__(dataset, parameters)
        dataset.features["image"][0, 0] += 1.0


class KeysItsGraphByInteractionsAlone(VBPR):
    name = "KeysItsGraphByInteractionsAlone"

    def __init__(self, dataset: Dataset, parameters: Any) -> None:
        super().__init__(dataset, parameters)
        arrays = dataset.derived.get(
            "means",
            {"dataset": dataset.fingerprint},
            lambda: {"means": dataset.features["image"].mean(axis=0)},
        )
        self.register_buffer("means", torch.from_numpy(np.array(arrays["means"])))


class ForgetsTheLastItem(VBPR):
    name = "ForgetsTheLastItem"

    def scorer(self) -> Scorer:
        score = super().scorer()
        return lambda users: score(users)[:, :-1]


class RefusesWithoutAWord(VBPR):
    name = "RefusesWithoutAWord"

    @classmethod
    def refusal(cls, dataset: Dataset) -> str | None:
        return "no"


class HasWeightsThatNoCheckpointHolds(VBPR):
    name = "HasWeightsThatNoCheckpointHolds"

    def __init__(self, dataset: Dataset, parameters: Any) -> None:
        super().__init__(dataset, parameters)
        self.tilt = torch.rand(dataset.item_count)

    def scorer(self) -> Scorer:
        score = super().scorer()
        return lambda users: score(users) + self.tilt


class ScoresAtRandom(VBPR):
    name = "ScoresAtRandom"

    def scorer(self) -> Scorer:
        score = super().scorer()
        return lambda users: score(users) + torch.rand(self.dataset.item_count)


class DrawsItsOwnNumbers(VBPR):
    name = "DrawsItsOwnNumbers"

    def loss(self, batch: Batch) -> Tensor:
        return super().loss(batch) * UNSEEDED.uniform(0.5, 2.0)


class HasAnIdleParameter(VBPR):
    name = "HasAnIdleParameter"

    def __init__(self, dataset: Dataset, parameters: Any) -> None:
        super().__init__(dataset, parameters)
        self.idle = nn.Parameter(torch.ones(3))


class WritesToTheBatch(VBPR):
    name = "WritesToTheBatch"

    def loss(self, batch: Batch) -> Tensor:
        batch.positives.zero_()
        return super().loss(batch)


class LossPerRow(VBPR):
    name = "LossPerRow"

    def loss(self, batch: Batch) -> Tensor:
        return super().loss(batch).repeat(len(batch))


class ReadsFeaturesForNothing(VBPR):
    name = "ReadsFeaturesForNothing"

    def loss(self, batch: Batch) -> Tensor:
        read = self.features.rows("image", batch.positives)
        users, positives, negatives = (
            torch.cat([table[ids]])
            for table, ids in (
                (self.user_embedding[:, : self.item_embedding.shape[1]], batch.users),
                (self.item_embedding, batch.positives),
                (self.item_embedding, batch.negatives),
            )
        )
        margins = (users * (positives - negatives)).sum(dim=1)
        return nn.functional.softplus(-margins).mean() + 0.0 * read.sum()


class ChangesTheDatasetInTraining(VBPR):
    name = "ChangesTheDatasetInTraining"

    def before_epoch(self, epoch: int) -> None:
        self.dataset.features["text"][0, 0] += 1.0


class LosesAWeight(VBPR):
    name = "LosesAWeight"

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        kept: dict[str, Any] = super().state_dict(*args, **kwargs)
        kept.pop(next(iter(kept)))
        return kept


BROKEN: list[tuple[str, type[VBPR], dict[str, Any], type[Exception], str]] = [
    ("test_two_epochs_lower_the_loss", LossGrows, {}, AssertionError, r"\d < \d"),
    (
        "test_a_checkpoint_holds_what_is_trained_and_nothing_that_is_given",
        LosesAWeight,
        {},
        AssertionError,
        "<=",
    ),
    (
        "test_shared_read_only_arrays_give_the_same_scores",
        WritesToItsFeatures,
        {"tmp_path": None},
        ValueError,
        "read-only",
    ),
    (
        "test_a_noised_table_never_meets_a_clean_table_s_graph",
        KeysItsGraphByInteractionsAlone,
        {"tmp_path": None},
        AssertionError,
        "not equal",
    ),
    (
        "test_scores_every_item_or_refuses_clearly",
        ForgetsTheLastItem,
        {"modalities": 2},
        AssertionError,
        r"Size\(\[40, 59\]\)",
    ),
    (
        "test_scores_every_item_or_refuses_clearly",
        RefusesWithoutAWord,
        {"modalities": 0},
        AssertionError,
        "does not match|Regex",
    ),
    (
        "test_a_restored_model_gives_identical_scores",
        HasWeightsThatNoCheckpointHolds,
        {},
        AssertionError,
        "equal",
    ),
    (
        "test_scoring_is_deterministic_and_changes_nothing",
        ScoresAtRandom,
        {},
        AssertionError,
        "equal",
    ),
    ("test_the_same_seed_repeats_to_the_bit", DrawsItsOwnNumbers, {}, AssertionError, "equal"),
    ("test_every_parameter_receives_a_gradient", HasAnIdleParameter, {}, AssertionError, "idle"),
    (
        "test_the_loss_leaves_the_batch_as_it_was_and_gives_one_finite_number",
        WritesToTheBatch,
        {},
        AssertionError,
        "positives",
    ),
    (
        "test_the_loss_leaves_the_batch_as_it_was_and_gives_one_finite_number",
        LossPerRow,
        {},
        AssertionError,
        r"Size\(\[48\]\) == \(\)",
    ),
    (
        "test_every_strategy_steps_every_parameter",
        HasAnIdleParameter,
        {"strategy": "plain"},
        AssertionError,
        "idle",
    ),
    (
        "test_every_robust_method_acts_on_it_or_refuses_it",
        ReadsFeaturesForNothing,
        {"method": "feature_noise"},
        AssertionError,
        "feature_noise leaves ReadsFeaturesForNothing as it was",
    ),
    (
        "test_training_never_changes_the_dataset",
        ChangesTheDatasetInTraining,
        {},
        AssertionError,
        "array_equal",
    ),
]


def held(kind: type[VBPR]) -> ModelContract:
    class Held(ModelContract):
        model = kind

    return Held()


@pytest.mark.parametrize(
    ("check", "kind", "arguments", "error", "reason"),
    BROKEN,
    ids=[kind.__name__ + str(number) for number, (_, kind, *_) in enumerate(BROKEN)],
)
def test_a_broken_promise_is_found(
    tmp_path: Path,
    check: str,
    kind: type[VBPR],
    arguments: dict[str, Any],
    error: type[Exception],
    reason: str,
) -> None:
    arguments = {name: tmp_path if name == "tmp_path" else v for name, v in arguments.items()}
    run: Callable[..., None] = getattr(held(kind), check)
    with pytest.raises(error, match=reason):
        run(**arguments)


def test_every_check_can_fail() -> None:
    checks = {name for name in dir(ModelContract) if name.startswith("test_")}
    # Whether two devices agree cannot be told on a machine with one.
    assert checks - {"test_cpu_and_cuda_agree"} == {check for check, *_ in BROKEN}


def test_the_checks_of_training_are_skipped_without_training() -> None:
    class NotTrained(VBPR):
        name = "NotTrained"
        trainable = False

    with pytest.raises(pytest.skip.Exception, match="NotTrained is not trained"):
        held(NotTrained).test_two_epochs_lower_the_loss()
