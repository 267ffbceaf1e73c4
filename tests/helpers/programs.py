"""Programs that tests start: never waited for without an end, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

MGSTUDY = Path(sys.executable).with_name("mgstudy")
DEADLINE = 600.0


def restore_signals() -> None:
    """Let programs that this process starts be interrupted by Ctrl-C.

    A shell starts what it puts in the background with SIGINT ignored, and programs inherit that;
    what this process handles, they do not.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def started(
    *command: object,
    seconds: float = DEADLINE,
    environment: Mapping[str, object] | None = None,
    **settings: Any,
) -> Iterator[subprocess.Popen[str]]:
    """Start a program in a session of its own, as a terminal does.

    Its session is killed when the test leaves it, and after its time is up, so that reading what it
    prints ends, too.

    Args:
        command: The program and its arguments.
        seconds: How long it may run.
        environment: Variables that it gets besides those of this process.
        settings: Go to ``Popen``; its input and outputs are pipes of text unless these say
            otherwise.
    """
    given = {name: str(value) for name, value in (environment or {}).items()}
    process = subprocess.Popen(
        [os.fspath(word) if isinstance(word, Path) else str(word) for word in command],
        env={**os.environ, "PYTHONUNBUFFERED": "1", **given},
        start_new_session=True,
        text=True,
        **dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE) | settings,
    )
    watchdog = threading.Timer(seconds, kill_session, [process])
    watchdog.start()
    try:
        yield process
    finally:
        watchdog.cancel()
        kill_session(process)
        process.wait(timeout=60)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()


def kill_session(process: subprocess.Popen[Any]) -> None:
    """Kill a program of ``started`` that still runs, and all that it has started."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def finished(
    *command: object, code: int | None = 0, seconds: float = DEADLINE, **settings: Any
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; see ``started``.

    Args:
        command: The program and its arguments.
        code: The exit code that is expected; ``None`` for any.
        seconds: How long it may run.
        settings: Go to ``started``.
    """
    with started(*command, seconds=seconds, **settings) as process:
        out, err = process.communicate(timeout=seconds + 60)
    assert code is None or process.returncode == code, (process.returncode, out, err)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)
