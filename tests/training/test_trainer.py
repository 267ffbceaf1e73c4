from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mgstudy.config.parameters import NoParameters
from mgstudy.config.training import EarlyStopping, TrainingSettings
from mgstudy.data.dataset import Dataset, Interactions
from mgstudy.errors import InputError
from mgstudy.models.base import Batch
from mgstudy.models.bpr import BPR
from mgstudy.training.checkpoint import load_checkpoint, save_checkpoint, seed_everything
from mgstudy.training.gradient.base import LossClosure
from mgstudy.training.gradient.mirror_gradient import MirrorGradient
from mgstudy.training.gradient.plain import Plain
from mgstudy.training.optimizers.adam import Adam
from mgstudy.training.results import DivergedError, EpochResult
from mgstudy.training.robust.base import BatchContext, RobustMethod
from mgstudy.training.run import build_trainer
from mgstudy.training.trainer import Trainer

SETTINGS = TrainingSettings(epochs=4, batch_size=32, objective="recall@10", cutoffs=(5, 10))


class RecordingBPR(BPR):
    """Remembers what it was asked for."""

    name = "RecordingBPR"

    def __init__(self, dataset: Dataset) -> None:
        super().__init__(dataset, BPR.Parameters(embedding_size=8))
        self.batches: list[Batch] = []
        self.calls: list[str] = []
        self.change: Callable[[int, Tensor], Tensor] = lambda call, loss: loss

    def before_epoch(self, epoch: int) -> None:
        self.calls.append(f"before epoch {epoch}, {'training' if self.training else 'evaluation'}")

    def loss(self, batch: Batch) -> Tensor:
        assert self.training
        self.batches.append(batch)
        return self.change(len(self.batches) - 1, super().loss(batch))

    def scorer(self) -> Any:
        assert not self.training and not torch.is_grad_enabled()
        return super().scorer()


def recording_trainer(
    dataset: Dataset, settings: TrainingSettings = SETTINGS, **arguments: Any
) -> tuple[RecordingBPR, Trainer]:
    seed_everything(0)
    model = RecordingBPR(dataset)
    optimizer = Adam(Adam.Parameters(learning_rate=0.05)).build(model.parameters())
    strategy = arguments.pop("strategy", Plain)(optimizer)
    return model, Trainer(model, dataset, gradient=strategy, settings=settings, **arguments)


def numbers(result: EpochResult) -> EpochResult:
    """A result without what depends on the clock."""
    return replace(result, seconds_training=0, seconds_evaluation=0)


def test_an_epoch_is_every_training_pair_once_with_an_allowed_negative(
    small_dataset: Dataset,
) -> None:
    model, trainer = recording_trainer(small_dataset)
    epochs = trainer.epochs()
    next(epochs)
    first = list(model.batches)
    next(epochs)
    train = small_dataset.train
    pairs = set(zip(train.users.tolist(), train.items.tolist(), strict=True))
    seen = [
        (user, item)
        for batch in first
        for user, item in zip(batch.users.tolist(), batch.positives.tolist(), strict=True)
    ]
    assert sorted(seen) == sorted(pairs) and seen != sorted(pairs)
    assert {len(batch) for batch in first[:-1]} == {32} and 0 < len(first[-1]) <= 32
    for batch in first:
        assert batch.nominal_size == 32 and batch.negatives is not None
        negatives = zip(batch.users.tolist(), batch.negatives.tolist(), strict=True)
        assert pairs.isdisjoint(negatives)
    assert not torch.equal(first[0].users, model.batches[len(first)].users)
    assert model.calls == ["before epoch 0, training", "before epoch 1, training"]


