import math

import pytest
import torch

from mgstudy.models.layers import (
    dropout,
    linear,
    xavier_normal_embedding,
    xavier_uniform_embedding,
)


def test_tables_spread_by_rows_plus_columns() -> None:
    torch.manual_seed(0)
    bound = math.sqrt(6 / (2000 + 64))
    table = xavier_uniform_embedding(2000, 64)
    assert table.abs().max().item() == pytest.approx(bound, rel=1e-3)
    assert table.std().item() == pytest.approx(bound / math.sqrt(3), rel=1e-2)
    assert xavier_normal_embedding(2000, 64).std().item() == pytest.approx(
        math.sqrt(2 / (2000 + 64)), rel=1e-2
    )


def test_default_linear_layers_spread_weight_and_bias_by_inputs_alone() -> None:
    torch.manual_seed(0)
    layer = linear(400, 2000)
    for tensor in (layer.weight, layer.bias):
        assert tensor.abs().max().item() == pytest.approx(1 / 20, rel=1e-2)


@pytest.mark.parametrize(
    ("weight", "deviation"),
    [("xavier_uniform", math.sqrt(2 / 2400)), ("xavier_normal", math.sqrt(2 / 2400))],
)
def test_xavier_linear_layers_keep_the_default_bias(weight: str, deviation: float) -> None:
    torch.manual_seed(0)
    layer = linear(400, 2000, weight=weight)
    assert layer.weight.std().item() == pytest.approx(deviation, rel=1e-2)
    assert layer.bias.abs().max().item() == pytest.approx(1 / 20, rel=1e-2)
    assert not linear(400, 2000, weight=weight, bias="zero").bias.any()
    assert linear(400, 2000, bias="none").bias is None


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_drops_the_given_share_and_keeps_the_mean(rate: float) -> None:
    torch.manual_seed(0)
    values = torch.full((300, 300), 2.0, requires_grad=True)
    dropped = dropout(values, rate, training=True)
    kept = dropped != 0
    assert kept.float().mean().item() == pytest.approx(1 - rate, abs=0.01)
    assert dropped[kept].unique().tolist() == pytest.approx([2 / (1 - rate)])
    gradient = torch.autograd.grad(dropped.sum(), values)[0]
    torch.testing.assert_close(gradient, kept.float() / (1 - rate))


def test_does_nothing_outside_training() -> None:
    values = torch.randn(3, 4)
    assert dropout(values, 0.5, training=False) is values
    assert dropout(values, 0.0, training=True) is values
