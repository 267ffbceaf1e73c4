"""A driver's sign of life: who drives a study, and when it last moved.

Whether it lives is for locks to say, which the system or the database lets go of when a process
dies, and which depend on no clock. The time of the heartbeat tells of one that lives and hangs: the
time since the machine started, for whoever looks on the same machine, since a clock may be set; the
file's own for others.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ray.tune import Callback

BEAT_SECONDS = 10.0
"""How often a driver that moves says so."""
SILENT_SECONDS = 900.0
"""A driver that lives and has said nothing for so long is taken to hang; a database that is away
is waited for somewhat shorter."""


@dataclass(frozen=True)
class Driver:
    """The process that drives a study, or did last.

    Attributes:
        name: Process, machine and since when; empty if that is not known, as after a study that
            was stopped politely, or of a driver on a machine with another copy of the workspace.
        is_alive: Whether it drives the study now.
        silent_seconds: How long ago it last moved.
    """

    name: str = ""
    is_alive: bool = False
    silent_seconds: float = 0.0

    @property
    def hangs(self) -> bool:
        """Whether it lives but does not move."""
        return self.is_alive and self.silent_seconds > SILENT_SECONDS


def introduce(path: Path) -> None:
    """Write down that this process drives the study.

    Raises:
        OSError: If it cannot be written.
    """
    since = datetime.now(UTC).isoformat(timespec="seconds")
    holder = {"process": os.getpid(), "host": socket.gethostname(), "since": since}
    _write(path, holder)


def read_driver(path: Path, is_alive: bool) -> Driver:
    """Who drives the study, or did.

    Args:
        path: Where ``introduce`` wrote it.
        is_alive: What the locks say.
    """
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        name = f"process {holder['process']} on {holder['host']} since {holder['since']}"
        if holder.get("start") and holder["start"] == _start_of_machine():
            silent = time.monotonic() - holder["moved"]
        else:
            # A clock that was set back must not make the heartbeat one of the future.
            silent = max(0.0, time.time() - path.stat().st_mtime)
    except (OSError, ValueError, KeyError, TypeError):
        return Driver(is_alive=is_alive)
    return Driver(name, is_alive, silent)


class Heartbeat(Callback):  # type: ignore[misc]
    """Renews the sign of life as long as Ray Tune's loop goes round.

    Args:
        path: Where ``introduce`` wrote it.
        seconds: How often.
    """

    def __init__(self, path: Path, seconds: float = BEAT_SECONDS) -> None:
        self._path, self._seconds = path, seconds
        self._last = time.monotonic()

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Say that the driver moves, unless it did a moment ago."""
        now = time.monotonic()
        if now - self._last >= self._seconds:
            self._last = now
            # A disk that is full is for others to tell of.
            with suppress(OSError, ValueError):
                _write(self._path, json.loads(self._path.read_text(encoding="utf-8")))


def _write(path: Path, holder: Mapping[str, Any]) -> None:
    """Write who drives, and that it moves now, in one step: others read it at any time."""
    moved = {"start": _start_of_machine(), "moved": time.monotonic()}
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(json.dumps({**holder, **moved}), encoding="utf-8")
    fresh.replace(path)


def _start_of_machine() -> str:
    """What tells this machine's present run from another's and from those before; empty where the
    system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
