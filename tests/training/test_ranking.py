import numpy as np
import pytest
import torch

from mgstudy.data.dataset import Dataset
from mgstudy.training.ranking import FullRanking, top_items

INFINITY = float("inf")


def test_equal_scores_are_ranked_by_item() -> None:
    scores = torch.tensor(
        [
            [1.0, 3.0, 2.0, 3.0, 1.0, 3.0],
            [0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
            [6.0, 5.0, 4.0, 3.0, 2.0, 1.0],
        ]
    )
    assert top_items(scores, 4).tolist() == [[1, 3, 5, 2], [0, 1, 2, 3], [0, 1, 2, 3]]
    # The list ends within the three items that share the highest score.
    assert top_items(scores, 2)[0].tolist() == [1, 3]


def test_a_list_ends_where_the_candidates_do() -> None:
    scores = torch.tensor([[-INFINITY, 2.0, -INFINITY, 1.0], [-INFINITY] * 4])
    assert top_items(scores, 3).tolist() == [[1, 3, -1], [-1, -1, -1]]
    assert top_items(scores, 9).tolist() == [[1, 3, -1, -1], [-1, -1, -1, -1]]


def test_a_score_that_is_not_a_number_is_never_ranked() -> None:
    with pytest.raises(FloatingPointError, match="NaN"):
        top_items(torch.tensor([[1.0, 2.0, 3.0], [1.0, float("nan"), 3.0]]), 1)


@pytest.mark.parametrize("levels", [40, 10**6], ids=["many ties", "hardly any ties"])
def test_agrees_with_sorting_when_there_are_many_items(levels: int) -> None:
    # 1003 items: the selection in two stages has groups, and items left over.
    scores = torch.randint(levels, (50, 1003), generator=torch.Generator().manual_seed(0)).float()
    scores[0, 1001] = levels
    expected = scores.sort(dim=1, descending=True, stable=True).indices[:, :50]
    assert torch.equal(top_items(scores, 50), expected)
    scores[7, 1002] = torch.nan
    with pytest.raises(FloatingPointError):
        top_items(scores, 50)


@pytest.mark.parametrize("columns", [5, 1000], ids=["all at once", "in two stages"])
def test_every_float_is_in_its_place(columns: int) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(20, columns, generator=generator)
    # Zero and minus zero are equal; the smallest and the largest floats are in order.
    scores[:, :3] = torch.tensor([0.0, -0.0, 0.0])
    scores[1], scores[2] = -scores[1].abs(), -INFINITY
    scores[2, 3:5] = torch.tensor([-3e38, -1e-45])
    scores[3, 3:5] = torch.tensor([INFINITY, 3e38])
    expected = scores.sort(dim=1, descending=True, stable=True)
    items = expected.indices.masked_fill(expected.values == -INFINITY, -1)
    for length in (1, 4, 40, columns):
        assert torch.equal(top_items(scores, length), items[:, :length])
        # The path of other devices and precisions.
        assert torch.equal(top_items(scores.double(), length), items[:, :length])


@pytest.mark.parametrize("block_size", [None, 1, 7])
@pytest.mark.parametrize("levels", [3, 10**6], ids=["many ties", "hardly any ties"])
def test_agrees_with_sorting_each_user(
    small_dataset: Dataset, block_size: int | None, levels: int
) -> None:
    random = np.random.default_rng(0)
    scores = random.integers(levels, size=(60, 40)).astype(np.float32)
    users = random.permutation(60)[:31]
    ranking = FullRanking(small_dataset, ("train", "test"), block_size=block_size)
    lists = torch.cat(
        list(ranking.lists(lambda u: torch.from_numpy(scores[u.numpy()]), torch.tensor(users), 10))
    ).numpy()
    for user, items in zip(users, lists, strict=True):
        known = {
            item
            for split in (small_dataset.train, small_dataset.test)
            for item in split.items[split.users == user]
        }
        candidates = [item for item in range(40) if item not in known]
        expected = sorted(candidates, key=lambda item: (-scores[user, item], item))[:10]
        assert items.tolist() == expected + [-1] * (10 - len(expected))
