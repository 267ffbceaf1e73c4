import math
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor

from mgstudy.models.losses import (
    bpr_loss,
    cosine_distance,
    frobenius_penalty,
    half_squared_sum,
    info_nce,
    squared_pair_penalty,
    sum_of_log_normalizers,
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


# Over all pairs, in blocks of rows.


@pytest.fixture
def tensors(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    monkeypatch.setattr("mgstudy.models.losses._BLOCK_ROWS", {"cpu": 3})
    torch.manual_seed(0)
    return [torch.randn(7, 4), torch.rand(7), torch.randn(5, 4)]


def test_log_normalizers_and_their_gradients_are_those_of_all_rows_at_once(
    tensors: list[Tensor],
) -> None:
    rows, weights, keys = (tensor.double() for tensor in tensors)
    # Exponentials of logits this high overflow unless the highest is taken off.
    rows = rows * 1000
    at_once = [rows.clone().requires_grad_(), keys.clone().requires_grad_()]
    expected = (weights * torch.logsumexp(at_once[0] @ at_once[1].t(), dim=1)).sum()
    blocks = [rows.clone().requires_grad_(), keys.clone().requires_grad_()]
    value = sum_of_log_normalizers(*blocks, weights)
    torch.testing.assert_close(value, expected)
    (3.0 * expected).backward()
    (3.0 * value).backward()
    for one, other in zip(blocks, at_once, strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_log_normalizers_are_differentiated_only_where_that_is_wanted(
    tensors: list[Tensor],
) -> None:
    rows, weights, keys = tensors
    with torch.no_grad():
        value = sum_of_log_normalizers(rows.requires_grad_(), keys, weights)
    assert not value.requires_grad
    one_sided = sum_of_log_normalizers(rows, keys, weights)
    torch.testing.assert_close(one_sided, value, rtol=0, atol=0)
    one_sided.backward()
    assert keys.grad is None
    assert rows.grad is not None
