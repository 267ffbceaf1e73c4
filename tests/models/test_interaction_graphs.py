from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mgstudy.data.dataset import Dataset, Interactions
from mgstudy.data.derived import DerivedArrays
from mgstudy.models.graph import SparseGraph
from mgstudy.models.interaction_graphs import (
    EdgePruner,
    co_occurrence,
    interaction_matrix,
    mean_blocks,
    mean_graph,
    symmetric_graph,
    user_to_item_graph,
)
from mgstudy.models.propagation import propagate


def dense(graph: SparseGraph) -> Tensor:
    return propagate(graph, torch.eye(graph.shape[1]))


def repeated(dataset: Dataset) -> Dataset:
    train = dataset.train
    return Dataset.from_arrays(
        "repeated",
        dataset.user_count,
        dataset.item_count,
        Interactions(np.append(train.users, 0), np.append(train.items, 1)),
        dataset.validation,
        dataset.test,
        {},
    )


def test_symmetric_graph_has_the_specified_values(toy) -> None:
    graph = dense(symmetric_graph(toy.dataset))
    assert graph[0, 12 + 1].item() == pytest.approx(0.204124, abs=1e-6)
    assert torch.equal(graph, graph.t())
    assert (graph > 0).sum() == 2 * 59
    # Isolated users 3 and 9, items 12 and 23.
    assert (~graph.any(dim=1)).nonzero().flatten().tolist() == [3, 9, 24, 35]


def test_repeated_interactions_collapse_unless_counted(toy) -> None:
    dataset = repeated(toy.dataset)
    assert torch.equal(dense(symmetric_graph(dataset)), dense(symmetric_graph(toy.dataset)))
    counted = dense(symmetric_graph(dataset, epsilon=0.0, count_repeats=True))
    assert counted[0, 13].item() == pytest.approx(2 / np.sqrt(9 * 4), abs=1e-6)


def test_mean_graphs_average_over_neighbours(toy) -> None:
    pairs = torch.tensor(interaction_matrix(toy.dataset).toarray()).float()
    with_self = dense(mean_graph(toy.dataset))
    assert with_self[0, 0].item() == pytest.approx(1 / 9)
    assert with_self[3, 3].item() == 1.0
    torch.testing.assert_close(with_self.sum(dim=1), torch.ones(36))
    over_items, over_users = (dense(block) for block in mean_blocks(toy.dataset))
    assert over_items[0, 1].item() == pytest.approx(1 / 8)
    for block, of_pairs in ((over_items, pairs), (over_users, pairs.t())):
        torch.testing.assert_close(block, of_pairs / of_pairs.sum(dim=1, keepdim=True).clamp(min=1))
        assert block.sum(dim=1).unique().tolist() == pytest.approx([0, 1])


def test_user_to_item_blocks(toy) -> None:
    raw = dense(user_to_item_graph(toy.dataset, normalized=False))
    assert torch.equal(raw, torch.tensor(interaction_matrix(toy.dataset).toarray()).float())
    normalized = dense(user_to_item_graph(toy.dataset, normalized=True))
    torch.testing.assert_close(normalized, dense(symmetric_graph(toy.dataset, 0.0))[:12, 12:])


def test_graphs_are_computed_once_and_mapped_by_the_next_trial(toy, tmp_path: Path) -> None:
    first = replace(toy.dataset, derived=DerivedArrays(tmp_path))
    second = replace(toy.dataset, derived=DerivedArrays(tmp_path))
    expected = dense(mean_graph(first))
    written = sorted(tmp_path.rglob("*.npy"))
    times = [path.stat().st_mtime_ns for path in written]
    assert torch.equal(dense(mean_graph(second)), expected)
    assert [path.stat().st_mtime_ns for path in written] == times
    assert sorted(tmp_path.rglob("*.npy")) == written


