from __future__ import annotations

import signal
import threading

import pytest

from mtask_sinks._util.interrupts import interrupts_deferred


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_handler_runs_after_the_block_and_is_in_place_again(number: signal.Signals) -> None:
    done: list[object] = []
    before = signal.signal(number, lambda number, frame: done.append(number))
    try:
        with interrupts_deferred():
            signal.raise_signal(number)
            done.append("whole")
        signal.raise_signal(number)
    finally:
        signal.signal(number, before)
    assert done == ["whole", number, number]


def test_a_second_ctrl_c_leaves_a_block_that_hangs() -> None:
    done = []
    try:
        with interrupts_deferred():
            signal.raise_signal(signal.SIGINT)
            done.append("first")
            signal.raise_signal(signal.SIGINT)
            done.append("second")
    except KeyboardInterrupt:
        done.append("left")
    assert done == ["first", "left"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_error_in_the_block_does_not_hide_ctrl_c() -> None:
    found: list[BaseException | None] = []
    try:
        with interrupts_deferred():
            signal.raise_signal(signal.SIGINT)
            raise ValueError("of the block")
    except KeyboardInterrupt as interrupt:
        found.append(interrupt.__context__)
    assert [type(each) for each in found] == [ValueError]


def test_what_python_does_not_handle_stays_as_it_is() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with interrupts_deferred():
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_other_threads_cannot_set_handlers_and_need_not() -> None:
    handlers: list[object] = []

    def run() -> None:
        with interrupts_deferred():
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGINT)]
