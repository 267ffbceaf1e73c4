"""DVIB against the numbers of its published code on the toy problem, and its parts by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mgstudy.config.training import TrainingSettings
from mgstudy.models.base import Recommender, models
from mgstudy.models.bm3 import BM3
from mgstudy.models.freedom import FREEDOM
from mgstudy.models.lattice import LATTICE
from mgstudy.models.vbpr import VBPR
from mgstudy.testing.datasets import with_two_domains
from mgstudy.training.robust.base import BatchContext, compose
from mgstudy.training.robust.dvib import DVIB, information, jensen_shannon, published_divergence
from mgstudy.training.robust.reach import first_batch
from mgstudy.training.run import build_model, build_trainer

MODELS = Path(__file__).parents[2] / "models"


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The toy problem of the models' tests, which are no package."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("models_conftest", MODELS / "conftest.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(__import__("sys").modules, "models_conftest", module)
    spec.loader.exec_module(module)
    made = module.toy.__wrapped__() if hasattr(module.toy, "__wrapped__") else module.toy()
    return module, made


def known_noise(shape: Any, q: int) -> Tensor:
    """sin(0.7 f + 1.9 q + 0.3), f flat over a row per item."""
    flat = torch.arange(shape[0] * shape[1], dtype=torch.float64)
    return torch.sin(0.7 * flat + 1.9 * q + 0.3).view(shape).float()


class WithKnownNoise(DVIB):
    """Noise that the specification's numbers were computed with."""

    items: Tensor

    def normal(self, hidden: Tensor, position: int, generator: torch.Generator) -> Tensor:
        shape = (self.model.dataset.item_count, hidden.shape[1])
        # Two modalities are numbered text first there, image first here.
        table = known_noise(shape, 0 if isinstance(self.model, VBPR) else 1 - position)
        return table if len(hidden) == len(table) else table[self.items[: len(hidden)]]


Loss = Callable[..., float]


@pytest.fixture
def loss_of(toy) -> Callable[..., tuple[Tensor, Recommender]]:
    module, problem = toy

    def compute(
        model: Recommender,
        tensors: dict[int, Tensor],
        nets: tuple[int, ...] | None = None,
        **settings: Any,
    ) -> Tensor:
        method = WithKnownNoise(model, DVIB.Parameters(noise=0.1, **settings))
        method.items = torch.cat([problem.batch.positives, problem.batch.negatives])
        for net_index, net in enumerate(method.nets):
            first = max(tensors) + 1 if nets is None else nets[net_index]
            for layer_index, layer in enumerate([net[0], net[2], net[4]]):
                module.fill(layer.weight, first + 2 * layer_index)
                module.fill(layer.bias, first + 2 * layer_index + 1)
        for index, tensor in tensors.items():
            module.fill(tensor, index)
        context = BatchContext(problem.batch, epoch=0)
        wrapped = compose([method], lambda: model.loss(problem.batch), context)
        model.train()
        return wrapped()

    return compute


def vbpr(toy) -> tuple[VBPR, dict[int, Tensor]]:
    model = VBPR(toy.dataset, VBPR.Parameters(embedding_size=8, regularization=0.1))
    linear = {2: model.projection.weight, 3: model.projection.bias}
    return model, {0: model.user_embedding, 1: model.item_embedding, **linear}


@pytest.mark.parametrize(
    ("settings", "published", "corrected"),
    [
        ({}, 2.226272, 2.101098),
        ({"weight": 1.0}, 1.252320, 0.000586024),
        ({"form": "adaptive"}, 2.248074, 2.129253),
    ],
)
def test_vbpr_agrees_with_the_published_code(
    settings: dict[str, Any], published: float, corrected: float, loss_of, toy
) -> None:
    given = {"weight": 0.1, "compare": "scores", **settings}
    for divergence, expected in (("published", published), ("jensen_shannon", corrected)):
        model, tensors = vbpr(toy[1])
        value = loss_of(model, tensors, divergence=divergence, **given)
        assert value.item() == pytest.approx(expected, abs=2e-6), divergence


