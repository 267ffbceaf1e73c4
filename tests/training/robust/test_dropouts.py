"""What is left out: modalities of items, and edges of graphs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mgstudy.models.graph import SparseGraph
from mgstudy.models.propagation import propagate
from mgstudy.training.robust.edge_dropout import EdgeDropout


def features_seen(problem: Any, method: Any) -> dict[str, list[Tensor]]:
    """What a loss finds when it reads every modality twice, once for all items in reverse."""
    features = problem.model.features
    reverse = torch.arange(len(features.table("image"))).flip(0)
    found: dict[str, list[Tensor]] = {}

    def read(batch: Any) -> Tensor:
        for modality in features.modalities:
            found[modality] = [features.rows(modality), features.rows(modality, reverse).flip(0)]
        return torch.zeros(())

    problem.model.loss = read
    problem.robust_loss(method)()
    return found


def test_a_dropped_modality_is_missing_wherever_it_is_read(vbpr: Any) -> None:
    method = vbpr.method("modality_dropout", probability=0.5)
    tables = {m: vbpr.model.features.table(m) for m in vbpr.model.features.modalities}
    counts = {"neither": 0, "image": 0, "text": 0}
    for _ in range(50):
        seen = features_seen(vbpr, method)
        factors = {m: (rows[0] / tables[m])[:, 0].round(decimals=3) for m, rows in seen.items()}
        for modality, (forwards, backwards) in seen.items():
            assert torch.equal(forwards, backwards)
            torch.testing.assert_close(forwards, factors[modality][:, None] * tables[modality])
        pairs = list(zip(factors["image"].tolist(), factors["text"].tolist(), strict=True))
        assert set(pairs) <= {(1.0, 1.0), (0.0, 2.0), (2.0, 0.0)}
        counts["neither"] += pairs.count((1.0, 1.0))
        counts["image"] += pairs.count((0.0, 2.0))
        counts["text"] += pairs.count((2.0, 0.0))
    drawn = sum(counts.values())
    assert drawn == 50 * 40
    assert counts["neither"] / drawn == pytest.approx(0.5, abs=0.05)
    assert counts["image"] / drawn == pytest.approx(0.25, abs=0.05)


def propagated(problem: Any, method: Any, graph: SparseGraph, x: Tensor, times: int = 1) -> Any:
    outputs = []

    def multiply(batch: Any) -> Tensor:
        outputs.extend(propagate(graph, x) for _ in range(times))
        return torch.zeros(())

    problem.model.loss = multiply
    problem.robust_loss(method)()
    return outputs


@pytest.fixture
def light_gcn(make_problem: Any) -> Any:
    return make_problem("LightGCN")


def test_edges_are_dropped_in_both_directions_and_the_rest_scaled(light_gcn: Any) -> None:
    graph = light_gcn.model.graph
    method = light_gcn.method("edge_dropout", probability=0.3)
    identity = torch.eye(graph.shape[0])
    full = propagate(graph, identity)
    (thinned,) = propagated(light_gcn, method, graph, identity)
    assert torch.equal(thinned, thinned.t())
    kept = thinned != 0
    torch.testing.assert_close(thinned[kept], full[kept] / 0.7)
    edges = int((full != 0).sum()) // 2
    share = 1 - int(kept.sum()) / (2 * edges)
    assert share == pytest.approx(0.3, abs=4 * (0.3 * 0.7 / edges) ** 0.5)


def test_one_loss_sees_one_thinned_graph_in_all_layers_and_the_next_another(light_gcn: Any) -> None:
    graph = light_gcn.model.graph
    x = torch.randn(graph.shape[1], 3)
    method = light_gcn.method("edge_dropout", probability=0.5)
    first, second = propagated(light_gcn, method, graph, x, times=2)
    (other,) = propagated(light_gcn, method, graph, x)
    assert torch.equal(first, second) and not torch.equal(first, other)


def test_propagation_keeps_its_expected_value(light_gcn: Any) -> None:
    graph = light_gcn.model.graph
    x = torch.randn(graph.shape[1], 3)
    method = light_gcn.method("edge_dropout", probability=0.3)
    draws = [propagated(light_gcn, method, graph, x)[0] for _ in range(2000)]
    mean, spread = torch.stack(draws).mean(dim=0), torch.stack(draws).std(dim=0)
    deviations = (mean - propagate(graph, x)) / (spread / len(draws) ** 0.5).clamp_min(1e-6)
    assert deviations.square().mean().item() == pytest.approx(1, abs=0.5)


def test_the_gradient_is_that_of_the_thinned_graph(make_problem: Any) -> None:
    problem = make_problem("FREEDOM")  # Its item graph is not symmetric.
    graph = problem.model.item_graph
    assert not graph.symmetric
    x = torch.randn(graph.shape[1], 2, requires_grad=True)
    method = problem.method("edge_dropout", probability=0.5)
    identity = torch.eye(graph.shape[1])

    def both(batch: Any) -> Tensor:
        matrix = propagate(graph, identity)
        direction = torch.randn(graph.shape[0], 2)
        (gradient,) = torch.autograd.grad(propagate(graph, x), x, direction)
        torch.testing.assert_close(gradient, matrix.t() @ direction)
        return torch.zeros(())

    problem.model.loss = both
    problem.robust_loss(method)()


def test_leaving_out_every_edge_is_refused() -> None:
    with pytest.raises(ValueError, match="less than 1"):
        EdgeDropout.Parameters(probability=1.0)
