import re

import numpy as np
import pytest

from mgstudy.errors import InputError
from mgstudy.features.encoders.table import as_categories, as_number


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


def test_what_is_no_number_may_be_taken_for_missing(encode) -> None:
    prices = {"B1": 10, "B2": "30", "B3": "from 12.99"}
    records = [{"parent_asin": key, "price": price} for key, price in prices.items()]
    encoded = encode("table", records=records, scaled=["price"], unreadable="missing")
    assert encoded.values.tolist() == [[0], [-1], [1], [0], [0]]
    assert encoded.known.tolist() == [False, True, True, False, False]


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("$1,234.50", 1234.5),
        ("12.99", 12.99),
        (".5", 0.5),
        ("1e3", 1000),
        (-3, -3),
        ("12,99", None),
        ("1,23", None),
        ("1.299,00", None),
        ("1_000", None),
        ("—", None),
        (".", None),
        ("nan", None),
        ("inf", None),
        (float("nan"), None),
        (True, None),
        (10**400, None),
        ("1e300", None),
        ([1], None),
    ],
)
def test_a_number_is_read_as_it_is_meant_or_not_at_all(value, number) -> None:
    assert as_number(value) == number


def test_a_file_without_a_record_of_any_item_is_refused_with_its_own_names(encode) -> None:
    records = [{"parent_asin": f"{row}.0", "price": 1} for row in range(9)]
    message = (
        "has no record of any of the dataset's 5 items, such as 'B3'; its own are '0.0', '1.0'"
    )
    with pytest.raises(InputError, match=re.escape(message)):
        encode("table", records=records, scaled=["price"])


def test_categories_of_nested_lists() -> None:
    assert as_categories([["a", "b"], ["b", "c"], None]) == {"a", "b", "c"}
    assert as_categories(None) == set()


def test_more_categories_than_a_table_may_have_are_refused(encode, monkeypatch) -> None:
    monkeypatch.setenv("MGSTUDY_TABLE_BYTES", "59")
    said = r"meta\.jsonl: 3 columns of 5 rows are more than 59 bytes; set \$MG"
    with pytest.raises(InputError, match=said):
        encode("table", multi_hot=["tags"])
    monkeypatch.setenv("MGSTUDY_TABLE_BYTES", "60")
    assert encode("table", multi_hot=["tags"]).values.shape == (5, 3)
