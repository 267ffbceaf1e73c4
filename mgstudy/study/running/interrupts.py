"""How Ctrl-C and SIGTERM reach a driver."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from mgstudy.private.ray import sigterm_left_alone


@contextmanager
def terminated_like_interrupt() -> Iterator[None]:
    """Let SIGTERM end the study the way Ctrl-C does, where Ray only handles the latter."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    # Ray blocks SIGINT in the processes it starts, also in the drivers of its jobs.
    blocked = signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    try:
        previous = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # Not in the main thread: the caller owns the signals.
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


class Interrupt:
    """Ctrl-C or SIGTERM in a block whose code itself looks whether one has come."""

    has_come = False

    def note(self, _signal: int, _frame: FrameType | None) -> None:
        """Handle a signal: the first is remembered, and whoever repeats it does not want to wait.

        Raises:
            KeyboardInterrupt: If one had come before.
        """
        if self.has_come:
            raise KeyboardInterrupt
        self.has_come = True


@contextmanager
def interrupt_noted() -> Iterator[Interrupt]:
    """Let Ctrl-C and SIGTERM be asked for, in a block where several threads import.

    An exception out of nowhere in the middle of an import leaves locks of Python's own taken:
    another thread that imports then waits for ever, and so does whoever waits for that thread.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():  # Which alone is interrupted.
        yield interrupt
        return
    kinds = (signal.SIGINT, signal.SIGTERM)
    previous = {kind: signal.signal(kind, interrupt.note) for kind in kinds}
    try:
        yield interrupt
    finally:
        for kind, handler in previous.items():
            signal.signal(kind, handler)


@contextmanager
def interrupt_deferred() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait until a block is left, in which Ray starts.

    Raises:
        KeyboardInterrupt: At the end of the block, however it ended, if one of them came in it.
    """
    with interrupt_noted() as interrupt:
        try:
            with sigterm_left_alone():
                yield
        finally:
            if interrupt.has_come:
                raise KeyboardInterrupt
