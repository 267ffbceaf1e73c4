"""Adversarial features and embeddings: the direction, its length, and the loss they make."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mgstudy.training.gradient.mirror_gradient import MirrorGradient
from mgstudy.training.robust.adversarial_features import fast_gradient
from mgstudy.training.robust.reach import embedding_tables

EPSILON, WEIGHT = 0.3, 0.7
SETTINGS = {"epsilon": EPSILON, "weight": WEIGHT, "warmup_epochs": 0}


def feature_gradients(vbpr: Any) -> dict[str, Tensor]:
    """The loss's gradient in the whole tables, through a dense read of them."""
    features = vbpr.model.features
    tables = {
        modality: features.table(modality).clone().requires_grad_()
        for modality in features.modalities
    }

    def dense(modality: str, rows: Tensor, items: Tensor | None) -> Tensor:
        return tables[modality] if items is None else tables[modality][items]

    with features.transformed(dense):
        gradients = torch.autograd.grad(vbpr.loss(), list(tables.values()))
    return dict(zip(tables, gradients, strict=True))


def test_the_adversary_follows_each_items_whole_gradient(vbpr: Any) -> None:
    adversary = fast_gradient(vbpr.model.features, vbpr.loss, EPSILON)
    assert adversary is not None
    for modality, gradient in feature_gradients(vbpr).items():
        moved = adversary(modality, torch.zeros_like(gradient), None)
        torch.testing.assert_close(moved, EPSILON * functional.normalize(gradient))
        lengths = moved.norm(dim=1)
        in_batch = torch.cat([vbpr.batch.positives, vbpr.batch.negatives]).unique()
        torch.testing.assert_close(lengths[in_batch], torch.full((len(in_batch),), EPSILON))
        assert lengths.count_nonzero() == len(in_batch) < len(lengths)
        items = torch.tensor([3, 0, 3])
        torch.testing.assert_close(
            adversary(modality, gradient[items], items), gradient[items] + moved[items]
        )


def test_the_adversary_raises_the_loss_more_than_any_random_change(vbpr: Any) -> None:
    features = vbpr.model.features

    def loss_with(transform: Callable[..., Tensor]) -> float:
        with torch.no_grad(), features.transformed(transform):
            return vbpr.loss().item()

    adversary = fast_gradient(features, vbpr.loss, epsilon=0.05)
    assert adversary is not None
    clean = vbpr.loss().item()
    raised = loss_with(adversary) - clean
    assert raised > 0.01
    assert loss_with(lambda m, rows, items: 2 * rows - adversary(m, rows, items)) < clean
    for seed in range(20):
        torch.manual_seed(seed)
        moves = {
            modality: 0.05 * functional.normalize(torch.randn_like(features.table(modality)))
            for modality in features.modalities
        }
        assert loss_with(lambda m, rows, items: rows + moves[m][items]) - clean < raised / 2  # noqa: B023


def test_adversarial_features_add_the_loss_on_changed_features(vbpr: Any) -> None:
    features = vbpr.model.features
    moves = {
        modality: EPSILON * functional.normalize(gradient)
        for modality, gradient in feature_gradients(vbpr).items()
    }

    def expected() -> Tensor:
        clean = vbpr.loss()
        with features.transformed(lambda m, rows, items: rows + moves[m][items]):
            return clean + WEIGHT * vbpr.loss()

    robust = vbpr.robust_loss(vbpr.method("adversarial_features", **SETTINGS))
    torch.testing.assert_close(robust(), expected())
    actual = vbpr.gradients(robust)
    torch.testing.assert_close(actual, vbpr.gradients(expected))


def test_trained_feature_tables_learn_from_both_losses(make_problem: Any) -> None:
    problem = make_problem("FREEDOM", embedding_size=4)
    with torch.no_grad():
        for weight in problem.model.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    robust = problem.robust_loss(problem.method("adversarial_features", **SETTINGS))
    clean, both = problem.gradients(problem.loss), problem.gradients(robust)
    name = "features.table_image"
    assert both[name].norm() > (1 + WEIGHT / 2) * clean[name].norm() > 0


def test_adversarial_embeddings_add_the_loss_at_changed_embeddings(vbpr: Any) -> None:
    clean = vbpr.gradients(vbpr.loss)
    moved = copy.deepcopy(vbpr.model)
    tables = embedding_tables(moved)
    assert set(tables) == {"user_embedding", "item_embedding"}
    with torch.no_grad():
        for name, table in tables.items():
            table.add_(EPSILON * functional.normalize(clean[name]))
    moved.zero_grad()
    adversarial = moved.loss(vbpr.batch)
    adversarial.backward()
    assert adversarial > vbpr.loss() + 0.1

    before = copy.deepcopy(vbpr.model.state_dict())
    robust = vbpr.robust_loss(vbpr.method("adversarial_embeddings", **SETTINGS))
    torch.testing.assert_close(robust(), vbpr.loss() + WEIGHT * adversarial)
    actual = vbpr.gradients(robust)
    for name, weight in moved.named_parameters():
        assert weight.grad is not None
        torch.testing.assert_close(actual[name], clean[name] + WEIGHT * weight.grad)
    for name, value in vbpr.model.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("name", ["adversarial_features", "adversarial_embeddings"])
def test_training_is_ordinary_until_the_warm_up_is_over(vbpr: Any, name: str) -> None:
    method = vbpr.method(name, warmup_epochs=3)
    assert vbpr.robust_loss(method, epoch=2) == vbpr.loss
    assert vbpr.robust_loss(method, epoch=3)() > vbpr.loss() + 0.01


@pytest.mark.parametrize("name", ["adversarial_features", "adversarial_embeddings"])
def test_both_passes_of_a_mirrored_batch_meet_an_adversary_of_their_own(
    vbpr: Any, name: str
) -> None:
    robust = vbpr.robust_loss(vbpr.method(name, **SETTINGS))
    seen: list[tuple[Tensor, Any]] = []

    def note() -> Tensor:
        value = robust()
        seen.append((value.detach(), copy.deepcopy(vbpr.model.state_dict())))
        return value

    MirrorGradient(torch.optim.SGD(vbpr.model.parameters(), lr=5.0)).step(note)
    assert len(seen) == 2 and not torch.isclose(seen[0][0], seen[1][0])
    for value, weights in seen:
        vbpr.model.load_state_dict(weights)
        torch.testing.assert_close(robust().detach(), value)


def test_a_loss_that_reads_no_features_is_left_as_it_is(make_problem: Any) -> None:
    problem = make_problem("FREEDOM", regularization=0.0)
    robust = problem.robust_loss(problem.method("adversarial_features", **SETTINGS))
    assert torch.equal(robust(), problem.loss())
    assert torch.equal(
        problem.gradients(robust)["item_embedding"],
        problem.gradients(problem.loss)["item_embedding"],
    )
