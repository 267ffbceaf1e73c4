"""Every strategy, under every optimizer, against its definition written out in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mgstudy.training.gradient.base import GradientStrategy, gradient_strategies
from mgstudy.training.optimizers.base import optimizers

BATCHES = 8
RHO, ETA, BALANCE, ALPHA1, ALPHA2, INTERVAL, DECAY = 0.3, 0.05, 0.6, 1.2, 0.3, 3, 0.8
MIRROR = {"alpha1": ALPHA1, "alpha2": ALPHA2, "interval": INTERVAL}
UPDATE_SCALED = {"variant": "update_scaled"}


def build(
    name: str,
    weights: list[nn.Parameter],
    optimizer: str = "sgd",
    optimizer_settings: dict[str, float] | None = None,
    clip_norm: float | None = None,
    **settings: Any,
) -> GradientStrategy:
    strategy, part = gradient_strategies.get(name), optimizers.get(optimizer)
    return strategy(
        part(part.Parameters(**(optimizer_settings or {}))).build(weights),
        strategy.Parameters(**settings),
        clip_norm=clip_norm,
    )


# One batch by hand: from the gradient function, the weights, the optimizer's displacement function
# and the number of the batch to the next weights.


def plain(g: Any, w: Any, move: Any, batch: int) -> Any:
    return w + move(w, g(w))


def sam_gradient(g: Any, w: Any) -> Any:
    return g(w + RHO * g(w) / np.linalg.norm(g(w)))


def sam(g: Any, w: Any, move: Any, batch: int) -> Any:
    return w + move(w, sam_gradient(g, w))


def asam(g: Any, w: Any, move: Any, batch: int) -> Any:
    scale = np.abs(w) + ETA
    return w + move(w, g(w + RHO * scale**2 * g(w) / np.linalg.norm(scale * g(w))))


def gradient_norm_penalty(g: Any, w: Any, move: Any, batch: int) -> Any:
    return w + move(w, (1 - BALANCE) * g(w) + BALANCE * sam_gradient(g, w))


def bsam(g: Any, w: Any, move: Any, batch: int) -> Any:
    worst = w + RHO * np.linalg.norm(w) * g(w) / np.linalg.norm(g(w))
    return w + move(w, (1 - BALANCE) * g(w) + BALANCE * g(worst))


def two_steps(gradient: Callable[..., Any], sign: float, variant: str) -> Callable[..., Any]:
    """A mirrored batch (or its control with the other sign) every third time."""

    def step(g: Any, w: Any, move: Any, batch: int) -> Any:
        if batch % INTERVAL:
            return plain(g, w, move, batch)
        if variant == "loss_scaled":
            w = w + move(w, ALPHA1 * gradient(g, w))
            return w + move(w, sign * ALPHA2 * gradient(g, w))
        w = w + ALPHA1 * move(w, gradient(g, w))
        return w + sign * ALPHA2 * move(w, gradient(g, w))

    return step


def matched_loss(g: Any, w: Any, move: Any, batch: int) -> Any:
    return w + move(w, g(w) * (1 if batch % INTERVAL else ALPHA1 - ALPHA2))


def matched_update(g: Any, w: Any, move: Any, batch: int) -> Any:
    return w + move(w, g(w)) * (1 if batch % INTERVAL else ALPHA1 - ALPHA2)


CASES: dict[str, tuple[str, dict[str, Any], Callable[..., Any]]] = {
    "plain": ("plain", {}, plain),
    "extra_epochs": ("extra_epochs", {}, plain),
    "swa": ("swa", {"start": 0}, plain),
    "ema": ("ema", {"decay": DECAY}, plain),
    "sam": ("sam", {"rho": RHO}, sam),
    "asam": ("asam", {"rho": RHO, "eta": ETA}, asam),
    "gradient_norm_penalty": (
        "gradient_norm_penalty",
        {"radius": RHO, "balance": BALANCE},
        gradient_norm_penalty,
    ),
    "bsam": ("bsam", {"rho": RHO, "mixing": BALANCE}, bsam),
    "double_step": ("double_step", MIRROR, two_steps(lambda g, w: g(w), 1, "loss_scaled")),
    "double_step, update_scaled": (
        "double_step",
        {**MIRROR, **UPDATE_SCALED},
        two_steps(lambda g, w: g(w), 1, "update_scaled"),
    ),
    "sharpness_aware_mirror": (
        "sharpness_aware_mirror",
        {**MIRROR, "rho": RHO},
        two_steps(sam_gradient, -1, "loss_scaled"),
    ),
    "sharpness_aware_mirror, update_scaled": (
        "sharpness_aware_mirror",
        {**MIRROR, **UPDATE_SCALED, "rho": RHO},
        two_steps(sam_gradient, -1, "update_scaled"),
    ),
    "rate_matched": ("rate_matched", MIRROR, matched_loss),
    "rate_matched, update_scaled": ("rate_matched", {**MIRROR, **UPDATE_SCALED}, matched_update),
}


@pytest.mark.parametrize("case", CASES)
def test_trajectory(problem: Any, optimizer_case: Any, case: str) -> None:
    name, settings, by_hand = CASES[case]
    weight = problem.start()
    expected = weight.detach().numpy().copy()
    strategy = build(name, [weight], optimizer_case.name, optimizer_case.settings, **settings)
    optimizer = optimizer_case.by_hand()
    strategy.start_epoch(0)
    for batch in range(BATCHES):
        before = problem.loss(weight).item()
        reported = strategy.step(lambda: problem.loss(weight))
        assert reported.item() == pytest.approx(before, rel=1e-12)
        assert not reported.requires_grad
        expected = by_hand(problem.gradient, expected, optimizer.displacement, batch)
        np.testing.assert_allclose(weight.detach().numpy(), expected, rtol=0, atol=1e-6)


def test_every_strategy_has_a_trajectory_by_hand() -> None:
    covered = {name for name, _, _ in CASES.values()} | {"mirror_gradient"}
    assert covered == set(gradient_strategies.names())


# With alpha2 = 0 these still step twice, so a stateful optimizer's state advances twice, weight
# decay acts twice (if the losses are scaled) and dropout is drawn twice.

WITHOUT_STATE = [
    ("double_step", {"alpha1": 1.0, "alpha2": 0.0}),
    ("double_step", {"alpha1": 1.0, "alpha2": 0.0, **UPDATE_SCALED}),
    ("sharpness_aware_mirror", {"alpha1": 1.0, "alpha2": 0.0, "rho": 0.0}),
]


def trained(
    name: str, optimizer: str, dropout: float, weight_decay: float = 0.01, **settings: Any
) -> Tensor:
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(50, 4))
    strategy = build(name, [weight], optimizer, {"weight_decay": weight_decay}, **settings)
    for _ in range(7):
        strategy.step(lambda: nn.functional.dropout(weight, dropout).square().sum().log1p())
    return weight.detach()


@pytest.mark.parametrize(("name", "settings"), WITHOUT_STATE)
def test_neutral_settings_of_two_steps_need_an_optimizer_without_state(
    name: str, settings: dict[str, Any]
) -> None:
    for optimizer, same in (("sgd", True), ("adam", False)):
        weights = [
            trained(of, optimizer, dropout=0.0, weight_decay=0.0, **own)
            for of, own in (("plain", {}), (name, settings))
        ]
        assert torch.equal(*weights) is same


def test_sharpness_aware_mirror_without_sharpness_is_mirror_gradient() -> None:
    mirror = trained("mirror_gradient", "adam", dropout=0.5)
    assert torch.equal(trained("sharpness_aware_mirror", "adam", dropout=0.5, rho=0.0), mirror)
    kind = gradient_strategies.get("sharpness_aware_mirror")
    assert kind.computations_per_batch(kind.Parameters(rho=0.0, interval=4)) == 1.25


# Clipping.


@pytest.mark.parametrize(
    ("name", "settings", "end"),
    [
        ("plain", {}, -0.1),
        ("sam", {}, -0.1),
        ("asam", {}, -0.1),
        ("gradient_norm_penalty", {}, -0.1),
        ("bsam", {}, -0.1),
        # As Mirror Gradient: loss_scaled clips the second of a batch's gradients alone.
        ("double_step", {"alpha2": 0.5}, -100 - 0.1),
        ("double_step", {"alpha2": 0.5, **UPDATE_SCALED}, -0.1 - 0.5 * 0.1),
        ("sharpness_aware_mirror", {"alpha2": 0.5}, -100 + 0.1),
        ("sharpness_aware_mirror", {"alpha2": 0.5, **UPDATE_SCALED}, -0.1 + 0.5 * 0.1),
        ("rate_matched", {"alpha2": 0.5}, -0.1),
        ("rate_matched", {"alpha2": 0.5, **UPDATE_SCALED}, -0.5 * 0.1),
    ],
)
def test_clipping(name: str, settings: dict[str, Any], end: float) -> None:
    weight = nn.Parameter(torch.tensor([0.0]))
    strategy = build(name, [weight], "sgd", {"learning_rate": 1.0}, clip_norm=0.1, **settings)
    strategy.step(lambda: 100 * weight.sum())
    assert weight.item() == pytest.approx(end, rel=1e-5)


def test_bsam_moves_each_row_in_proportion_to_its_length() -> None:
    table = nn.Parameter(torch.tensor([[3.0, 4.0], [0.3, 0.4], [1.0, 0.0]]))
    seen: list[Tensor] = []

    def loss() -> Tensor:
        seen.append(table.detach().clone())
        return (table[:2] * torch.tensor([0.0, 7.0])).sum()

    build("bsam", [table], rho=0.1).step(loss)
    torch.testing.assert_close(
        seen[1] - seen[0], torch.tensor([[0.0, 0.5], [0.0, 0.05], [0.0, 0.0]])
    )
