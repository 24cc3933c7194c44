from __future__ import annotations

import signal
import threading

import pytest

from mtask_sinks._util import interrupts
from mtask_sinks._util.interrupts import InterruptsDeferred


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_handler_runs_after_the_block_and_is_in_place_again(number: signal.Signals) -> None:
    done: list[object] = []
    before = signal.signal(number, lambda number, frame: done.append(number))
    try:
        with InterruptsDeferred():
            signal.raise_signal(number)
            done.append("whole")
        signal.raise_signal(number)
    finally:
        signal.signal(number, before)
    assert done == ["whole", number, number]


def test_a_second_ctrl_c_leaves_a_block_that_hangs() -> None:
    done = []
    try:
        with InterruptsDeferred():
            signal.raise_signal(signal.SIGINT)
            done.append("first")
            signal.raise_signal(signal.SIGINT)
            done.append("second")
    except KeyboardInterrupt:
        done.append("left")
    assert done == ["first", "left"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_ctrl_c_leaves_a_block_that_hangs_inside_of_another_one() -> None:
    done = []
    try:
        with InterruptsDeferred():
            with InterruptsDeferred():
                signal.raise_signal(signal.SIGINT)
            done.append("first")
            with InterruptsDeferred():
                signal.raise_signal(signal.SIGINT)
                done.append("second")
    except KeyboardInterrupt:
        done.append("left")
    assert done == ["first", "left"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_if_both_signals_arrive_both_handlers_run_although_the_first_raises() -> None:
    done: list[object] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: done.append(number))
    try:
        with InterruptsDeferred():
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)
            done.append("whole")
    except KeyboardInterrupt:
        done.append("interrupted")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert done == ["whole", signal.SIGTERM, "interrupted"]


def test_a_signal_while_the_block_begins_leaves_the_handlers_as_they_were(monkeypatch) -> None:
    find, done = interrupts.signal.getsignal, []

    def find_interrupted(number: int) -> object:
        if number == signal.SIGTERM:
            raise KeyboardInterrupt
        return find(number)

    monkeypatch.setattr(interrupts.signal, "getsignal", find_interrupted)
    with pytest.raises(KeyboardInterrupt), InterruptsDeferred():
        done.append("entered")
    assert (find(signal.SIGINT), done) == (signal.default_int_handler, [])


def test_an_error_in_the_block_does_not_hide_ctrl_c() -> None:
    found: list[BaseException | None] = []
    try:
        with InterruptsDeferred():
            signal.raise_signal(signal.SIGINT)
            raise ValueError("of the block")
    except KeyboardInterrupt as interrupt:
        found.append(interrupt.__context__)
    assert [type(each) for each in found] == [ValueError]


def test_what_python_does_not_handle_stays_as_it_is() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with InterruptsDeferred():
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_other_threads_cannot_set_handlers_and_need_not() -> None:
    handlers: list[object] = []

    def run() -> None:
        with InterruptsDeferred():
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGINT)]
