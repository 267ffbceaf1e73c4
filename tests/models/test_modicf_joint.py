"""MoDiCF trained jointly with its diffusion, and with modality graphs that are found anew."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from mgstudy.data.dataset import Dataset
from mgstudy.errors import InputError
from mgstudy.features.completions.diffusion import Diffusion
from mgstudy.models.base import Batch
from mgstudy.models.modicf import MoDiCF
from mgstudy.testing import small_dataset


def with_gaps() -> Dataset:
    """Forty items with two modalities, of which a fifth lacks the one and a fifth the other."""
    whole = small_dataset()
    first, second = whole.features
    numbers = np.arange(whole.item_count)
    observed = {first: numbers % 5 != 0, second: numbers % 5 != 1}
    return replace(whole, observed=observed)


def make(dataset: Dataset, **settings: Any) -> MoDiCF:
    torch.manual_seed(0)
    model = MoDiCF(dataset, MoDiCF.Parameters(embedding_size=8, heads=2, **settings))
    if model.completion is not None:
        model.completion.diffusion = Diffusion(Diffusion.Parameters(epochs=2, refresh_every=1))
    return model


def batch_of(dataset: Dataset) -> Batch:
    users, items = (
        torch.from_numpy(of[:30].copy()) for of in (dataset.train.users, dataset.train.items)
    )
    return Batch(users, items, (items + 7) % dataset.item_count, nominal_size=30)


def loss_and_gradients(model: MoDiCF, batch: Batch) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    torch.manual_seed(5)
    loss = model.loss(batch)
    loss.backward()
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return loss.item(), found


@pytest.mark.parametrize("items", [0, 16])
def test_the_joint_loss_adds_what_the_diffusion_loses_and_shares_no_gradient(items: int) -> None:
    dataset = with_gaps()
    joint = make(dataset, joint=True, reconstruction_weight=0.6, joint_items=items)
    joint.before_epoch(0)
    total, gradients = loss_and_gradients(joint, batch_of(dataset))
    assert joint.completion is not None
    completed = {name: joint.features.table(name).numpy() for name in dataset.features}
    alone = make(dataset.with_features(completed))
    alone.load_state_dict(
        {name: value for name, value in joint.state_dict().items() if name in alone.state_dict()}
    )
    value, own = loss_and_gradients(alone, batch_of(dataset))
    torch.manual_seed(5)
    diffusion, reconstruction = joint.completion.losses()
    assert total == pytest.approx(value + diffusion.item() + 0.6 * reconstruction.item(), rel=1e-5)
    of_diffusion = {name for name in gradients if name.startswith("completion.")}
    assert of_diffusion
    assert gradients.keys() - of_diffusion == own.keys()
    for name, gradient in own.items():
        assert torch.allclose(gradients[name], gradient, atol=1e-7), name


def test_gaps_are_generated_anew_before_every_epoch_but_the_first() -> None:
    dataset = with_gaps()
    model = make(dataset, joint=True)
    tables = []
    for epoch in range(3):
        torch.manual_seed(9)
        model.before_epoch(epoch)
        tables.append({name: model.features.table(name).clone() for name in dataset.features})
    for name, table in dataset.features.items():
        there = torch.from_numpy(dataset.observed[name])
        for found in tables:
            assert torch.equal(found[name][there], torch.from_numpy(table)[there])
            assert found[name].isfinite().all()
        assert not torch.equal(tables[0][name], tables[1][name])
        assert not torch.equal(tables[0][name][~there], torch.from_numpy(table)[~there])
    # The first stage is the completion `diffusion`, made once.
    assert model.completion is not None
    rows = model.completion.diffusion.completed(dataset, lambda *_: None).rows
    for name in dataset.features:
        there = torch.from_numpy(dataset.observed[name])
        assert np.allclose(tables[0][name][~there], rows[name], atol=1e-5)


@pytest.mark.parametrize("settings", [{"joint": True}, {"modality_graph": "refreshed"}])
def test_what_was_generated_and_found_is_part_of_the_state(settings: dict[str, Any]) -> None:
    dataset = with_gaps()
    model = make(dataset, **settings)
    for epoch in range(2):
        model.before_epoch(epoch)
    other = make(dataset, **settings)
    before = other.representations()[1]
    other.load_state_dict(model.state_dict())
    for mine, theirs in zip(model.representations(), other.representations(), strict=True):
        assert torch.equal(mine, theirs)
    assert not torch.equal(before, other.representations()[1])
    assert (
        loss_and_gradients(model, batch_of(dataset))[0]
        == loss_and_gradients(other, batch_of(dataset))[0]
    )


def test_refreshed_graphs_hold_the_most_similar_new_item_of_each_user() -> None:
    dataset = with_gaps()
    model = make(dataset, modality_graph="refreshed")
    plain = make(dataset, modality_graph="interactions")
    plain.load_state_dict({n: v for n, v in model.state_dict().items() if n != "similar.items"})
    assert torch.equal(model.representations()[0], plain.representations()[0])
    model.before_epoch(0)
    assert model.similar is not None and model.similar.graphs() is None
    model.before_epoch(1)
    for position, (users, items) in enumerate(model._features()):
        scores = (users @ items.t()).detach().numpy()
        scores[dataset.train.users, dataset.train.items] = -np.inf
        assert model.similar.items[position, :, 0].tolist() == scores.argmax(axis=1).tolist()
    graphs = model.similar.graphs()
    assert graphs is not None and len(graphs) == 2
    to_users, to_items = graphs[0]
    chosen = model.similar.items[0, :, 0]
    # A user has one item, whose embedding it gets; an item's users are summed over their root.
    rows = torch.randn(dataset.item_count, 3)
    assert torch.allclose(to_users.multiply(rows), rows[chosen], atol=1e-6)
    rows = torch.randn(dataset.user_count, 3)
    fans = (chosen == chosen[0]).nonzero()[:, 0]
    expected = rows[fans].sum(dim=0) / len(fans) ** 0.5
    assert torch.allclose(to_items.multiply(rows)[chosen[0]], expected, atol=1e-6)
    assert torch.isfinite(model.loss(batch_of(dataset)))


def test_joint_training_needs_two_modalities() -> None:
    dataset = small_dataset()
    name = next(iter(dataset.features))
    with pytest.raises(InputError, match="MoDiCF, joint: completion diffusion needs 2 or more"):
        make(dataset.with_features({name: dataset.features[name]}), joint=True)
