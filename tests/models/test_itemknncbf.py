import torch
from pretended_gpu import PretendedGpu

from mgstudy.models.itemknncbf import ItemKNNCBF


def test_agrees_with_the_specification(toy) -> None:
    model = ItemKNNCBF(toy.dataset, ItemKNNCBF.Parameters(neighbour_count=3, shrinkage=10))
    toy.check(
        model,
        {},
        loss=None,
        scores="0.290138 0.884504 0 0 | 0 0 0 | 0.122228 0.518094 0",
    )


def test_blocks_give_the_same_as_all_at_once(toy, monkeypatch) -> None:
    model = ItemKNNCBF(toy.dataset, ItemKNNCBF.Parameters(neighbour_count=3))
    whole = model.scorer()(torch.arange(12))
    monkeypatch.setattr("mgstudy.models.item_graphs._BLOCK_ENTRIES", 24 * 7)
    torch.testing.assert_close(model.scorer()(torch.arange(12)), whole)


def test_ranking_sees_what_is_done_to_the_features(toy) -> None:
    model = ItemKNNCBF(toy.dataset, ItemKNNCBF.Parameters(neighbour_count=3))
    clean = model.scorer()(torch.arange(12))
    with model.features.transformed(lambda modality, rows, items: rows.flip(0)):
        assert not torch.allclose(model.scorer()(torch.arange(12)), clean)


def test_neighbours_are_computed_in_memory_wherever_the_features_lie(toy) -> None:
    with PretendedGpu() as gpu:
        model = ItemKNNCBF(toy.dataset, ItemKNNCBF.Parameters(neighbour_count=3)).to("cuda")
        model.scorer()
    # They are kept for whoever comes next, on whatever device.
    assert not gpu.operations.keys() & {"topk", "addmm_"}
