"""Attacks raise the loss they follow, inside their box."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from mgstudy.data.dataset import Dataset
from mgstudy.robustness.attack import FeatureAttack
from mgstudy.robustness.risks.base import make_risk, spread
from mgstudy.robustness.trained_model import ChangedFeatures, TrainedModel


def loss_on(trained: TrainedModel, attack: FeatureAttack, tables: dict[str, np.ndarray]) -> float:
    features = trained.model.features
    transform = ChangedFeatures(features, trained.dataset.features, tables)
    with torch.no_grad(), features.transformed(transform):
        return attack.loss().item()


@pytest.mark.parametrize("model", ["VBPR", "MGCN"])
def test_more_steps_raise_the_loss_more_than_one_and_one_more_than_noise(
    model: str, train: Callable[..., TrainedModel], small_dataset: Dataset
) -> None:
    trained = train(model, epochs=1)
    attack = FeatureAttack(
        trained.model, small_dataset, tuple(small_dataset.features), np.random.default_rng(0)
    )
    severity = 0.25
    changed = {
        name: make_risk(name).tables(small_dataset, severity, seed=0, model=trained.model)
        for name in ("gaussian_noise", "fgsm", "pgd")
    }
    losses = {name: loss_on(trained, attack, tables) for name, tables in changed.items()}
    clean = loss_on(trained, attack, dict(small_dataset.features))
    assert clean < losses["fgsm"]
    assert losses["gaussian_noise"] < losses["fgsm"]
    # The loss is nearly linear in so small a box: more steps find the same corner, or a better one.
    assert losses["pgd"] > 0.98 * losses["fgsm"]
    for name in ("fgsm", "pgd"):
        for modality, table in small_dataset.features.items():
            moved = np.abs(changed[name][modality] - table).max()
            assert 0 < moved <= severity * spread(table) * 1.001


def test_the_gradient_of_vbpr_is_the_one_by_hand(
    train: Callable[..., TrainedModel], small_dataset: Dataset
) -> None:
    """One training pair: the loss falls with s_p - s_n, whose gradient in x_p is W^T u, in x_n its
    opposite, and in all other items nothing."""
    trained = train("VBPR")
    model = trained.model
    attack = FeatureAttack(model, small_dataset, ("image",), np.random.default_rng(0))
    attack._columns = [torch.tensor([3]), torch.tensor([5]), torch.tensor([9])]
    moved = attack.steepest(1.0)["image"] - small_dataset.features["image"]
    parameters = dict(model.named_parameters())
    user = parameters["user_embedding"][3, 64:]
    assert model.modalities == ["text", "image"]
    weight = parameters["projection.weight"][:, 6:]
    direction = torch.sign(user @ weight).detach().numpy() * spread(small_dataset.features["image"])
    np.testing.assert_allclose(moved[5], -direction, rtol=1e-5)
    np.testing.assert_allclose(moved[9], direction, rtol=1e-5)
    others = [item for item in range(40) if item not in (5, 9)]
    assert not moved[others].any()


def test_what_no_loss_reads_is_left_alone_and_a_surrogate_reaches_a_graph(
    train: Callable[..., TrainedModel], small_dataset: Dataset
) -> None:
    for name, reached in (("BPR", False), ("ItemKNNCBF", False), ("FREEDOM", True)):
        model = train(name, epochs=1).model
        for risk in ("fgsm", "pgd"):
            tables = make_risk(risk).tables(small_dataset, 0.5, seed=0, model=model)
            same = all(np.array_equal(tables[m], t) for m, t in small_dataset.features.items())
            assert same is not reached, (name, risk)
