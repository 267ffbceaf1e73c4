import copy

import pytest
import torch
from scipy import sparse
from torch import Tensor

from mgstudy.models.graph import SparseGraph
from mgstudy.models.propagation import propagate


def make_graph(symmetric: bool, rows: int = 7, columns: int = 7) -> SparseGraph:
    matrix = sparse.random(rows, columns, density=0.4, random_state=3, format="csr")
    return SparseGraph.from_scipy(matrix + matrix.T if symmetric else matrix, symmetric)


def dense(graph: SparseGraph, values: Tensor | None = None) -> Tensor:
    matrix = torch.zeros(graph.shape)
    return matrix.index_put(
        (graph.entry_rows.long(), graph.columns.long()), graph.values if values is None else values
    )


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_transposed_graph_is_the_dense_transpose(symmetric: bool) -> None:
    graph = make_graph(symmetric) if symmetric else make_graph(False, 5, 7)
    transposed = graph.transposed()
    assert torch.equal(dense(transposed).t(), dense(graph))
    weights = torch.randn(len(graph))
    in_other_order = weights[graph.transpose_order]
    assert torch.equal(dense(transposed, in_other_order).t(), dense(graph, weights))
    assert torch.equal(in_other_order[transposed.transpose_order], weights)


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_product_with_other_values_is_that_of_the_graph_that_has_them(symmetric: bool) -> None:
    graph = make_graph(symmetric) if symmetric else make_graph(False, 5, 7)
    values = torch.randn(len(graph))
    x, y = torch.randn(7, 3), torch.randn(graph.shape[0], 3)
    other = graph.with_values(values)
    torch.testing.assert_close(graph.multiply(x, values), other.multiply(x), rtol=0, atol=0)
    torch.testing.assert_close(
        graph.multiply_transposed(y, values), other.multiply_transposed(y), rtol=0, atol=0
    )
    torch.testing.assert_close(other.multiply(x), dense(graph, values) @ x)
    torch.testing.assert_close(other.multiply_transposed(y), dense(graph, values).t() @ y)


def test_a_graph_is_no_part_of_a_checkpoint_but_of_a_copy() -> None:
    graph = make_graph(False)
    assert not graph.state_dict()
    x = torch.randn(7, 2)
    assert torch.equal(propagate(copy.deepcopy(graph), x), propagate(graph, x))
