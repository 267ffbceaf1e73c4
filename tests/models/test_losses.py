import math
from contextlib import nullcontext

import pytest
import torch

from mgstudy.models.losses import (
    bpr_loss,
    cosine_distance,
    frobenius_penalty,
    half_squared_sum,
    info_nce,
    squared_pair_penalty,
)
from mgstudy.models.signals import Signal, signals_noted


def test_bpr_loss_stays_finite_where_the_naive_form_overflows() -> None:
    positives, negatives = torch.tensor([0.0, 1.0]), torch.tensor([500.0, 0.0])
    expected = 500.0 + math.log1p(math.exp(-1))
    assert bpr_loss(positives, negatives, "sum").item() == pytest.approx(expected)
    assert bpr_loss(positives, negatives).item() == pytest.approx(expected / 2)


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("normalize", [True, False])
def test_info_nce_is_its_definition(normalize: bool, watched: bool) -> None:
    x, y = torch.randn(2, 6, 4, dtype=torch.float64).requires_grad_()
    a, b = (t / t.norm(dim=1, keepdim=True) if normalize else t for t in (x, y))
    powers = (a @ b.t() / 0.2).exp()
    expected = -(powers.diagonal() / powers.sum(dim=1)).log().mean()
    with signals_noted(Signal.LOGITS) if watched else nullcontext([]) as logits:
        value = info_nce(x, y, 0.2, normalize)
    torch.testing.assert_close(value, expected)
    assert [tuple(noted.shape) for noted in logits] == [(6, 6)] * watched
    for actual, reference in zip(
        torch.autograd.grad(value, [x, y]), torch.autograd.grad(expected, [x, y]), strict=True
    ):
        torch.testing.assert_close(actual, reference)


def test_cosine_distance_of_a_zero_row_is_one() -> None:
    left, right = torch.tensor([[0.0, 0.0], [1.0, 1.0]]), torch.tensor([[1.0, 0.0], [2.0, 2.0]])
    assert cosine_distance(left, right).item() == pytest.approx(0.5)


def test_penalties() -> None:
    three, four = torch.tensor([[3.0], [4.0]]), torch.tensor([[4.0], [3.0], [0.0], [0.0]])
    assert frobenius_penalty(three, four).item() == pytest.approx((5 + 5) / 4)
    assert half_squared_sum(three, four).item() == pytest.approx(25.0)
    users, positives, negatives = torch.tensor([[[1.0], [2.0]], [[3.0], [0.0]], [[0.0], [1.0]]])
    pairs = [1 + 9, 4 + 0, 1 + 0, 4 + 1]
    assert squared_pair_penalty(users, positives, negatives).item() == pytest.approx(sum(pairs) / 4)
