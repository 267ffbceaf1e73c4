from __future__ import annotations

import re
from typing import Any, Literal

import pytest
from pydantic import ValidationError

from mgstudy.config.parameters import (
    Choice,
    Fixed,
    FloatRange,
    IntegerRange,
    LogFloatRange,
    ParameterSet,
    Space,
    is_space,
    parameter,
    parse_space,
)
from mgstudy.models.base import models
from mgstudy.training.gradient.base import gradient_strategies
from mgstudy.training.optimizers.base import optimizers
from mgstudy.training.robust.base import robust_methods

SPACES: list[tuple[Any, Space]] = [
    (3, Fixed(value=3)),
    ("loss_scaled", Fixed(value="loss_scaled")),
    (None, Fixed(value=None)),
    ({"choice": [1, 0.5, "a", None, False]}, Choice(choices=(1, 0.5, "a", None, False))),
    ({"integer": [-2, 5]}, IntegerRange(low=-2, high=5)),
    ({"float": [0, 0.5]}, FloatRange(low=0, high=0.5)),
    ({"log_float": [1e-5, 1]}, LogFloatRange(low=1e-5, high=1)),
]


@pytest.mark.parametrize(("written", "space"), SPACES)
def test_every_kind_is_read_and_written_back(written: Any, space: Space) -> None:
    assert is_space(written)
    assert parse_space(written) == space
    assert space.to_yaml() == written
    assert parse_space(space.to_yaml()) == space


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ({"integer": [5, 5]}, "low (5) must be below high (5)"),
        ({"float": [0.5, 0.1]}, "low (0.5) must be below high (0.1)"),
        ({"log_float": [0, 1]}, "low (0) must be above 0 on a logarithmic scale"),
        ({"log_float": [-1, 1]}, "low (-1) must be above 0 on a logarithmic scale"),
        ({"float": [0, float("inf")]}, "the ends of a range must be finite"),
        ({"float": [float("nan"), 1]}, "the ends of a range must be finite"),
        ({"choice": [1, 2, 1]}, "lists the same value twice"),
        ({"choice": [1, 1.0]}, "lists the same value twice"),
        ({"choice": [0, False]}, "lists the same value twice"),
        ({"choice": []}, "at least 1 item"),
        ({"choice": 3}, "expected a list after 'choice', got 3"),
        ({"choice": [[1, 2]]}, "valid"),
        ({"integer": [1, 2, 3]}, "expected {integer: [low, high]}, got 3 values"),
        ({"integer": [1.5, 3]}, "valid integer"),
        ({"integer": [False, 3]}, "valid integer"),
        ({"float": ["0.1", 1]}, "valid number"),
        ({"flaot": [0, 1]}, "expected a value, {choice: [..]}"),
        ({"float": [0, 1], "choice": [1]}, "expected a value, {choice: [..]}"),
        ([1, 2], "expected a value, {choice: [..]}"),
    ],
)
def test_a_contradictory_space_is_refused(written: Any, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        parse_space(written)


def test_a_mapping_of_names_is_no_space() -> None:
    assert not is_space({"interval": 3})
    assert not is_space({"choice": [1], "interval": 3})
    assert not is_space({})


class Example(ParameterSet):
    depth: int = parameter(3, "how deep", ge=1)
    rate: float = parameter(0.1, "how fast", gt=0, space=LogFloatRange(low=1e-3, high=1))
    kind: Literal["a", "b"] = parameter("a", "which")
    sizes: tuple[int, ...] | None = parameter(None, "how large")


def test_a_default_space_is_the_declared_one_or_the_default_itself() -> None:
    assert Example.spaces() == {
        "depth": Fixed(value=3),
        "rate": LogFloatRange(low=1e-3, high=1),
        "kind": Fixed(value="a"),
        "sizes": Fixed(value=None),
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"depth": 0},
        {"depth": True},
        {"depth": 2.0},
        {"depth": "2"},
        {"rate": "0.1"},
        {"rate": float("nan")},
        {"rate": float("inf")},
        {"kind": "c"},
        {"dpeth": 3},
    ],
)
def test_nothing_is_converted_and_nothing_unknown_taken(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Example.model_validate(wrong)
    assert Example(rate=1).rate == 1


PARTS = [
    part for parts in (models, gradient_strategies, robust_methods, optimizers) for part in parts
]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_every_default_and_every_default_space_is_valid(part: Any) -> None:
    defaults = part.Parameters().model_dump()
    for name, space in part.Parameters.spaces().items():
        assert part.Parameters.model_fields[name].description
        assert parse_space(space.to_yaml()) == space
        for value in space.ends():
            part.Parameters(**{**defaults, name: value})


@pytest.mark.parametrize("model", list(models), ids=lambda model: model.name)
def test_every_published_optimizer_setting_suits_every_optimizer_that_has_it(model: Any) -> None:
    for optimizer in optimizers:
        fields = optimizer.Parameters.model_fields
        for name, space in model.optimizer_spaces.items():
            assert name in fields
            for value in space.ends():
                optimizer.Parameters(**{name: value})
