import pytest
import torch

from mgstudy.models.highest import GROUP, highest


@pytest.mark.parametrize("columns", [12, 2 * 5 * GROUP, 2 * 5 * GROUP + GROUP - 1, 1003])
def test_agrees_with_the_top_of_all_columns(columns: int) -> None:
    torch.manual_seed(0)
    values = torch.randn(40, columns)
    values[torch.rand(40, columns) < 0.2] = -torch.inf
    values[:, -1] = torch.inf
    expected = values.topk(5, dim=1)
    found, places = highest(values, 5)
    assert torch.equal(found, expected.values)
    assert torch.equal(places, expected.indices)


def test_of_equal_values_none_is_found_twice() -> None:
    _, places = highest(torch.zeros(3, 1003), 5)
    assert all(len(row.unique()) == 5 for row in places)