def test_gradients_of_vbpr_are_the_published_ones(loss_of, toy) -> None:
    model, tensors = vbpr(toy[1])
    loss_of(model, tensors, weight=0.1, compare="scores", divergence="published").backward()
    norms = [tensors[index].grad.norm().item() for index in range(4)]
    assert norms == pytest.approx([2.6872, 0.49000, 1.4904, 0.064822], rel=1e-4)
    model, tensors = vbpr(toy[1])
    adaptive = {"weight": 0.1, "compare": "scores", "form": "adaptive"}
    loss_of(model, tensors, divergence="published", **adaptive).backward()
    norms = [tensors[index].grad.norm().item() for index in range(4)]
    assert norms == pytest.approx([2.6888, 0.49071, 1.4865, 0.064498], rel=1e-4)
    net = model.dvib_nets[0]
    norms = [net[layer].weight.grad.norm().item() for layer in (0, 2, 4)]
    assert norms == pytest.approx([0.090461, 0.36717, 0.36291], rel=1e-4)


def test_without_noise_the_divergence_is_0_and_the_published_one_is_not(toy, loss_of) -> None:
    for divergence, expected in (("jensen_shannon", 0.0), ("published", 1.262052)):
        model, tensors = vbpr(toy[1])
        method = WithKnownNoise(
            model,
            DVIB.Parameters(noise=0.0, weight=1.0, compare="scores", divergence=divergence),
        )
        method.items = torch.cat([toy[1].batch.positives, toy[1].batch.negatives])
        for index, tensor in tensors.items():
            toy[0].fill(tensor, index)
        context = BatchContext(toy[1].batch, epoch=0)
        value = method.wrap(lambda model=model: model.loss(toy[1].batch), context)()
        assert value.item() == pytest.approx(expected, abs=2e-6)


def multimodal(kind: Any, toy: Any, **settings: Any) -> tuple[Any, dict[int, Tensor]]:
    """FREEDOM or BM3 of the specification, with the weight of its feature terms doubled."""
    given = {"embedding_size": 8, "layers": 2, "dropout": 0.0, **settings}
    model = kind(toy.dataset, kind.Parameters(**given))
    projections = [model.projections[name] for name in ("image", "text")]
    tensors = [model.user_embedding, model.item_embedding]
    tensors += [model.features.table(name) for name in ("image", "text")]
    tensors += [of for layer in projections for of in (layer.weight, layer.bias)]
    return model, dict(enumerate(tensors))


def branches(model: Any, items: Tensor) -> list[tuple[Tensor, Tensor]]:
    """h and h̃ of these items, by modality, image first."""
    pairs = []
    for position, modality in enumerate(("image", "text")):
        hidden = model.projections[modality](model.features.table(modality))
        size = size_of(model, position, hidden)
        pairs.append((hidden, hidden + size * known_noise(hidden.shape, 1 - position)))
    return [(one[items], other[items]) for one, other in pairs]


def size_of(model: Any, position: int, hidden: Tensor) -> Tensor | float:
    """The size of the noise: of the adaptive form where the model has nets."""
    nets = getattr(model, "dvib_nets", None)
    return 0.1 if nets is None else torch.sigmoid(nets[position](hidden))


def bottleneck(model: Any, items: Tensor) -> Tensor:
    """What the adaptive form adds for these items."""
    total = torch.zeros(())
    for position, (hidden, _) in enumerate(branches(model, items)):
        total = total + information(hidden, size_of(model, position, hidden))
    return 0.001 * total


