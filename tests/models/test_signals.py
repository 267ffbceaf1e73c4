"""The doors through which others watch and change what happens inside a model."""

from __future__ import annotations

import pytest
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from mgstudy.models.graph import SparseGraph
from mgstudy.models.layers import linear
from mgstudy.models.losses import bpr_loss, cosine_distance, dot_products, info_nce
from mgstudy.models.propagation import entries_scaled, light_gcn_mean, propagate, propagate_weighted
from mgstudy.models.signals import (
    Signal,
    passed,
    signals_noted,
    signals_transformed,
    signals_unnoted,
)

LEFT, RIGHT = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
DENSE = torch.tensor([[0.0, 2.0, 1.0], [2.0, 0.0, 0.0], [1.0, 0.0, 3.0]])
LOPSIDED = torch.tensor([[0.0, 2.0], [5.0, 0.0], [1.0, -3.0]])


def test_transforms_act_in_the_order_they_were_entered_and_only_inside() -> None:
    value = torch.tensor(1.0)
    with signals_transformed(Signal.HIDDEN, lambda x: x + 1):
        with signals_transformed(Signal.HIDDEN, lambda x: x * 10):
            assert passed(Signal.HIDDEN, value) == 20
            assert passed(Signal.LOGITS, value) is value
        assert passed(Signal.HIDDEN, value) == 2
    with pytest.raises(RuntimeError), signals_transformed(Signal.HIDDEN, lambda x: x + 1):
        raise RuntimeError
    assert passed(Signal.HIDDEN, value) is value


def test_a_pass_that_is_thrown_away_is_changed_but_not_noted() -> None:
    value = torch.tensor(1.0)
    with signals_transformed(Signal.HIDDEN, lambda x: x + 1), signals_noted(Signal.HIDDEN) as outer:
        with signals_unnoted(), signals_noted(Signal.HIDDEN) as inner:
            passed(Signal.HIDDEN, value)
        passed(Signal.HIDDEN, 2 * value)
    assert (inner, outer) == ([torch.tensor(2.0)], [torch.tensor(3.0)])


def test_what_the_losses_let_through() -> None:
    with (
        signals_noted(Signal.REPRESENTATION) as representations,
        signals_noted(Signal.LOGITS) as logits,
    ):
        scores = dot_products(LEFT, RIGHT)
        bpr_loss(scores, 2 * scores)
        cosine_distance(LEFT, RIGHT)
        info_nce(LEFT, RIGHT, temperature=0.5, normalize=False)
    assert [value is LEFT for value in representations] == [True, False] * 3
    torch.testing.assert_close(logits[0], -scores)
    torch.testing.assert_close(logits[1], LEFT @ RIGHT.t() / 0.5)


@pytest.mark.parametrize("signal", [Signal.REPRESENTATION, Signal.LOGITS])
def test_a_changed_signal_changes_the_loss(signal: Signal) -> None:
    with signals_transformed(signal, torch.zeros_like):
        assert bpr_loss(dot_products(LEFT, RIGHT), dot_products(LEFT, -RIGHT)).item() == (
            pytest.approx(0.6931472)
        )


def test_linear_maps_and_propagations_are_hidden_layers() -> None:
    graph = SparseGraph.from_scipy(csr_matrix(DENSE), symmetric=True)
    x = torch.randn(3, 2)
    with signals_noted(Signal.HIDDEN) as hidden:
        outputs = [
            linear(2, 5)(x),
            propagate(graph, x),
            light_gcn_mean(graph, x, layers=2),
            propagate_weighted(graph, graph.values, x),
        ]
    assert all(one is other for one, other in zip(outputs, hidden, strict=True))


def scale(graph: SparseGraph) -> Tensor:
    """Factors that are equal in both directions of an edge."""
    return (graph.entry_rows + graph.columns + 2).float()


@pytest.mark.parametrize(("dense", "symmetric"), [(DENSE, True), (DENSE, False), (LOPSIDED, False)])
def test_scaled_entries_are_those_of_the_scaled_matrix(dense: Tensor, symmetric: bool) -> None:
    graph = SparseGraph.from_scipy(csr_matrix(dense), symmetric)
    rows, columns = (torch.arange(size) for size in dense.shape)
    scaled = dense * (rows[:, None] + columns[None, :] + 2)
    operations = [
        (lambda x: propagate(graph, x), lambda x: scaled @ x),
        (lambda x: propagate_weighted(graph, graph.values, x), lambda x: scaled @ x),
    ]
    if dense.shape[0] == dense.shape[1]:
        operations.append(
            (
                lambda x: light_gcn_mean(graph, x, layers=2),
                lambda x: (x + scaled @ x + scaled @ scaled @ x) / 3,
            )
        )
    for actual, expected in operations:
        x = torch.randn(dense.shape[1], 4, requires_grad=True)
        with entries_scaled(scale):
            result = actual(x)
        torch.testing.assert_close(result, expected(x))
        direction = torch.randn_like(result)
        gradients = [torch.autograd.grad(r, x, direction)[0] for r in (result, expected(x))]
        torch.testing.assert_close(*gradients)
        assert not torch.allclose(actual(x), result)


def test_a_known_product_holds_unless_entries_are_scaled() -> None:
    graph = SparseGraph.from_scipy(csr_matrix(LOPSIDED))
    x, known = torch.randn(2, 4), torch.randn(3, 4)
    assert propagate(graph, x, known) is known
    with entries_scaled(scale):
        assert torch.equal(propagate(graph, x, known), propagate(graph, x))


def test_scales_multiply() -> None:
    graph = SparseGraph.from_scipy(csr_matrix(LOPSIDED))
    x = torch.randn(2, 4)
    with entries_scaled(scale), entries_scaled(lambda graph: torch.full((len(graph),), 0.5)):
        both = propagate(graph, x)
    with entries_scaled(scale):
        torch.testing.assert_close(both, 0.5 * propagate(graph, x))
