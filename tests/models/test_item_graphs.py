import numpy as np
import pytest
import torch

from mgstudy.data.dataset import Dataset
from mgstudy.models.item_graphs import (
    binary_neighbour_matrix,
    consistent_neighbours,
    cosine_blocks,
    frozen_item_graph,
    mean_cosine,
    modality_weights,
    nearest_items,
    weighted_neighbour_matrix,
)
from mgstudy.models.propagation import propagate


def row(matrix, item: int) -> dict[int, float]:
    begin, end = matrix.indptr[item], matrix.indptr[item + 1]
    return dict(
        zip(matrix.indices[begin:end].tolist(), matrix.data[begin:end].tolist(), strict=True)
    )


def test_nearest_items_are_the_specified_ones(toy) -> None:
    visual = row(nearest_items(toy.dataset, "image", 3), 0)
    assert visual == pytest.approx({0: 1, 18: 0.962636, 23: 0.408433}, abs=1e-6)
    text = row(nearest_items(toy.dataset, "text", 3), 0)
    assert text == pytest.approx({0: 1, 19: 0.916410, 2: 0.632676}, abs=1e-6)
    weighted = row(weighted_neighbour_matrix(toy.dataset, "image", 3), 0)
    assert weighted == pytest.approx({0: 0.421751, 18: 0.411533, 23: 0.200310}, abs=1e-6)
    assert binary_neighbour_matrix(toy.dataset, "text", 3).data == pytest.approx(1 / 3)


@pytest.mark.parametrize(("modality", "mean"), [("image", 0.153563), ("text", 0.000414)])
def test_blocks_cover_all_pairs(
    toy, modality: str, mean: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mgstudy.models.item_graphs._BLOCK_ENTRIES", 24 * 7)
    table = torch.from_numpy(toy.dataset.features[modality])
    blocks = list(cosine_blocks(table))
    assert [start for start, _ in blocks] == [0, 7, 14, 21]
    assert torch.cat([block for _, block in blocks]).mean().item() == pytest.approx(mean, abs=1e-6)


def with_table(dataset: Dataset, table: list[list[float]]) -> Dataset:
    repeats = -(-dataset.item_count // len(table))
    values = np.tile(np.array(table, dtype=np.float32), (repeats, 1))[: dataset.item_count]
    return dataset.with_features({"image": values})


def test_items_without_features_are_their_own_only_neighbour(toy) -> None:
    table = toy.dataset.features["image"].copy()
    table[[4, 9]] = 0.0
    dataset = toy.dataset.with_features({"image": table})
    matrix = nearest_items(dataset, "image", 5)
    assert row(matrix, 4) == {4: 1.0}
    assert all(4 not in row(matrix, item) for item in range(24) if item != 4)
    assert np.isfinite(weighted_neighbour_matrix(dataset, "image", 24).data).all()
    graph = frozen_item_graph(dataset, 5, 0.1)
    torch.testing.assert_close(propagate(graph, torch.ones(24, 1)), torch.ones(24, 1))


def test_an_item_is_its_own_neighbour_even_among_identical_ones(toy) -> None:
    dataset = with_table(toy.dataset, [[1.0, 2.0]])
    matrix = nearest_items(dataset, "image", 2)
    assert all(item in row(matrix, item) for item in range(24))


def test_a_negative_row_sum_gives_an_empty_row_and_no_nan(toy) -> None:
    # With all items as neighbours, the first direction is opposed to all the others.
    dataset = with_table(toy.dataset, [[-1.0, 0.1], *([[1.0, 0.0]] * 23)])
    matrix = weighted_neighbour_matrix(dataset, "image", 24)
    assert np.isfinite(matrix.data).all()
    assert not any(row(matrix, 0).values())


def test_a_changed_table_gets_its_own_graph(toy) -> None:
    before = nearest_items(toy.dataset, "image", 3)
    changed = {**toy.dataset.features, "image": -toy.dataset.features["image"][::-1].copy()}
    after = nearest_items(toy.dataset.with_features(changed), "image", 3)
    assert (before != after).nnz > 0


@pytest.mark.parametrize(
    ("modalities", "expected"),
    [
        (("image",), {"image": 1.0}),
        (("text",), {"text": 1.0}),
        (("image", "text"), {"image": 0.1, "text": 0.9}),
        (("image", "text", "audio"), {"image": 0.1, "text": 0.45, "audio": 0.45}),
        (("text", "audio"), {"text": 0.5, "audio": 0.5}),
    ],
)
def test_modality_weights(modalities: tuple[str, ...], expected: dict[str, float]) -> None:
    assert modality_weights(modalities, 0.1) == pytest.approx(expected)


def cosines(table: np.ndarray) -> np.ndarray:
    directions = table / np.linalg.norm(table, axis=1, keepdims=True)
    return directions @ directions.T


@pytest.mark.parametrize(("modality", "expected"), [("image", 0.153563), ("text", 0.000414)])
def test_the_mean_over_all_pairs_is_the_specified_one(toy, modality: str, expected: float) -> None:
    table = torch.from_numpy(toy.dataset.features[modality])
    assert mean_cosine(table) == pytest.approx(expected, abs=1e-6)


def test_consistent_neighbours_are_the_nearest_of_those_alike_in_every_modality(
    toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Blocks of seven rows of similarities.
    monkeypatch.setattr("mgstudy.models.item_graphs._BLOCK_ENTRIES", 7 * 24)
    similarities = [cosines(table) for table in toy.dataset.features.values()]
    alike = np.all([matrix >= matrix.mean() for matrix in similarities], axis=0)
    assert alike.sum(axis=1).min() < 5 < alike.sum(axis=1).max()
    for matrix, similarity in zip(consistent_neighbours(toy.dataset, 5), similarities, strict=True):
        assert (matrix.data == 1).all()
        for item in range(24):
            ranked = [other for other in np.argsort(-similarity[item]) if alike[item, other]]
            found = matrix.indices[matrix.indptr[item] : matrix.indptr[item + 1]]
            assert sorted(found) == sorted(ranked[:5])


def test_an_item_without_features_is_its_own_only_consistent_neighbour(toy) -> None:
    table = toy.dataset.features["text"].copy()
    table[4] = 0.0
    dataset = toy.dataset.with_features({**toy.dataset.features, "text": table})
    for matrix in consistent_neighbours(dataset, 5):
        dense = matrix.toarray()
        assert dense[4].nonzero()[0].tolist() == [4]
        assert dense[:, 4].nonzero()[0].tolist() == [4]
