from __future__ import annotations

import pytest

from mgstudy.study.running.failures import Cause, FailureStorm, cause_of, larger_share


@pytest.mark.parametrize(
    ("report", "cause"),
    [
        ("Failure # 1\nThe actor died unexpectedly before finishing this task.", Cause.WORKER),
        ("Failure # 1\nThe node hosting it was terminated", Cause.WORKER),
        ("", Cause.WORKER),
        ("ray::StudyTrial.train() (pid=3, ip=1.2.3.4)\nKeyError: 'a bug'", None),
        ("The actor died because of an error raised in its creation task, ray::...", None),
    ],
)
def test_what_code_raised_is_told_from_what_was_lost(report: str, cause: Cause | None) -> None:
    assert cause_of(report) is cause


def test_out_of_memory_gets_twice_the_share_up_to_the_whole_gpu() -> None:
    assert [larger_share(gpu) for gpu in (0, 0.125, 0.4, 0.6, 1, 2)] == [0, 0.25, 0.8, 1, 1, 2]


def failing(storm: FailureStorm, *reasons: str) -> str | None:
    for reason in reasons:
        storm.finished({"reason": reason}, failed=True)
    return storm.reason


def test_a_storm_is_the_first_failures_being_alike() -> None:
    assert failing(FailureStorm(3), "no file a", "no file a") is None
    assert failing(FailureStorm(3), "no file a", "no file a", "no file a") == "no file a"
    assert failing(FailureStorm(3), "no file a", "no file b", "no file a", "no file a") is None
    # Numbers and addresses differ from trial to trial, and mean nothing.
    told = failing(FailureStorm(2), "nan in epoch 2, at 0x7f3a", "nan in epoch 13, at 0x7f3b")
    assert told == "nan in epoch 13, at 0x7f3b"
    assert failing(FailureStorm(None), *["no file a"] * 100) is None


def test_one_success_is_no_storm() -> None:
    storm = FailureStorm(2)
    storm.finished({"reason": "epochs"}, failed=False)
    assert failing(storm, *["no file a"] * 5) is None
