from __future__ import annotations

import signal
import threading

import pytest

from mgstudy.study.running.interrupts import interrupt_deferred, interrupt_noted

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize("kind", SIGNALS)
def test_the_first_signal_is_noted_and_the_second_does_not_wait(kind: signal.Signals) -> None:
    before = [signal.getsignal(each) for each in SIGNALS]
    with interrupt_noted() as interrupt:
        assert not interrupt.has_come
        signal.raise_signal(kind)
        assert interrupt.has_come
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(kind)
    assert [signal.getsignal(each) for each in SIGNALS] == before


@pytest.mark.parametrize("kind", SIGNALS)
def test_a_deferred_signal_interrupts_when_the_block_is_left(kind: signal.Signals) -> None:
    reached = False
    with pytest.raises(KeyboardInterrupt), interrupt_deferred():
        signal.raise_signal(kind)
        reached = True
    assert reached


def test_a_thread_that_gets_no_signals_leaves_their_handlers_alone() -> None:
    before = [signal.getsignal(each) for each in SIGNALS]
    during = []

    def look() -> None:
        with interrupt_noted() as interrupt, interrupt_deferred():
            during.extend([signal.getsignal(each) for each in SIGNALS])
            assert not interrupt.has_come

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert during == before
