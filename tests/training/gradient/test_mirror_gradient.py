"""Mirror Gradient against the specification's vectors and against trajectories by hand."""

from __future__ import annotations

import copy
import doctest
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor, nn

from mgstudy.data.dataset import Dataset, Interactions
from mgstudy.errors import InputError
from mgstudy.models.base import Batch
from mgstudy.models.bpr import BPR
from mgstudy.training.gradient import mirror_gradient
from mgstudy.training.gradient.base import GradientStrategy
from mgstudy.training.gradient.mirror_gradient import MirrorGradient
from mgstudy.training.gradient.plain import Plain
from mgstudy.training.gradient.sharpness_aware_mirror import SharpnessAwareMirror
from mgstudy.training.optimizers.base import optimizers

VARIANTS = ("loss_scaled", "update_scaled")
Vector = NDArray[np.float64]


# The published code, on the specification's toy problem (MF with BPR, one batch four times).


def toy_bpr() -> tuple[BPR, Batch]:
    pairs = [
        (u, i)
        for u in range(12)
        for i in range(23)
        if (4 * (u + 1) * (i + 2) + 9 * u + i * i) % 13 < 3
    ]
    train = Interactions(*(np.array(column) for column in zip(*pairs, strict=True)))
    assert len(train) == 59
    dataset = Dataset.from_arrays("toy", 12, 24, train, train, train, {})
    model = BPR(dataset, BPR.Parameters(embedding_size=8, regularization=0.1))
    for index, table in enumerate((model.user_embedding, model.item_embedding)):
        flat = np.arange(table.numel())
        values = 0.4 * np.sin(0.37 * flat + 1.7 * index + 0.5) + 0.2 * np.cos(
            1.13 * flat + 0.6 * index
        )
        table.data = torch.tensor(values, dtype=torch.float32).view(table.shape)
    batch = Batch(
        users=torch.tensor([0, 2, 5, 7, 0]),
        positives=torch.tensor([1, 10, 0, 22, 21]),
        negatives=torch.tensor([6, 5, 23, 0, 9]),
        nominal_size=8,
    )
    return model, batch


ADAM, SGD = ("adam", {"learning_rate": 0.01}), ("sgd", {"learning_rate": 0.5})


@pytest.mark.parametrize(
    ("optimizer", "clip_norm", "strategy", "loss", "user_0", "item_21"),
    [
        (ADAM, None, Plain, 3.168919, "0.351965 0.351270 0.211879", "0.366414 0.219009 0.249034"),
        (
            ADAM,
            None,
            MirrorGradient,
            3.145485,
            "0.345626 0.344934 0.205770",
            "0.372748 0.225349 0.255339",
        ),
        (SGD, None, Plain, 2.956298, "0.231545 0.246104 0.218779", "0.359509 0.215781 0.233696"),
        (
            SGD,
            None,
            MirrorGradient,
            2.987022,
            "0.241838 0.254977 0.218831",
            "0.357574 0.213374 0.231654",
        ),
        (SGD, 0.05, Plain, 3.284227, "0.366110 0.367446 0.244098", "0.331972 0.184941 0.212821"),
        (
            SGD,
            0.05,
            MirrorGradient,
            3.119862,
            "0.297890 0.304981 0.226888",
            "0.346170 0.200332 0.222399",
        ),
    ],
)
def test_published_numbers(
    optimizer: tuple[str, dict[str, float]],
    clip_norm: float | None,
    strategy: type[GradientStrategy],
    loss: float,
    user_0: str,
    item_21: str,
) -> None:
    _check_numbers(
        lambda model: drive(strategy, model.parameters(), *optimizer, clip_norm=clip_norm),
        loss,
        user_0,
        item_21,
    )


@pytest.mark.parametrize(
    ("sharpness", "loss", "user_0", "item_21", "passes"),
    [
        (None, 2.987022, "0.241838 0.254977 0.218831", "0.357574 0.213374 0.231654", 4 / 3),
        ("mirrored", 2.983040, "0.239230 0.252420 0.217386", "0.358211 0.213961 0.231832", 2),
        ("descent", 2.982223, "0.238687 0.251889 0.217094", "0.358358 0.214096 0.231869", 5 / 3),
        ("ascent", 2.987852, "0.242388 0.255514 0.219128", "0.357427 0.213238 0.231617", 5 / 3),
        (
            "every_batch",
            2.979137,
            "0.236068 0.249320 0.215635",
            "0.359007 0.214693 0.232045",
            8 / 3,
        ),
    ],
)
def test_readings_of_sharpness_aware_mirror_gradient_are_pinned(
    sharpness: str | None, loss: float, user_0: str, item_21: str, passes: float
) -> None:
    """No source says which reading is the published one; the numbers are an independent
    computation of each."""
    settings = {"rho": 0.0} if sharpness is None else {"rho": 0.05, "sharpness": sharpness}
    _check_numbers(
        lambda model: drive(SharpnessAwareMirror, model.parameters(), *SGD, **settings),
        loss,
        user_0,
        item_21,
    )
    parameters = SharpnessAwareMirror.Parameters(**settings)
    assert SharpnessAwareMirror.computations_per_batch(parameters) == pytest.approx(passes)