class TestPruning:
    def test_keeping_every_edge_gives_the_full_graph(self, toy) -> None:
        pruned = EdgePruner(toy.dataset).draw(0.0, degree_sensitive=True)
        assert torch.equal(dense(pruned), dense(symmetric_graph(toy.dataset)))

    @pytest.mark.parametrize("degree_sensitive", [True, False])
    def test_a_drawn_graph_is_symmetric_and_normalised_by_what_is_left(
        self, toy, degree_sensitive: bool
    ) -> None:
        torch.manual_seed(5)
        graph = dense(EdgePruner(toy.dataset).draw(0.5, degree_sensitive))
        assert torch.equal(graph, graph.t())
        edges = graph > 0
        assert edges.sum() == 2 * 29
        assert (edges & (dense(symmetric_graph(toy.dataset)) == 0)).sum() == 0
        degrees = edges.sum(dim=1).double()
        expected = edges / (degrees[:, None] * degrees[None, :]).sqrt().clamp(min=1.0)
        torch.testing.assert_close(graph, expected.float())

    def test_each_draw_differs_and_repeats_with_the_seed(self, toy) -> None:
        pruner = EdgePruner(toy.dataset)
        torch.manual_seed(1)
        draws = [dense(pruner.draw(0.5, True)) for _ in range(2)]
        torch.manual_seed(1)
        again = dense(pruner.draw(0.5, True))
        assert not torch.equal(*draws)
        assert torch.equal(draws[0], again)

    def test_edges_are_drawn_in_proportion_to_their_weight(self) -> None:
        # Users 0 and 1 with one edge each to items of degree 1, and 9 edges into item 2: weights
        # 1, 1 and 1/3. Drawing one edge keeps a given heavy edge with probability 1 / 5.
        users = np.arange(11)
        items = np.array([0, 1] + [2] * 9)
        none = Interactions(np.array([], dtype=np.int64), np.array([], dtype=np.int64))
        dataset = Dataset.from_arrays("star", 11, 3, Interactions(users, items), none, none, {})
        pruner = EdgePruner(dataset)
        torch.manual_seed(0)
        draws = 1000
        for degree_sensitive, expected in ((True, 1 / 5), (False, 1 / 11)):
            kept = sum(
                int(pruner.draw(0.9, degree_sensitive).columns[0]) == 11 for _ in range(draws)
            )
            deviation = np.sqrt(draws * expected * (1 - expected))
            assert abs(kept - draws * expected) < 4 * deviation


class TestCoOccurrence:
    def neighbours(self, dataset: Dataset, of: str, node: int, limit: int = 10) -> dict[int, float]:
        found = co_occurrence(dataset, of, limit)  # type: ignore[arg-type]
        span = slice(found.indptr[node], found.indptr[node + 1])
        return dict(zip(found.indices[span].tolist(), found.data[span].tolist(), strict=True))

    def test_has_the_specified_counts(self, toy) -> None:
        assert self.neighbours(toy.dataset, "users", 2) == {0: 2, 7: 1, 11: 2}
        assert self.neighbours(toy.dataset, "users", 7) == {0: 2, 1: 1, 2: 1, 4: 1, 5: 4, 6: 6}
        assert self.neighbours(toy.dataset, "users", 3) == {}

    def test_keeps_the_nearest_in_order_of_count_then_id(self, toy) -> None:
        assert list(self.neighbours(toy.dataset, "users", 7, 4).items()) == [
            (6, 6),
            (5, 4),
            (0, 2),
            (1, 1),
        ]

    def test_blocks_of_rows_give_the_same_as_all_at_once(
        self, toy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = co_occurrence(toy.dataset, "items", 3)
        monkeypatch.setattr("mgstudy.models.interaction_graphs._PRODUCT_ENTRIES", 20)
        blocks = co_occurrence(replace(toy.dataset, derived=DerivedArrays()), "items", 3)
        for part in ("indptr", "indices", "data"):
            assert getattr(whole, part).tolist() == getattr(blocks, part).tolist()
