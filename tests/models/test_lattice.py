from dataclasses import replace

import pytest
import torch

from mgstudy.models.lattice import LATTICE
from mgstudy.training.gradient.mirror_gradient import MirrorGradient
from mgstudy.training.gradient.plain import Plain
from mgstudy.training.gradient.sam import SAM
from mgstudy.training.gradient.sharpness_aware_mirror import SharpnessAwareMirror


def make_model(toy, **settings) -> LATTICE:
    parameters = LATTICE.Parameters(
        embedding_size=8,
        feature_size=8,
        neighbour_count=3,
        regularization=0.1,
        message_dropout=0.0,
        **settings,
    )
    return LATTICE(toy.dataset, parameters)


@pytest.mark.parametrize(
    ("backbone", "loss", "scores", "gradients"),
    [
        (
            "lightgcn",
            0.764673,
            "0.015240 -0.139099 0.121266 -0.356079 | 0.564955 -0.302042 0.320656 | "
            "-0.470235 -0.077537 0.134260",
            "0: 0.19255, 1: 0.18542, 2: 5.3219e-4, 4: 1.6138e-4, 8: 0.018841",
        ),
        (
            "ngcf",
            0.831464,
            "0.262345 0.435211 0.472649 0.003206 | 0.259861 -0.083069 0.308681 | "
            "0.475300 -0.026406 0.533846",
            "0: 0.13358, 1: 0.27762, 2: 1.5925e-3, 4: 4.1003e-4, 8: 0.019602, 10: 0.11047",
        ),
        (
            "mf",
            1.167129,
            "0.190424 -0.496453 0.597527 -1.085016 | 0.736347 -0.432603 0.266313 | "
            "-0.690228 -0.721649 0.644919",
            "0: 0.76145, 1: 0.52926, 2: 1.0555e-3, 4: 3.6521e-4, 8: 0.047883",
        ),
    ],
)
def test_agrees_with_the_specification(
    toy, backbone: str, loss: float, scores: str, gradients: str
) -> None:
    model = make_model(toy, backbone=backbone)
    tensors = {
        0: model.user_embedding,
        1: model.item_embedding,
        2: model.features.table("image"),
        3: model.features.table("text"),
        **toy.linear(4, model.projections["image"]),
        **toy.linear(6, model.projections["text"]),
        8: model.modality_logits,
    }
    for number, layer in enumerate(model.neural_layers):
        tensors |= toy.linear(9 + 4 * number, layer.neighbour_map)
        tensors |= toy.linear(11 + 4 * number, layer.interaction_map)
    toy.check(model, tensors, loss=loss, scores=scores, gradients=gradients)


def learned(model: LATTICE) -> list[torch.Tensor]:
    """The weights that the item graph is learned by."""
    return [
        model.modality_logits,
        *model.features.parameters(),
        *model.projections.parameters(),
    ]


def test_only_the_first_batch_of_an_epoch_trains_the_item_graph(toy) -> None:
    torch.manual_seed(0)
    model = make_model(toy)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    later = replace(toy.batch)
    for epoch in range(2):
        model.before_epoch(epoch)
        for batch, builds in ((toy.batch, True), (later, False), (later, False)):
            optimizer.zero_grad()
            model.loss(batch).backward()
            assert all((weight.grad is not None) == builds for weight in learned(model))
            assert model.item_embedding.grad is not None
            optimizer.step()


def train_first_batch(
    toy, strategy: type, optimizer: type, other: type = Plain, **settings
) -> list[LATTICE]:
    """Two copies of a model: one trained by another strategy's step on an epoch's first batch, one
    by the strategy's."""
    trained = []
    for kind in (other, strategy):
        torch.manual_seed(0)
        model = make_model(toy)
        model.before_epoch(0)
        driver = kind(optimizer(model.parameters(), lr=0.5, **settings), kind.Parameters())
        driver.start_epoch(0)
        driver.step(lambda model=model: model.loss(toy.batch))
        trained.append(model)
    return trained


@pytest.mark.parametrize("settings", [{}, {"fused": True}])
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_the_mirrored_half_of_a_step_leaves_the_item_graph_s_weights_alone(
    toy, optimizer: type, settings: dict[str, bool]
) -> None:
    plain, mirrored = train_first_batch(toy, MirrorGradient, optimizer, **settings)
    for one, other in zip(learned(plain), learned(mirrored), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(plain.item_embedding, mirrored.item_embedding)


def test_sharpness_aware_steps_train_the_item_graph_at_the_worst_point(toy) -> None:
    start = make_model(toy).modality_logits
    plain, sharpness_aware = train_first_batch(toy, SAM, torch.optim.SGD)
    assert not torch.equal(start, sharpness_aware.modality_logits)
    assert not torch.equal(plain.modality_logits, sharpness_aware.modality_logits)
    # What the epoch's other batches use is the graph at the weights it began with.
    for (_, one), (_, other) in zip(plain._item_graph, sharpness_aware._item_graph, strict=True):
        assert torch.equal(one, other)


def test_no_look_of_a_mirrored_half_trains_the_item_graph(toy) -> None:
    """Its first half is SAM's step; the second looks here and at the worst point nearby."""
    one_way, mirrored = train_first_batch(toy, SharpnessAwareMirror, torch.optim.SGD, SAM)
    for one, other in zip(learned(one_way), learned(mirrored), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(one_way.item_embedding, mirrored.item_embedding)


def test_passes_at_the_same_weights_all_train_the_item_graph(toy) -> None:
    model = make_model(toy)
    model.before_epoch(0)
    model.loss(toy.batch).backward()
    model.zero_grad()
    shift = torch.zeros(24, 1, requires_grad=True)
    with model.features.transformed(lambda modality, rows, items: rows * (1 + shift).exp()):
        model.loss(toy.batch).backward()
    assert all(weight.grad is not None for weight in learned(model))
    assert shift.grad is not None


def test_ranking_builds_the_graph_from_the_current_features_and_leaves_training_s_alone(
    toy,
) -> None:
    model = make_model(toy)
    model.loss(toy.batch)
    kept = model._item_graph
    with torch.no_grad():
        before = model.scorer()(torch.arange(12))
        model.features.table("image").mul_(torch.linspace(-2, 2, 10))
        assert not torch.allclose(model.scorer()(torch.arange(12)), before, atol=1e-4)
    assert model._item_graph is kept


def test_an_item_without_features_leaves_all_scores_finite(toy) -> None:
    model = make_model(toy)
    with torch.no_grad():
        model.features.table("image")[3] = 0
        model.projections["image"].bias.zero_()
    model.loss(toy.batch).backward()
    assert all(weight.grad.isfinite().all() for weight in learned(model))
    with torch.no_grad():
        assert model.scorer()(torch.arange(12)).isfinite().all()