def test_freedom_with_half_the_scale_and_twice_its_weight_is_the_published_loss(
    toy, loss_of
) -> None:
    """Save for the items that are compared: all there, the batch's here."""
    problem = toy[1]
    model, tensors = multimodal(FREEDOM, problem, regularization=0.2, neighbour_count=3)
    value = loss_of(model, tensors, weight=0.1, scale=0.5)
    batch = torch.cat([problem.batch.positives, problem.batch.negatives])
    of_batch = sum(jensen_shannon(*pair) for pair in branches(model, batch))
    of_all = sum(jensen_shannon(*pair) for pair in branches(model, torch.arange(24)))
    assert of_all.item() == pytest.approx(0.00117607, rel=1e-4)
    assert (value + 0.1 * (of_all - of_batch)).item() == pytest.approx(0.810331, abs=2e-6)
    as_executed = sum(published_divergence(*pair) for pair in branches(model, torch.arange(24)))
    assert as_executed.item() == pytest.approx(0.192796, abs=2e-6)


def test_bm3_with_half_the_scale_and_twice_its_weight_is_the_published_loss(toy, loss_of) -> None:
    """Save for what is compared: the predictions and targets there, the projections here."""
    problem = toy[1]
    model, tensors = multimodal(BM3, problem, regularization=0.1, modality_weight=4.0)
    tensors |= {8: model.predictor.weight, 9: model.predictor.bias}
    value = loss_of(model, tensors, weight=0.1, scale=0.5)
    pairs = branches(model, problem.batch.positives)
    here = sum(jensen_shannon(*pair) for pair in pairs)
    there = sum(jensen_shannon(*map(model.predictor, pair)) for pair in pairs) + here
    assert (value + 0.1 * (there - here)).item() == pytest.approx(17.558961, abs=2e-5)


def test_adaptive_freedom_is_the_published_loss(toy, loss_of) -> None:
    """Save for the items that are compared and held to the prior: all there, the batch's here."""
    problem = toy[1]
    model, tensors = multimodal(FREEDOM, problem, regularization=0.2, neighbour_count=3)
    value = loss_of(model, tensors, nets=(14, 8), weight=0.1, scale=0.5, form="adaptive")
    batch = torch.cat([problem.batch.positives, problem.batch.negatives])
    for items, sign in ((torch.arange(24), 1), (batch, -1)):
        compared = sum(jensen_shannon(*pair) for pair in branches(model, items))
        value = value + sign * (0.1 * compared + bottleneck(model, items))
    assert value.item() == pytest.approx(0.807810, abs=2e-6)


def test_adaptive_bm3_is_the_published_loss(toy, loss_of) -> None:
    """Save for what is compared, and for the items that are held to the prior: all there."""
    problem = toy[1]
    model, tensors = multimodal(BM3, problem, regularization=0.1, modality_weight=4.0)
    tensors |= {8: model.predictor.weight, 9: model.predictor.bias}
    value = loss_of(model, tensors, nets=(10, 10), weight=0.1, scale=0.5, form="adaptive")
    positives = problem.batch.positives
    predicted = sum(
        jensen_shannon(*map(model.predictor, pair)) for pair in branches(model, positives)
    )
    others = bottleneck(model, torch.arange(24)) - bottleneck(model, positives)
    assert (value + 0.1 * predicted + others).item() == pytest.approx(17.419963, abs=2e-5)


def test_divergences_by_hand() -> None:
    one = torch.tensor([[0.0, 0.0]], dtype=torch.float64)
    other = torch.log(torch.tensor([[0.8, 0.2]], dtype=torch.float64))
    a, b = np.array([0.5, 0.5]), np.array([0.8, 0.2])
    m = (a + b) / 2
    expected = 0.5 * ((a * np.log(a / m)).sum() + (b * np.log(b / m)).sum())
    assert jensen_shannon(one, other).item() == pytest.approx(expected)
    assert jensen_shannon(other, other).item() == pytest.approx(0, abs=1e-15)
    again = [np.exp(p) / np.exp(p).sum() for p in (a, b)]
    expected = 0.5 * (m * (2 * np.log(m) - np.log(again[0]) - np.log(again[1]))).sum()
    assert published_divergence(one, other).item() == pytest.approx(expected)


