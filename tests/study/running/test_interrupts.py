from __future__ import annotations

import signal
import threading
from typing import Any

import pytest

from mgstudy.study.running.interrupts import interrupt_deferred, interrupt_noted
from mgstudy.study.running.tune_bridge import OptunaSearcher

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
    thread.join(timeout=60)
    assert during == before


def test_no_trial_begins_once_an_interrupt_has_come(opened: Any) -> None:
    space = (
        "space: {optimizer: {learning_rate: {log_float: [1e-3, 1]}}, model: {regularization: 0}}"
    )
    record = opened("", f"{space}\ntrials: 2")
    with interrupt_noted() as interrupt:
        searcher = OptunaSearcher(record, most_begun=2, interrupt=interrupt)
        assert searcher.suggest("ray-1")["key"]
        signal.raise_signal(signal.SIGINT)
        assert searcher.suggest("ray-2") == "FINISHED"
