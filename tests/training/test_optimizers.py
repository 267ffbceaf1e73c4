"""Each optimizer's steps are held to its paper in gradient/test_mirror_gradient.py."""

import pytest
import torch
from torch import nn

from mgstudy.training.optimizers.base import OptimizerPart, optimizers


def test_the_offered_optimizers() -> None:
    assert optimizers.names() == ["adagrad", "adam", "adamw", "rmsprop", "sgd"]


@pytest.mark.parametrize("part", list(optimizers), ids=lambda part: part.name)
def test_every_setting_reaches_torch(part: type[OptimizerPart]) -> None:
    # A value of its own for each setting, so that a mix-up shows.
    settings = {
        name: round(0.01 * number, 2)
        for number, name in enumerate(part.Parameters.model_fields, start=1)
        if name != "learning_rate_decay"
    }
    (group,) = part(part.Parameters(**settings)).build([nn.Parameter(torch.ones(1))]).param_groups
    torch_names = {
        "learning_rate": group["lr"],
        "beta1": group.get("betas", (None, None))[0],
        "beta2": group.get("betas", (None, None))[1],
        "epsilon": group.get("eps"),
        "smoothing": group.get("alpha"),
        "momentum": group.get("momentum"),
        "weight_decay": group["weight_decay"],
    }
    assert {name: torch_names[name] for name in settings} == settings


@pytest.mark.parametrize("part", list(optimizers), ids=lambda part: part.name)
def test_a_weight_without_a_gradient_is_left_alone(part: type[OptimizerPart]) -> None:
    used, unused = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    optimizer = part(part.Parameters(weight_decay=0.1)).build([used, unused])
    for _ in range(2):
        optimizer.zero_grad()
        used.square().sum().backward()
        optimizer.step()
    assert torch.equal(unused, torch.ones(3))
    assert not torch.equal(used, torch.ones(3))


@pytest.mark.parametrize("part", list(optimizers), ids=lambda part: part.name)
def test_spaces_lie_within_the_limits(part: type[OptimizerPart]) -> None:
    for name, space in part.Parameters.spaces().items():
        for end in space.ends():
            part.Parameters.model_validate({name: end})


def test_the_learning_rate_is_searched_on_a_logarithmic_scale() -> None:
    assert {part.Parameters.spaces()["learning_rate"].keyword for part in optimizers} == {
        "log_float"
    }