def test_the_published_divergence_is_finite_where_both_probabilities_are_rounded_to_0() -> None:
    one, other = (torch.tensor([[0.0, 200.0]], requires_grad=True) for _ in range(2))
    value = published_divergence(one, other)
    value.backward()
    # All of the mean is in one class, which the second softmax gives 1 / (1 + 1 / e).
    assert value.item() == pytest.approx(math.log(1 + math.exp(-1)), rel=1e-6)
    assert one.grad.isfinite().all() and other.grad.isfinite().all()


def test_information_is_the_divergence_of_two_gaussians() -> None:
    hidden, deviation = torch.tensor([[0.3, -1.0]]), torch.tensor([[0.2]])
    exact = torch.distributions.kl_divergence(
        torch.distributions.Normal(hidden, deviation), torch.distributions.Normal(0.0, 0.5)
    )
    assert information(hidden, deviation).item() == pytest.approx(exact.mean().item(), rel=1e-6)


@pytest.mark.parametrize("gradient", ["plain", "mirror_gradient"])
@pytest.mark.parametrize("model", ["BM3", "LATTICE"])
def test_nets_are_trained_and_kept_with_the_model(small_dataset, model, gradient) -> None:
    """LATTICE projects nothing after the first batch, nor in the mirrored half of that one."""
    parts = {"model": model, "robust": [("dvib", {"form": "adaptive"})]}
    settings = TrainingSettings(epochs=2, batch_size=128)
    trainer = build_trainer(small_dataset, gradient=gradient, settings=settings, **parts)
    before = [weight.detach().clone() for weight in trainer.model.dvib_nets.parameters()]
    assert len(trainer.model.dvib_nets) == 2
    assert all(math.isfinite(result.loss) for result in trainer.epochs())
    after = list(trainer.model.dvib_nets.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(after, before, strict=True))
    alone = build_model(small_dataset, **parts)
    alone.load_state_dict(trainer.model.state_dict())


@pytest.mark.parametrize("compare", ["projection", "scores"])
def test_lattice_is_distilled_where_it_builds_its_item_graph(toy, compare: str) -> None:
    problem = toy[1]
    model = LATTICE(problem.dataset, LATTICE.Parameters(neighbour_count=3, message_dropout=0.0))
    method = DVIB(model, DVIB.Parameters(form="adaptive", compare=compare))
    model.before_epoch(0)
    distilled, doubled = [], []
    for batch in (problem.batch, replace(problem.batch)):
        value = method.wrap(lambda batch=batch: model.loss(batch), BatchContext(batch, epoch=0))()
        distilled.append(value.item())
        doubled.append(2 * 0.9 * model.loss(batch).item())
    assert distilled[0] != pytest.approx(doubled[0])
    assert (distilled[1] == pytest.approx(doubled[1])) == (compare == "projection")


@pytest.mark.parametrize("name", [model.name for model in models if DVIB.refusal(model) is None])
def test_looking_for_projections_leaves_nothing_in_a_model(name: str, small_dataset) -> None:
    kind = models.get(name)
    dataset = with_two_domains(small_dataset)
    losses = []
    for methods in ((), [("dvib", {"form": "adaptive"})]):
        torch.manual_seed(0)
        parts = {"model": name, "model_parameters": kind.tried_with, "robust": methods}
        model = build_model(dataset, **parts)
        # As where trained weights are loaded: what follows from those it was built with is stale.
        torch.manual_seed(1)
        with torch.no_grad():
            for key, weight in model.named_parameters():
                if weight.requires_grad and "dvib_nets" not in key:
                    weight.add_(0.1 * torch.randn_like(weight))
            losses.append(model.loss(first_batch(model)).item())
    assert losses[0] == losses[1]