def _check_numbers(
    make: Callable[[BPR], GradientStrategy], loss: float, user_0: str, item_21: str
) -> None:
    model, batch = toy_bpr()
    driven = make(model)
    driven.start_epoch(0)
    total = sum(driven.step(lambda: model.loss(batch)).item() for _ in range(4))
    assert total == pytest.approx(loss, abs=1e-6)
    for row, expected in ((model.user_embedding[0], user_0), (model.item_embedding[21], item_21)):
        assert row[:3].tolist() == pytest.approx([float(x) for x in expected.split()], abs=1e-6)


def test_adam_counts_both_steps_of_a_mirrored_batch() -> None:
    model, batch = toy_bpr()
    mirror = drive(MirrorGradient, model.parameters(), *ADAM)
    for _ in range(4):
        mirror.step(lambda: model.loss(batch))
    assert [state["step"].item() for state in mirror.optimizer.state.values()] == [6, 6]


# Every optimizer and variant, against the definitions written out in NumPy.


def by_hand(
    gradient: Callable[[Vector], Vector], weight: Vector, optimizer: Any, variant: str, batches: int
) -> Vector:
    for batch in range(batches):
        if batch % 3 != 0:
            weight = weight + optimizer.displacement(weight, gradient(weight))
        elif variant == "loss_scaled":
            weight = weight + optimizer.displacement(weight, 1.2 * gradient(weight))
            weight = weight + optimizer.displacement(weight, -0.3 * gradient(weight))
        else:
            weight = weight + 1.2 * optimizer.displacement(weight, gradient(weight))
            weight = weight - 0.3 * optimizer.displacement(weight, gradient(weight))
    return weight


@pytest.mark.parametrize("variant", VARIANTS)
def test_trajectory_of_every_optimizer(problem: Any, optimizer_case: Any, variant: str) -> None:
    weight = problem.start()
    start = weight.detach().numpy().copy()
    mirror = drive(
        MirrorGradient,
        [weight],
        optimizer_case.name,
        optimizer_case.settings,
        variant=variant,
        alpha1=1.2,
        alpha2=0.3,
    )
    for _ in range(8):
        mirror.step(lambda: problem.loss(weight))
    expected = by_hand(problem.gradient, start, optimizer_case.by_hand(), variant, batches=8)
    np.testing.assert_allclose(weight.detach().numpy(), expected, rtol=0, atol=1e-6)
    assert np.abs(expected - start).max() > 1e-2


# What the variants promise.


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_variants_agree_for_sgd_without_momentum_only(
    logistic_problem: Any, momentum: float
) -> None:
    ends = []
    for variant in VARIANTS:
        weight = logistic_problem.start()
        mirror = drive(
            MirrorGradient,
            [weight],
            "sgd",
            {"learning_rate": 0.05, "momentum": momentum},
            variant=variant,
        )
        for _ in range(7):
            mirror.step(lambda: logistic_problem.loss(weight))  # noqa: B023
        ends.append(weight.detach())
    difference = (ends[0] - ends[1]).abs().max().item()
    assert difference < 1e-14 if momentum == 0 else difference > 1e-3, difference


def test_under_adam_only_update_scaled_goes_back(logistic_problem: Any) -> None:
    for variant, back in (("loss_scaled", False), ("update_scaled", True)):
        weight = logistic_problem.start()
        mirror = drive(MirrorGradient, [weight], *ADAM, variant=variant, interval=1)
        path = []

        def loss() -> Tensor:
            path.append(weight.detach().clone())  # noqa: B023
            return logistic_problem.loss(weight)  # noqa: B023

        mirror.step(loss)
        path.append(weight.detach().clone())
        down, second = path[1] - path[0], path[2] - path[1]
        assert (torch.dot(down, second).item() < 0) is back


@pytest.mark.parametrize("variant", VARIANTS)
def test_without_a_way_back_it_is_plain_training_to_the_bit(variant: str) -> None:
    ends = []
    for strategy, settings in ((Plain, {}), (MirrorGradient, {"variant": variant, "alpha2": 0.0})):
        model, batch = toy_bpr()
        driven = drive(strategy, model.parameters(), *SGD, **settings)
        for _ in range(5):
            driven.step(lambda: model.loss(batch))  # noqa: B023
        ends.append(model.state_dict())
    for name, value in ends[0].items():
        assert torch.equal(value, ends[1][name])


