import pytest
import torch

from mgstudy.models.dual_graph import UserNeighbours
from mgstudy.models.propagation import propagate

LENGTH = 6


@pytest.fixture
def neighbours(toy) -> UserNeighbours:
    """User 0 has four neighbours, user 1 has a full list, user 2 nobody, user 3 one."""
    lists = {user: ([], []) for user in range(12)}
    lists[0] = ([5, 2, 9, 7], [3.0, 2.0, 2.0, 1.0])
    lists[1] = ([2, 3, 4, 5, 6, 7], [6.0, 5.0, 4.0, 3.0, 2.0, 1.0])
    lists[3] = ([8], [4.0])
    return UserNeighbours(toy.with_neighbours(lists), LENGTH)


def dense(graph) -> torch.Tensor:
    return propagate(graph, torch.eye(graph.shape[1]))


def test_the_full_graph_weighs_by_the_softmax_of_shared_items(neighbours: UserNeighbours) -> None:
    weights = dense(neighbours.full())
    expected = torch.tensor([2.0, 3.0, 1.0, 2.0]).softmax(0)
    torch.testing.assert_close(weights[0, [2, 5, 7, 9]], expected)
    assert weights[3, 8].item() == 1.0
    torch.testing.assert_close(weights.sum(dim=1), torch.tensor([1.0, 1, 0, 1] + [0] * 8))


def test_copies_fill_up_short_lists_and_enter_the_softmax(neighbours: UserNeighbours) -> None:
    torch.manual_seed(0)
    copies = neighbours.draw_copies()
    counts = neighbours.shared_items
    assert copies[:4].sum().item() == LENGTH and (copies[:4] >= 1).all()
    assert copies[4:10].tolist() == [1.0] * 6
    assert copies[10].item() == LENGTH
    torch.manual_seed(0)
    weights = dense(neighbours.draw())
    listed = counts.values[:4].repeat_interleave(copies[:4].long()).softmax(0)
    expected = torch.stack([part.sum() for part in listed.split(copies[:4].int().tolist())])
    torch.testing.assert_close(weights[0, counts.columns[:4].long()], expected)
    assert weights[3, 8].item() == 1.0


def test_copies_are_drawn_from_the_list_as_it_grows(neighbours: UserNeighbours) -> None:
    """Pólya's urn: with four elements grown to six, all ten ways to share two copies are equally
    likely, whereas draws from the first four alone would favour two different elements."""
    torch.manual_seed(0)
    draws = 3000
    twice = sum(int((neighbours.draw_copies()[:4] == 3).any()) for _ in range(draws))
    assert twice / draws == pytest.approx(4 / 10, abs=0.04)


def test_every_epoch_draws_anew_and_the_same_seed_repeats(neighbours: UserNeighbours) -> None:
    torch.manual_seed(4)
    first = [neighbours.draw().values for _ in range(8)]
    torch.manual_seed(4)
    assert all(torch.equal(neighbours.draw().values, values) for values in first)
    assert any(not torch.equal(first[0], values) for values in first[1:])


def test_a_list_length_is_kept_apart_from_another(toy) -> None:
    for length in (1, 2):
        assert UserNeighbours(toy.dataset, length).full().row_offsets.diff().max() == length
