from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.exceptions import RayActorError, RayTaskError

from mgstudy.study.running.failures import (
    Cause,
    FailureStorm,
    cause_of,
    reason_of,
)

RECORDED = json.loads(Path(__file__).with_name("recorded_failures.json").read_text())
"""What Ray 2.60 handed on of trials that were broken on purpose."""


def as_raised(recorded: dict[str, Any]) -> BaseException:
    """The exception again, of the class that was recorded."""
    name, text, within = recorded["class"], recorded["text"], recorded["within"]
    root: Exception | None = None
    if within is not None:
        root = getattr(ray.exceptions, within, None) or getattr(builtins, within)
        root = root(text)
    if name == "RayTaskError":
        return RayTaskError("train", text, root).as_instanceof_cause()
    error = (
        RayActorError(error_msg=text, actor_init_failed=recorded["in_creation"])
        if name.startswith(("Actor", "RayActor"))
        else getattr(ray.exceptions, name)(text)
    )
    error.__cause__ = root
    return error


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda recorded: recorded["what"])
def test_causes_are_told_apart_as_ray_raises_them(recorded: dict[str, Any]) -> None:
    cause = cause_of(as_raised(recorded))
    assert cause is (recorded["cause"] and Cause[recorded["cause"]])


def test_what_ray_loses_breaks_no_trial_by_its_own_fault() -> None:
    for name in ("LocalRayletDiedError", "OwnerDiedError", "OutOfDiskError", "NodeDiedError"):
        lost = getattr(ray.exceptions, name)
        error = lost("ab", None, "") if name == "OwnerDiedError" else lost("gone")
        assert cause_of(error) is Cause.WORKER
        assert cause_of(RayTaskError("train", "", error).as_instanceof_cause()) is Cause.WORKER
    told = "Traceback:\nValueError: no MemoryError, nor ray.exceptions.RayError"
    assert cause_of(RayActorError(error_msg=told, actor_init_failed=True)) is None
    assert cause_of(None) is Cause.WORKER
    assert cause_of(ValueError("of the driver's own")) is None


def test_the_reason_is_a_line_that_says_it_and_holds_no_secret() -> None:
    reasons = {entry["what"]: reason_of(as_raised(entry)) for entry in RECORDED}
    assert reasons["a bug while it was made"] == "the worker broke: KeyError: 'a bug'"
    for what in ("while it trained", "while it was made"):
        monitored = reasons[f"the memory monitor killed it {what}"]
        assert monitored.startswith("the worker broke: 1 worker(s) were killed due to the node")
    assert "exit code 3" in reasons["a worker raised SystemExit"]
    assert reason_of(None) == "the worker broke: unknown"
    secret = RayActorError(error_msg="cannot reach http://me:secret@host")
    assert reason_of(secret) == "the worker broke: cannot reach http://me:***@host"


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