def test_update_scaled_clips_both_halves() -> None:
    weight = nn.Parameter(torch.tensor([0.0]))
    settings = {"variant": "update_scaled", "alpha2": 0.5}
    mirror = drive(
        MirrorGradient, [weight], "sgd", {"learning_rate": 1.0}, clip_norm=0.1, **settings
    )
    mirror.step(lambda: 100 * weight.sum())
    assert weight.item() == pytest.approx(-0.1 + 0.5 * 0.1, rel=1e-5)


@pytest.mark.parametrize(
    ("counted", "mirrored"),
    [("per_epoch", [0, 2, 4, 5, 7, 9]), ("whole_run", [1, 3, 5, 7, 9])],
)
def test_which_batches_are_mirrored(counted: str, mirrored: list[int]) -> None:
    weight = nn.Parameter(torch.tensor([1.0]))
    mirror = drive(MirrorGradient, [weight], *SGD, interval=2, counted=counted)
    computed = []
    for batch in range(10):
        if batch % 5 == 0:
            mirror.start_epoch(batch // 5)
        mirror.step(lambda batch=batch: computed.append(batch) or weight.square().sum())
    assert [batch for batch in range(10) if computed.count(batch) == 2] == mirrored
    assert len(computed) == 10 + len(mirrored)


@pytest.mark.parametrize("variant", VARIANTS)
def test_continues_to_the_bit_from_its_state(logistic_problem: Any, variant: str) -> None:
    def started() -> tuple[nn.Parameter, GradientStrategy]:
        weight = logistic_problem.start()
        settings = {"variant": variant, "counted": "whole_run"}
        return weight, drive(MirrorGradient, [weight], *ADAM, **settings)

    weight, mirror = started()
    for batch in range(10):
        if batch == 5:
            saved = copy.deepcopy(
                (weight.detach(), mirror.optimizer.state_dict(), mirror.state_dict())
            )
        mirror.step(lambda: logistic_problem.loss(weight))
    again, other = started()
    again.data.copy_(saved[0])
    other.optimizer.load_state_dict(saved[1])
    other.load_state_dict(saved[2])
    for _ in range(5):
        other.step(lambda: logistic_problem.loss(again))
    assert torch.equal(weight, again)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_mirrored_loss_that_is_not_finite_shows_in_the_result(variant: str) -> None:
    weight = nn.Parameter(torch.tensor([1.0]))
    mirror = drive(MirrorGradient, [weight], *SGD, variant=variant)
    values = iter([1.0, float("inf")])
    assert mirror.step(lambda: next(values) * weight.sum()).isnan()


def test_refuses_to_go_back_further_than_it_came() -> None:
    with pytest.raises(ValidationError, match=r"alpha2 \(0.5\) must be below alpha1 \(0.5\)"):
        MirrorGradient.Parameters(alpha1=0.5, alpha2=0.5)


def test_takes_its_settings_by_name_and_says_what_is_wrong_with_one() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    made = MirrorGradient(optimizer, interval=3, alpha2=0.1)
    assert made.parameters == MirrorGradient.Parameters(interval=3, alpha2=0.1)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"intervall": 3}, r"intervall: unknown key; did you mean 'interval'\?"),
        ({"interval": 1.5}, "interval: input should be a valid integer, got 1.5"),
        ({"alpha2": 3.0}, r"alpha2 \(3\) must be below alpha1 \(1\)"),
    ]
    for settings, told in wrong:
        with pytest.raises(InputError, match=f"^gradient strategy mirror_gradient: {told}"):
            MirrorGradient(optimizer, **settings)
    with pytest.raises(InputError, match="give either parameters or interval"):
        MirrorGradient(optimizer, MirrorGradient.Parameters(), interval=3)


def test_the_example_in_the_documentation() -> None:
    assert doctest.testmod(mirror_gradient).failed == 0
    assert doctest.testmod(mirror_gradient).attempted > 5


def drive(
    strategy: type[GradientStrategy],
    weights: Any,
    optimizer: str,
    optimizer_settings: dict[str, float],
    *,
    clip_norm: float | None = None,
    **settings: Any,
) -> GradientStrategy:
    part = optimizers.get(optimizer)
    return strategy(
        part(part.Parameters(**optimizer_settings)).build(weights),
        strategy.Parameters(**settings),
        clip_norm=clip_norm,
    )
