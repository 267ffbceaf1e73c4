"""Why trials break: what is worth another try, and when a study is not worth going on with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from ray.exceptions import OutOfMemoryError, RayActorError, RayError, RayTaskError

from mgstudy.urls import redacted


class Cause(StrEnum):
    """What broke a trial, where that is no fault of the trial's own."""

    WORKER = "worker lost"
    MEMORY = "out of memory"
    FILES = "files out of reach"


_NOT_BY_CODE = re.compile(r"^(ray\.exceptions\.\w+|MemoryError)\b", re.MULTILINE)
"""An exception in the text that Ray keeps of a worker that could not be made."""


def cause_of(error: BaseException | None) -> Cause | None:
    """What broke the worker of a trial; ``None`` for a mistake that another try would repeat.

    Args:
        error: What Ray raises of it, if that is known. A trial ends by itself whatever goes wrong
            in it, so an exception of code that gets as far as Ray comes from making the worker.
    """
    root = _root(error)
    if isinstance(root, OutOfMemoryError | MemoryError):
        return Cause.MEMORY
    if isinstance(root, RayActorError) and root.actor_init_failed:
        named = _NOT_BY_CODE.search(str(root))
        if named is None:
            return None
        return Cause.MEMORY if named[0].endswith("MemoryError") else Cause.WORKER
    return Cause.WORKER if root is None or isinstance(root, RayError) else None


def reason_of(error: BaseException | None) -> str:
    """Why a worker broke, in a line: Ray's memory monitor says it in the first, all else in the
    last."""
    lines = [line.strip() for line in str(error or "unknown").splitlines() if line.strip()]
    line = lines[0] if isinstance(_root(error), OutOfMemoryError) else lines[-1]
    return f"the worker broke: {redacted(line)}"


def _root(error: BaseException | None) -> BaseException | None:
    """What was raised at first."""
    while isinstance(error, RayError):
        within = error.cause if isinstance(error, RayTaskError) else error.__cause__
        if within is None:
            break
        error = within
    return error


class FailureStorm:
    """Notices that every trial fails, and for one reason, before a night is spent on it.

    Args:
        limit: After how many failures alike, before any success, a study should stop; ``None``
            for never.

    Attributes:
        reason: The common reason, once there is a storm.
    """

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.reason: str | None = None
        self._alike: set[str] = set()
        self._count = 0
        self._succeeded = False

    def finished(self, outcome: Mapping[str, Any], failed: bool) -> None:
        """Take note of how a trial ended."""
        if not failed:
            self._succeeded = True
            return
        reason = str(outcome.get("reason", "unknown"))
        self._count += 1
        self._alike.add(_without_numbers(reason))
        if self._succeeded or self.limit is None or self._count < self.limit:
            return
        if len(self._alike) == 1:
            self.reason = reason


def _without_numbers(reason: str) -> str:
    """The reason without what differs from trial to trial: numbers, addresses, identifiers."""
    return re.sub(r"\b(0x)?[0-9a-f]*\d[0-9a-f]*\b", "#", reason)
