import numpy as np
import pytest

from mgstudy.errors import InputError
from mgstudy.features.encoders.table import as_categories


def test_categories_and_numbers_become_columns(encode) -> None:
    encoded = encode("table", multi_hot=["tags"], scaled=["price"])
    assert encoded.known.tolist() == [True, True, True, False, False]
    assert encoded.values.tolist() == [
        [1, 0, 1, 0],  # kitchen, toy, wood; no price, which is the mean
        [0, 1, 1, -1],
        [0, 1, 0, 1],
        [0, 0, 0, 0],
        [0, 0, 0, 0],
    ]


def test_a_category_of_few_items_has_no_column(encode) -> None:
    assert encode("table", multi_hot=["tags"], minimum_items=2).values.shape == (5, 2)
    with pytest.raises(InputError, match="'tags' has no category of 9 items"):
        encode("table", multi_hot=["tags"], minimum_items=9)


def test_a_column_whose_values_are_all_the_same_is_zero(encode) -> None:
    records = [{"parent_asin": key, "price": "7"} for key in ("B1", "B2")]
    encoded = encode("table", records=records, scaled=["price"])
    assert np.array_equal(encoded.values, np.zeros((5, 1)))


def test_what_is_no_number_is_named(encode) -> None:
    records = [{"parent_asin": "B1", "price": "cheap"}]
    with pytest.raises(InputError, match="price of item 'B1' is 'cheap', expected a number"):
        encode("table", records=records, scaled=["price"])


def test_categories_of_nested_lists() -> None:
    assert as_categories([["a", "b"], ["b", "c"], None]) == {"a", "b", "c"}
    assert as_categories(None) == set()
