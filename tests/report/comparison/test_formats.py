"""What is said below a comparison's table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mgstudy.report.comparison.formats import _what_is_seen


@pytest.mark.parametrize(
    ("seeds", "searches", "said"),
    [
        ([0.104, 0.2, np.nan], [np.nan] * 3, ["10.4% to 20.0% between two configurations."]),
        ([0.104, 0.1041], [0.286, np.inf], ["10.4% between two", "28.6% between what two"]),
    ],
)
def test_what_can_be_seen_is_a_range_or_one_share(seeds, searches, said) -> None:
    table = pd.DataFrame({"seen_over_seeds": seeds, "seen_over_searches": searches})
    (sentence,) = _what_is_seen(table)
    assert sentence.startswith("Seen 4 times of 5 are differences of ")
    for part in said:
        assert part in sentence
    assert sentence.count(" to ") == (1 if len(said) == 1 else 0)


def test_nothing_is_said_where_nothing_can_be_seen() -> None:
    table = pd.DataFrame({"seen_over_seeds": [np.nan], "seen_over_searches": [np.inf]})
    assert _what_is_seen(table) == []
