from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch_threads import torch_threads

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


@pytest.fixture
def three_threads() -> Iterator[None]:
    with torch_threads(3):
        yield


@pytest.mark.usefixtures("three_threads")
def test_blocks_in_several_threads_give_what_one_thread_gives(small_dataset: Dataset) -> None:
    factors = torch.randn(100, 16, generator=torch.Generator().manual_seed(0)).requires_grad_()
    users, items = factors[:60], factors[60:]
    inside = ContextVar("inside", default=False)
    seen = set()

    def scorer(ids: torch.Tensor) -> torch.Tensor:
        scores = users[ids] @ items.t()
        seen.add((torch.get_num_threads(), inside.get(), scores.requires_grad))
        return scores

    ranking = FullRanking(small_dataset, block_size=7)
    ids = torch.arange(60)
    inside.set(True)
    several = torch.cat(list(ranking.lists(scorer, ids, 10)))
    # Each thread computes alone, without gradients, and in the caller's context.
    assert seen == {(1, True, False)}
    assert torch.get_num_threads() == 3
    torch.set_num_threads(1)
    assert torch.equal(several, torch.cat(list(ranking.lists(scorer, ids, 10))))


@pytest.mark.usefixtures("three_threads")
def test_a_scorer_that_fails_is_heard_and_leaves_torch_its_threads(small_dataset: Dataset) -> None:
    ranking = FullRanking(small_dataset, block_size=7)
    with pytest.raises(FloatingPointError):
        list(ranking.lists(lambda ids: torch.full((len(ids), 40), torch.nan), torch.arange(60), 10))
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize(("items", "users"), [(2**10, 1024), (2**16, 16), (2**18, 16)])
def test_many_items_are_read_for_several_users_at_once(
    small_dataset: Dataset, items: int, users: int
) -> None:
    assert FullRanking(replace(small_dataset, item_count=items)).block_size == users


def test_ranks_any_users(small_dataset: Dataset) -> None:
    ranking = FullRanking(small_dataset)
    users = torch.tensor([5, 5, 3])
    lists = torch.cat(list(ranking.lists(lambda ids: torch.zeros(len(ids), 40), users, 4)))
    known = set(small_dataset.train.items[small_dataset.train.users == 5])
    expected = [item for item in range(40) if item not in known][:4]
    assert lists[:2].tolist() == [expected, expected]
