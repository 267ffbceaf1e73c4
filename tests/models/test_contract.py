"""What every registered model must do, whatever it is."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mgstudy.data.dataset import Dataset, Interactions
from mgstudy.data.derived import DerivedArrays
from mgstudy.errors import InputError
from mgstudy.models.base import Batch, ModalityNeed, Recommender, models
from mgstudy.training.gradient.base import gradient_strategies

USERS, ITEMS, BATCH_SIZE = 40, 60, 64
WIDTHS = {"image": 12, "text": 8, "audio": 5}

every_model = pytest.mark.parametrize("name", models.names())
trained_model = pytest.mark.parametrize("name", [m.name for m in models if m.trainable])
cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def make_dataset(modalities: int = 2) -> Dataset:
    """Users and items of four tastes; features tell the taste. One user and one item are cold."""
    generator = np.random.default_rng(7)
    likes = (np.arange(USERS)[:, None] % 4) == (np.arange(ITEMS)[None, :] % 4)
    seen = generator.random((USERS, ITEMS)) < np.where(likes, 0.6, 0.05)
    seen[-1], seen[:, -1] = False, False
    users, items = np.nonzero(seen)
    none = Interactions(np.array([], dtype=np.int64), np.array([], dtype=np.int64))
    features = {
        modality: (
            np.eye(width, dtype=np.float32)[np.arange(ITEMS) % 4]
            + 0.2 * generator.standard_normal((ITEMS, width), dtype=np.float32)
        )
        for modality, width in list(WIDTHS.items())[:modalities]
    }
    return Dataset.from_arrays(
        "tastes", USERS, ITEMS, Interactions(users, items), none, none, features
    )


def build(name: str, dataset: Dataset) -> Recommender:
    torch.manual_seed(3)
    kind = models.get(name)
    return kind(dataset, kind.Parameters())


def batches(model: Recommender, dataset: Dataset, device: str = "cpu") -> list[Batch]:
    generator = np.random.default_rng(1)
    order = generator.permutation(len(dataset.train))
    users, positives = dataset.train.users[order], dataset.train.items[order]
    negatives = (positives + generator.integers(1, 4, len(order))) % (ITEMS - 1)
    rows = [torch.from_numpy(a).to(device).split(BATCH_SIZE) for a in (users, positives, negatives)]
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
    torch.manual_seed(5)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    model.train()
    for epoch in range(epochs):
        model.before_epoch(epoch)
        for batch in batches(model, dataset, device):
            optimizer.zero_grad()
            model.loss(batch).backward()
            optimizer.step()


def scores(model: Recommender, users: Tensor | None = None) -> Tensor:
    model.eval()
    device = next(iter(model.parameters()), torch.empty(0)).device
    with torch.no_grad():
        chosen = torch.arange(USERS) if users is None else users
        return model.scorer()(chosen.to(device)).cpu()


@trained_model
def test_two_epochs_lower_the_loss(name: str) -> None:
    dataset = make_dataset()
    model = build(name, dataset)
    before = total_loss(model, dataset)
    train(model, dataset)
    assert total_loss(model, dataset) < before


@trained_model
def test_shared_read_only_arrays_give_the_same_scores(name: str, tmp_path: Path) -> None:
    """A worker reads its dataset from shared memory and its graphs from mapped files."""
    dataset = make_dataset()
    expected = build(name, dataset)
    train(expected, dataset)
    shared = replace(make_dataset(), derived=DerivedArrays(tmp_path))
    for array in (shared.train.users, shared.train.items, *shared.features.values()):
        array.flags.writeable = False
    for _ in range(2):  # Graphs are built, and then found.
        model = build(name, replace(shared, derived=DerivedArrays(tmp_path)))
        train(model, shared)
        torch.testing.assert_close(scores(model), scores(expected), rtol=0, atol=0)


@pytest.mark.parametrize("name", [m.name for m in models if m.modality_need.minimum() > 0])
def test_a_noised_table_never_meets_a_clean_table_s_graph(name: str, tmp_path: Path) -> None:
    clean = replace(make_dataset(), derived=DerivedArrays(tmp_path))
    noise = np.random.default_rng(1).standard_normal((ITEMS, max(WIDTHS.values())))
    noised = clean.with_features(
        {
            modality: table + noise[:, : table.shape[1]].astype(np.float32)
            for modality, table in clean.features.items()
        }
    )
    build(name, clean)  # Leaves its graphs where the other finds them, unless they are kept apart.
    actual = build(name, noised)
    expected = build(name, replace(noised, derived=DerivedArrays()))
    for one, other in zip(actual.buffers(), expected.buffers(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    torch.testing.assert_close(scores(actual), scores(expected), rtol=0, atol=0)
    if models.get(name).trainable:
        assert total_loss(actual, noised) == total_loss(expected, noised)


@every_model
@pytest.mark.parametrize("modalities", [0, 1, 2, 3])
def test_scores_every_item_or_refuses_clearly(name: str, modalities: int) -> None:
    dataset = make_dataset(modalities)
    kind = models.get(name)
    if kind.refusal(dataset) is not None:
        assert modalities < kind.modality_need.minimum()
        with pytest.raises(InputError, match=rf"^{name} needs .* dataset 'tastes' has"):
            build(name, dataset)
        return
    model = build(name, dataset)
    if kind.trainable:
        train(model, dataset, epochs=1)
    result = scores(model)
    assert result.shape == (USERS, ITEMS)
    assert torch.isfinite(result).all()
    some = torch.tensor([5, USERS - 1, 5])
    torch.testing.assert_close(scores(model, some), result[some])
    assert (len(model.features.modalities) == 0) == (kind.modality_need is ModalityNeed.NONE)


@every_model
def test_a_restored_model_gives_identical_scores(name: str) -> None:
    dataset = make_dataset()
    model = build(name, dataset)
    if model.trainable:
        train(model, dataset)
    torch.manual_seed(99)
    restored = type(model)(dataset, model.Parameters())
    restored.load_state_dict(copy.deepcopy(model.state_dict()))
    assert torch.equal(scores(model), scores(restored))


@every_model
def test_scoring_is_deterministic_and_changes_nothing(name: str) -> None:
    dataset = make_dataset()
    model = build(name, dataset)
    state = copy.deepcopy(model.state_dict())
    assert torch.equal(scores(model), scores(model))
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


@trained_model
def test_the_same_seed_repeats_to_the_bit(name: str) -> None:
    dataset = make_dataset()
    results = []
    for _ in range(2):
        model = build(name, dataset)
        train(model, dataset)
        results.append(scores(model))
    assert torch.equal(*results)


@trained_model
def test_every_parameter_receives_a_gradient(name: str) -> None:
    dataset = make_dataset()
    model = build(name, dataset)
    model.train()
    model.before_epoch(0)
    model.loss(batches(model, dataset)[0]).backward()
    without = [
        key
        for key, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    ]
    assert without == []


@trained_model
def test_the_loss_leaves_the_batch_as_it_was_and_gives_one_finite_number(name: str) -> None:
    dataset = make_dataset()
    model = build(name, dataset)
    batch = batches(model, dataset)[-1]
    kept = copy.deepcopy(batch)
    model.before_epoch(0)
    loss = model.loss(batch)
    assert loss.shape == ()
    assert math.isfinite(loss.item())
    assert torch.equal(batch.users, kept.users)
    assert torch.equal(batch.positives, kept.positives)


@trained_model
@pytest.mark.parametrize("strategy", ["plain", "mirror_gradient"])
def test_every_strategy_steps_every_parameter(name: str, strategy: str) -> None:
    dataset = make_dataset()
    model = build(name, dataset)
    model.train()
    model.before_epoch(0)
    before = {key: value.clone() for key, value in model.named_parameters()}
    steps = gradient_strategies.get(strategy)(torch.optim.Adam(model.parameters(), lr=1e-3))
    steps.start_epoch(0)
    for batch in batches(model, dataset)[:2]:
        loss = steps.step(lambda batch=batch: model.loss(batch))
        assert math.isfinite(loss.item())
    assert [key for key, value in model.named_parameters() if torch.equal(value, before[key])] == []


@every_model
def test_training_never_changes_the_dataset(name: str) -> None:
    dataset = make_dataset()
    features = {modality: table.copy() for modality, table in dataset.features.items()}
    model = build(name, dataset)
    if model.trainable:
        train(model, dataset)
    for modality, table in features.items():
        assert np.array_equal(dataset.features[modality], table)


@cuda
@every_model
def test_cpu_and_cuda_agree(name: str) -> None:
    dataset = make_dataset()
    model = build(name, dataset).eval()
    batch = batches(model, dataset)[0]
    on_gpu = copy.deepcopy(model).to("cuda")
    torch.testing.assert_close(scores(on_gpu), scores(model), atol=1e-4, rtol=1e-4)
    if model.trainable:
        train(on_gpu, dataset, device="cuda")
        assert math.isfinite(on_gpu.loss(batches(on_gpu, dataset, "cuda")[0]).item())
        assert math.isfinite(model.loss(batch).item())
