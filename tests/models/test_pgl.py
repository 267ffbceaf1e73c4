import numpy as np
import pytest
import torch

from mgstudy.data.dataset import Dataset, Interactions
from mgstudy.models.interaction_graphs import symmetric_graph
from mgstudy.models.pgl import PGL, global_principal_graph
from mgstudy.models.propagation import propagate


def make_model(toy, **settings) -> PGL:
    parameters = PGL.Parameters(embedding_size=8, neighbour_count=3, **settings)
    return PGL(toy.dataset, parameters)


def test_agrees_with_the_specification(toy) -> None:
    model = make_model(toy, edge_dropout=0.0, dropout=0.0, contrastive_weight=0.1)
    model.before_epoch(0)
    toy.check(
        model,
        {
            0: model.user_embeddings["image"],
            1: model.user_embeddings["text"],
            2: model.features.table("image"),
            3: model.features.table("text"),
            **toy.linear(4, model.projections["image"]),
            **toy.linear(6, model.projections["text"]),
        },
        loss=0.732542,
        scores="-0.003816 0.038015 0.026061 0.043717 | 0.210841 0.232495 0.205552 | "
        "0.361980 0.606381 0.287886",
        gradients="0: 0.11281, 1: 0.071814, 2: 0.057986, 4: 0.050351",
    )


def test_the_contrast_is_off_by_default_and_noisy_only_in_training(toy) -> None:
    torch.manual_seed(0)
    assert make_model(toy).contrastive_weight == 0
    model = make_model(toy, dropout=0.5, contrastive_weight=1.0).train()
    assert model.loss(toy.batch) != model.loss(toy.batch)
    model.eval()
    assert model.loss(toy.batch) == model.loss(toy.batch)


def test_a_local_principal_graph_is_drawn_every_epoch_and_left_out_of_ranking(toy) -> None:
    torch.manual_seed(0)
    model = make_model(toy)
    columns = []
    for epoch in range(2):
        model.before_epoch(epoch)
        assert len(model.training_graph) == 2 * int(59 * 0.3)
        columns.append(model.training_graph.columns.tolist())
    assert columns[0] != columns[1]
    assert len(model.full_graph) == 2 * 59


def dense(graph) -> np.ndarray:
    return propagate(graph, torch.eye(graph.shape[1])).numpy()


@pytest.mark.parametrize(("rank", "quarter"), [(8, 2), (16, 4), (64, 6)])
def test_the_global_principal_graph_follows_its_definition(
    toy, rank: int, quarter: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Blocks of five users; the toy graph has 2 * 10 singular values above zero and two pairs of
    # zero, so rank 64 keeps them all.
    monkeypatch.setattr("mgstudy.models.item_graphs._BLOCK_ENTRIES", 5 * 24)
    left, values, right = np.linalg.svd(dense(symmetric_graph(toy.dataset)).astype(np.float64))
    retained = values[: min(rank, 24)]
    weights = retained[:quarter] * retained[len(retained) - quarter :]
    expected = (left[:, :quarter] * weights) @ right[:quarter]
    expected[np.abs(expected) < 1e-3] = 0.0
    graph = global_principal_graph(toy.dataset, rank)
    np.testing.assert_allclose(dense(graph), expected, atol=1e-6)


def test_a_global_principal_graph_stays_through_all_epochs(toy) -> None:
    model = make_model(toy, principal_graph="global")
    before = dense(model.training_graph)
    assert before.any()
    model.before_epoch(0)
    assert np.array_equal(dense(model.training_graph), before)
    assert model.loss(toy.batch).isfinite()


def test_a_large_global_principal_graph_repeats_to_the_bit() -> None:
    generator = np.random.default_rng(0)
    pairs = np.unique(generator.integers(0, [600, 400], (6000, 2)), axis=0)
    none = Interactions(np.array([], dtype=np.int64), np.array([], dtype=np.int64))
    train = Interactions(pairs[:, 0], pairs[:, 1])
    graphs = [
        global_principal_graph(Dataset.from_arrays("random", 600, 400, train, none, none, {}), 64)
        for _ in range(2)
    ]
    assert 0 < len(graphs[0]) < 2 * 600 * 400
    assert graphs[0].values.abs().min() >= 1e-3
    assert torch.equal(graphs[0].columns, graphs[1].columns)
    assert torch.equal(graphs[0].values, graphs[1].values)
