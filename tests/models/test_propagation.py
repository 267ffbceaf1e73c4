import numpy as np
import pytest
import torch
from scipy import sparse
from torch import Tensor

from mgstudy.models.graph import SparseGraph
from mgstudy.models.propagation import (
    entry_dot_products,
    light_gcn_mean,
    propagate,
    propagate_weighted,
    segment_softmax,
)

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def make_graph(symmetric: bool, rows: int = 7, columns: int = 7) -> SparseGraph:
    matrix = sparse.random(rows, columns, density=0.4, random_state=3, format="csr")
    return SparseGraph.from_scipy(matrix + matrix.T if symmetric else matrix, symmetric)


def dense(graph: SparseGraph, values: Tensor | None = None) -> Tensor:
    matrix = torch.zeros(graph.shape)
    return matrix.index_put(
        (graph.entry_rows.long(), graph.columns.long()), graph.values if values is None else values
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("symmetric", [True, False])
def test_propagation_and_its_gradients_are_those_of_the_dense_product(
    symmetric: bool, device: str
) -> None:
    graph = make_graph(symmetric) if symmetric else make_graph(False, 5, 7)
    x = torch.randn(7, 3, requires_grad=True)
    target = torch.randn(graph.shape[0], 3)
    expected = torch.autograd.grad(((dense(graph) @ x) ** 2 * target).sum(), x, create_graph=True)
    expected_second = torch.autograd.grad(expected[0].square().sum(), x)

    graph.to(device)
    actual = torch.autograd.grad(
        (propagate(graph, x.to(device)) ** 2 * target.to(device)).sum(), x, create_graph=True
    )
    actual_second = torch.autograd.grad(actual[0].square().sum(), x)

    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(actual_second, expected_second)


def test_propagation_accepts_rows_that_are_not_contiguous() -> None:
    graph = make_graph(True)
    x = torch.randn(3, 7).t()
    torch.testing.assert_close(propagate(graph, x), dense(graph) @ x)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("layers", [0, 1, 3])
def test_light_gcn_mean_is_the_mean_over_layers(symmetric: bool, layers: int) -> None:
    graph = make_graph(symmetric)
    x = torch.randn(7, 3, requires_grad=True)
    weight = torch.randn(7, 3)
    matrix = dense(graph)
    powers = [torch.linalg.matrix_power(matrix, layer) @ x for layer in range(layers + 1)]
    expected = torch.stack(powers).mean(dim=0)
    actual = light_gcn_mean(graph, x, layers)
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(
        torch.autograd.grad((actual * weight).sum(), x),
        torch.autograd.grad((expected * weight).sum(), x),
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("symmetric", [True, False])
def test_a_weighted_product_is_differentiable_in_weights_and_rows(
    symmetric: bool, device: str
) -> None:
    graph = make_graph(symmetric) if symmetric else make_graph(False, 5, 7)
    weights = torch.randn(len(graph), requires_grad=True)
    x = torch.randn(7, 3, requires_grad=True)
    target = torch.randn(graph.shape[0], 3)
    expected = torch.autograd.grad(((dense(graph, weights) @ x) * target).sum(), (weights, x))

    graph.to(device)
    product = propagate_weighted(graph, weights.to(device), x.to(device))
    actual = torch.autograd.grad((product * target.to(device)).sum(), (weights, x))
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("symmetric", [True, False])
def test_entry_dot_products_and_their_gradients_are_those_of_the_dense_product(
    symmetric: bool, device: str
) -> None:
    graph = make_graph(symmetric) if symmetric else make_graph(False, 5, 7)
    rows = torch.randn(graph.shape[0], 3, requires_grad=True)
    columns = torch.randn(7, 3, requires_grad=True)
    weight = torch.randn(len(graph))
    expected = (rows @ columns.t())[graph.entry_rows.long(), graph.columns.long()]

    graph.to(device)
    actual = entry_dot_products(graph, rows.to(device), columns.to(device)).cpu()
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(
        torch.autograd.grad((actual * weight).sum(), (rows, columns)),
        torch.autograd.grad((expected * weight).sum(), (rows, columns)),
    )


def test_segment_softmax_is_the_softmax_of_each_row_and_survives_large_scores() -> None:
    graph = make_graph(False)
    scores = (1e4 * torch.randn(len(graph))).requires_grad_()
    weight = torch.randn(len(graph))
    masked = dense(graph, scores).where(dense(graph, torch.ones(len(graph))) > 0, -torch.inf)
    rows, columns = graph.entry_rows.long(), graph.columns.long()
    expected = masked.softmax(dim=1)[rows, columns]
    actual = segment_softmax(graph, scores)
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(
        torch.autograd.grad((actual * weight).sum(), scores),
        torch.autograd.grad((expected * weight).sum(), scores),
    )


def test_empty_rows_stay_empty() -> None:
    graph = SparseGraph.from_scipy(sparse.csr_matrix(np.array([[0.0, 0.0], [0.5, 0.0]])))
    assert propagate(graph, torch.ones(2, 1)).tolist() == [[0.0], [0.5]]
    assert segment_softmax(graph, torch.tensor([3.0])).tolist() == [1.0]