def test_both_passes_of_a_mirrored_batch_see_the_same_rows(small_dataset: Dataset) -> None:
    model, trainer = recording_trainer(small_dataset, strategy=MirrorGradient)
    next(trainer.epochs())
    kept = iter(model.batches)
    for index in range(len(model.batches) - -(-len(model.batches) // 4)):
        first = next(kept)
        if index % 3 == 0:
            second = next(kept)
            for column in ("users", "positives", "negatives"):
                assert torch.equal(getattr(first, column), getattr(second, column))
    assert next(kept, None) is None


def test_learns_and_keeps_the_best_epoch(small_dataset: Dataset) -> None:
    settings = SETTINGS.model_copy(update={"epochs": 25})
    model, trainer = recording_trainer(small_dataset, settings)
    results = list(trainer.epochs())
    values = [result.metrics["recall@10"] for result in results if result.metrics]
    assert len(values) == 25 and max(values) > values[0] + 0.1
    last = results[-1]
    assert (last.best_value, last.best_epoch) == (max(values), values.index(max(values)))
    assert last.best_epoch < 24, "the best epoch is the last: nothing is shown by restoring it"
    assert [result.is_best for result in results] == [
        value > max(values[:epoch], default=-1) for epoch, value in enumerate(values)
    ]
    assert [result.stop_reason for result in results] == [None] * 24 + ["epochs"]
    assert trainer.best_metrics == results[last.best_epoch].metrics
    final = model.user_embedding.detach().clone()
    trainer.restore_best()
    assert not torch.equal(final, model.user_embedding)
    model.eval()
    with torch.no_grad():
        assert trainer.validation.evaluate(model.scorer()) == trainer.best_metrics


def test_the_test_split_is_not_looked_at_in_training(small_dataset: Dataset) -> None:
    nothing = np.array([], dtype=np.int64)
    dataset = replace(small_dataset, test=Interactions(nothing, nothing))
    _, trainer = recording_trainer(dataset)
    assert len(list(trainer.epochs())) == 4
    with pytest.raises(InputError, match="no test interactions"):
        trainer.test_metrics()


def test_the_test_is_of_the_best_epoch(small_dataset: Dataset) -> None:
    settings = SETTINGS.model_copy(update={"epochs": 25})
    model, trainer = recording_trainer(small_dataset, settings)
    list(trainer.epochs())
    metrics = trainer.test_metrics()
    assert set(metrics) == {str(metric) for metric in settings.metrics}
    best = model.user_embedding.detach().clone()
    trainer.restore_best()
    assert torch.equal(best, model.user_embedding)


def test_stops_early_and_for_good(small_dataset: Dataset) -> None:
    rule = EarlyStopping(patience=1, minimum_epochs=6, minimum_improvement=1.0)
    settings = SETTINGS.model_copy(update={"epochs": 50, "early_stopping": rule})
    _, trainer = recording_trainer(small_dataset, settings)
    results = list(trainer.epochs())
    assert [result.stop_reason for result in results] == [None] * 5 + ["early_stopping"]
    assert list(trainer.epochs()) == []


@pytest.mark.parametrize(
    ("minimum_epochs", "epochs", "validated"), [(0, 8, [2, 5, 7]), (7, 50, [2, 5, 6])]
)
def test_validates_when_due_and_before_it_ends(
    small_dataset: Dataset, minimum_epochs: int, epochs: int, validated: list[int]
) -> None:
    rule = EarlyStopping(patience=0, minimum_epochs=minimum_epochs or 50, minimum_improvement=1.0)
    settings = SETTINGS.model_copy(
        update={"epochs": epochs, "validate_every": 3, "early_stopping": rule}
    )
    _, trainer = recording_trainer(small_dataset, settings)
    results = list(trainer.epochs())
    assert [result.epoch for result in results if result.metrics is not None] == validated
    assert results[-1].epoch == validated[-1]


def test_the_learning_rate_falls_a_little_every_epoch(small_dataset: Dataset) -> None:
    _, trainer = recording_trainer(small_dataset, learning_rate_decay=0.5)
    rates = [result.learning_rate for result in trainer.epochs()]
    assert rates == pytest.approx([0.05 * 0.5 ** (epoch / 50) for epoch in range(4)], rel=1e-12)


def test_reports_the_mean_loss_and_the_work_done(small_dataset: Dataset) -> None:
    model, trainer = recording_trainer(small_dataset, strategy=MirrorGradient)
    losses: list[float] = []

    def record(_: int, loss: Tensor) -> Tensor:
        losses.append(loss.item())
        return loss

    model.change = record
    result = next(trainer.epochs())
    batches = -(-len(small_dataset.train) // 32)
    mirrored = -(-batches // 3)
    assert result.gradient_computations == len(losses) == batches + mirrored
    # In the published order: passes 0 and 1 are of batch 0, which is mirrored.
    first_passes = [
        loss
        for loss, is_second in zip(losses, itertools.cycle([False, True, False, False]))
        if not is_second
    ]
    assert result.loss == pytest.approx(np.mean(first_passes), rel=1e-6)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_diverges_names_its_epoch_and_batch(
    small_dataset: Dataset, value: float
) -> None:
    model, trainer = recording_trainer(small_dataset)
    batches = -(-len(small_dataset.train) // 32)
    model.change = lambda call, loss: loss * value if call == batches + 2 else loss
    epochs = trainer.epochs()
    next(epochs)
    with pytest.raises(DivergedError, match=f"the loss became {value} in epoch 1, batch 2") as info:
        next(epochs)
    assert (info.value.epoch, info.value.batch) == (1, 2)


def test_scores_that_diverge_in_the_last_batch_are_noticed(small_dataset: Dataset) -> None:
    model, trainer = recording_trainer(small_dataset)
    batches = -(-len(small_dataset.train) // 32)

    def ruin(call: int, loss: Tensor) -> Tensor:
        if call == batches - 1:
            loss.register_hook(lambda gradient: gradient * float("nan"))
        return loss

    model.change = ruin
    with pytest.raises(DivergedError, match=f"NaN.* in epoch 0, batch {batches - 1}"):
        next(trainer.epochs())


def test_robust_methods_wrap_the_loss_in_order(small_dataset: Dataset) -> None:
    contexts: list[BatchContext] = []

    class Add(RobustMethod):
        name = "add"

        def wrap(self, loss: LossClosure, context: BatchContext) -> LossClosure:
            contexts.append(context)
            return lambda: loss() + 1

    class Triple(Add):
        name = "triple"

        def wrap(self, loss: LossClosure, context: BatchContext) -> LossClosure:
            return lambda: 2 * loss() + loss()

    results = []
    for methods in ((), (Add, Triple)):
        seed_everything(0)
        model = RecordingBPR(small_dataset)
        # At a learning rate of almost nothing the loss stays where it is.
        optimizer = Adam(Adam.Parameters(learning_rate=1e-30)).build(model.parameters())
        robust = [method(model, NoParameters()) for method in methods]
        trainer = Trainer(
            model, small_dataset, gradient=Plain(optimizer), robust=robust, settings=SETTINGS
        )
        results.append(next(trainer.epochs()))
    assert results[1].loss == pytest.approx(3 * (results[0].loss + 1), rel=1e-6)
    assert results[1].gradient_computations == 2 * results[0].gradient_computations
    assert {context.epoch for context in contexts} == {0}


def test_a_model_without_training_is_only_evaluated(small_dataset: Dataset) -> None:
    trainer = build_trainer(small_dataset, model="Popularity", settings=SETTINGS)
    (result,) = trainer.epochs()
    assert result.metrics is not None and result.is_best and result.stop_reason == "epochs"
    assert np.isnan(result.loss) and result.gradient_computations == 0
    assert trainer.test_metrics()["recall@10"] > 0


def test_a_trained_model_needs_a_gradient_strategy(small_dataset: Dataset) -> None:
    with pytest.raises(InputError, match="needs a gradient strategy"):
        Trainer(RecordingBPR(small_dataset), small_dataset, gradient=None)


# Randomness and continuation.

PARTS = [
    {"model": "BPR"},
    {"model": "BM3", "gradient": "mirror_gradient"},
    {
        "model": "FREEDOM",
        "gradient": "mirror_gradient",
        "gradient_parameters": {"variant": "update_scaled", "counted": "whole_run"},
        "optimizer": "rmsprop",
    },
    {"model": "VBPR", "gradient": "ema", "optimizer": "sgd"},
    {"model": "LightGCN", "gradient": "swa", "optimizer": "adagrad"},
]


@pytest.mark.parametrize("parts", PARTS, ids=lambda parts: parts["model"])
def test_a_continued_training_gives_the_same_numbers_to_the_bit(
    small_dataset: Dataset, tmp_path: Path, parts: dict[str, Any]
) -> None:
    def start() -> Trainer:
        return build_trainer(small_dataset, settings=SETTINGS, seed=3, **parts)

    whole = start()
    expected = [numbers(result) for result in whole.epochs()]

    interrupted = start()
    results = [numbers(result) for result in itertools.islice(interrupted.epochs(), 2)]
    assert results == expected[:2]
    path = tmp_path / "trainer.pt"
    save_checkpoint(path, interrupted.state_dict())
    # What is done after saving must not reach into the checkpoint.
    list(interrupted.epochs())

    continued = start()
    continued.load_state_dict(load_checkpoint(path))
    assert [numbers(result) for result in continued.epochs()] == expected[2:]
    assert continued.test_metrics() == whole.test_metrics()
    assert continued.best_metrics == whole.best_metrics


def test_states_do_not_share_memory_with_the_trainers_they_are_loaded_into(
    small_dataset: Dataset,
) -> None:
    first = build_trainer(small_dataset, model="BPR", settings=SETTINGS)
    next(first.epochs())
    second = build_trainer(small_dataset, model="BPR", settings=SETTINGS)
    second.load_state_dict(first.state_dict())
    expected = [numbers(result) for result in first.epochs()]
    assert [numbers(result) for result in second.epochs()] == expected


def test_another_seed_gives_other_numbers(small_dataset: Dataset) -> None:
    losses = {
        next(build_trainer(small_dataset, model="BPR", seed=seed, settings=SETTINGS).epochs()).loss
        for seed in (1, 1, 2)
    }
    assert len(losses) == 2


def test_a_checkpoint_of_another_training_is_refused(small_dataset: Dataset) -> None:
    state = build_trainer(small_dataset, model="BPR", settings=SETTINGS).state_dict()
    other_model = build_trainer(small_dataset, model="VBPR", settings=SETTINGS)
    with pytest.raises(InputError, match="another model: BPR, not VBPR"):
        other_model.load_state_dict(state)
    fewer = replace(small_dataset, fingerprint="0" * 32)
    other_data = build_trainer(fewer, model="BPR", settings=SETTINGS)
    with pytest.raises(InputError, match="another interactions"):
        other_data.load_state_dict(state)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use")
@pytest.mark.parametrize("parts", PARTS, ids=lambda parts: parts["model"])
def test_trains_on_a_gpu_with_the_same_numbers_twice(
    small_dataset: Dataset, tmp_path: Path, parts: dict[str, Any]
) -> None:
    def start() -> Trainer:
        return build_trainer(small_dataset, settings=SETTINGS, device="cuda", **parts)

    expected = [numbers(result) for result in start().epochs()]
    again = start()
    results = [numbers(result) for result in itertools.islice(again.epochs(), 2)]
    save_checkpoint(tmp_path / "trainer.pt", again.state_dict())
    continued = start()
    continued.load_state_dict(load_checkpoint(tmp_path / "trainer.pt"))
    assert results + [numbers(result) for result in continued.epochs()] == expected
    assert continued.test_metrics()["recall@10"] > 0


def test_an_epoch_of_some_rows_takes_others_each_time(small_dataset: Dataset) -> None:
    settings = SETTINGS.model_copy(update={"rows_per_epoch": 40, "epochs": 2})
    model, trainer = recording_trainer(small_dataset, settings)
    list(trainer.epochs())
    assert [len(batch) for batch in model.batches] == [32, 8, 32, 8]
    first, second = (
        [
            pair
            for batch in epoch
            for pair in zip(batch.users.tolist(), batch.positives.tolist(), strict=True)
        ]
        for epoch in (model.batches[:2], model.batches[2:])
    )
    assert set(first) != set(second)
