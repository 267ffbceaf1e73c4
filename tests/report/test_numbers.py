from __future__ import annotations

import math

import pytest

from mgstudy.report.numbers import count, duration, parameter_name, percent, score


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.2, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (200, "3 min 20 s"),
        (3599.7, "1 h 0 min"),
        (7500, "2 h 5 min"),
    ],
)
def test_durations_are_said_as_people_do(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_what_is_not_there_is_empty() -> None:
    assert [score(0.12345), score(None), score(math.nan)] == ["0.1235", "", ""]
    # No change has a sign too, but never a minus.
    assert [percent(0.0321), percent(-0.0001), percent(None)] == ["+3.2%", "+0.0%", ""]


def test_many_are_counted_in_thousands_and_millions() -> None:
    assert [count(n) for n in (950, 9999, 38_400, 1_240_000)] == ["950", "9999", "38k", "1.2M"]


def test_a_parameter_is_called_by_its_last_name() -> None:
    assert parameter_name("gradient.mirror_gradient.alpha2") == "alpha2"
    assert parameter_name("embedding_size") == "embedding_size"
