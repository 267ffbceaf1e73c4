"""Rows read and summed on a pretended GPU are those of torch's own operations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch
from pretended_gpu import PretendedGpu
from torch import Tensor
from torch.nn import functional

from mgstudy.models.rows import (
    LONGEST_SUM,
    _pieces,
    gather_rows,
    sum_rows,
    unit_rows,
    weighted_sums,
)


@pytest.fixture
def gpu() -> Iterator[PretendedGpu]:
    with PretendedGpu() as pretended:
        yield pretended


def with_gradients(read: Callable[[Tensor], Tensor], table: Tensor) -> list[Tensor]:
    """Rows, the gradient of a function of them, and the gradient of a function of that."""
    leaf = table.clone().requires_grad_()
    rows = read(leaf)
    (first,) = torch.autograd.grad(rows.pow(3).sum(), leaf, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), leaf)
    return [rows.detach(), first.detach(), second]


@pytest.mark.parametrize("kind", [torch.int32, torch.int64])
def test_gathers_rows_with_all_their_gradients(kind: torch.dtype) -> None:
    table = torch.randn(9, 4)
    rows = torch.tensor([3, 0, 3, 8, 3, 1], dtype=kind)
    expected = with_gradients(lambda leaf: functional.embedding(rows, leaf), table)
    assert all(
        torch.equal(one, other)
        for one, other in zip(
            with_gradients(lambda leaf: gather_rows(leaf, rows), table), expected, strict=True
        )
    )
    with PretendedGpu() as gpu:
        there = rows.to("cuda")
        found = with_gradients(lambda leaf: gather_rows(leaf, there), table.to("cuda"))
        assert all(gpu.holds(tensor) for tensor in found) and not gpu.unordered.total()
        found = [tensor.cpu() for tensor in found]
    torch.testing.assert_close(found, expected)


def test_no_row_has_a_gradient_where_none_was_read(gpu: PretendedGpu) -> None:
    values = sum_rows(torch.ones(0, 3, device="cuda"), torch.ones(0, dtype=int, device="cuda"), 4)
    assert values.tolist() == [[0.0] * 3] * 4


LENGTHS = [[3, 0, LONGEST_SUM, 0], [0], [LONGEST_SUM + 1, 1], [9000, 5], [1] * 100, [0] * 300]


@pytest.mark.parametrize("lengths", LENGTHS)
def test_no_sum_is_over_pieces_beyond_its_own(lengths: list[int]) -> None:
    """CUDA's kernel ends the last sum where all numbers end, whatever its last offset says."""
    offsets = functional.pad(torch.tensor(lengths).cumsum(0), (1, 0))
    _, piece_offsets, numbers = _pieces(offsets, sum(lengths))
    piece_offsets[-1] = len(numbers)
    counts = piece_offsets.diff().tolist()
    assert counts[: len(lengths)] == [-(-length // LONGEST_SUM) for length in lengths]
    assert max(counts[len(lengths) :]) <= LONGEST_SUM


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("weighted", [True, False])
def test_long_sums_are_cut_and_come_to_the_same(lengths: list[int], weighted: bool) -> None:
    offsets = functional.pad(torch.tensor(lengths).cumsum(0), (1, 0)).int()
    rows = torch.randint(50, (sum(lengths),), dtype=torch.int32)
    table = torch.randn(50, 3)
    weights = torch.rand(len(rows)) if weighted else None
    terms = table[rows.long()] * (1 if weights is None else weights[:, None])
    close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-5)
    expected = torch.stack([part.double().sum(dim=0) for part in terms.split(lengths)]).float()
    close(weighted_sums(offsets, rows, table, weights), expected)
    with PretendedGpu() as gpu:
        there = [x if x is None else x.to("cuda") for x in (offsets, rows, table, weights)]
        gpu.waits.clear()
        sums = weighted_sums(*there)  # type: ignore[arg-type]
        assert gpu.waits.total() == gpu.unordered.total() == 0
        close(sums.cpu(), expected)


def test_an_order_is_found_once_and_forgotten_with_its_rows(gpu: PretendedGpu) -> None:
    rows = torch.tensor([1, 0, 1], device="cuda")
    table = torch.ones(2, 2, device="cuda", requires_grad=True)
    sorts = []
    for _ in range(3):
        gpu.operations.clear()
        gather_rows(table, rows).sum().backward()
        sorts.append(gpu.operations["sort"])
    assert sorts == [1, 0, 0]
    other = torch.tensor([0, 0, 1], device="cuda")
    assert sum_rows(torch.ones(3, 1, device="cuda"), other, 2).tolist() == [[2.0], [1.0]]


def test_unit_rows_are_those_of_normalize_with_both_derivatives() -> None:
    torch.manual_seed(0)
    table = torch.randn(20, 5)
    table[3] = 0
    results = [with_gradients(scale, table) for scale in (functional.normalize, unit_rows)]
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(other[4:], one[4:])
    (rows, gradient, _) = results[1]
    assert not rows[3].any() and gradient[3].isfinite().all()
    leaf = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(unit_rows, leaf)
    assert torch.autograd.gradgradcheck(unit_rows, leaf)
