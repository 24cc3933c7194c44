from __future__ import annotations

from types import SimpleNamespace

import pytest

from mtask_sinks.delivery.backend_state import BackendState


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that the test sets: a list with the time."""
    now = [1000.0]
    monkeypatch.setattr("mtask_sinks.delivery.backend_state.time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_a_call_hangs_when_it_has_not_returned_in_time(clock: list[float]) -> None:
    backend = BackendState(hung_after=60.0)
    backend.begin_call()
    clock[0] += 60.0
    assert backend.state == "starting"
    clock[0] += 0.5
    assert backend.state == "hung"
    backend.end_call()
    assert backend.state == "starting"


def test_a_hang_is_noticed_once_per_call(clock: list[float]) -> None:
    backend = BackendState(hung_after=1.0)
    assert not backend.notice_hang()
    for _ in range(2):
        backend.begin_call()
        seen = [backend.notice_hang()]
        clock[0] += 2.0
        seen += [backend.notice_hang() for _ in range(3)]
        assert seen == [False, True, False, False]
        backend.end_call()
    assert not backend.notice_hang()


def test_a_backend_is_down_until_it_recovers(clock: list[float]) -> None:
    backend = BackendState(hung_after=60.0)
    assert backend.recover() is None
    backend.go_down()
    clock[0] += 7.5
    assert backend.state == "down"
    assert (backend.recover(), backend.state, backend.recover()) == (7.5, "starting", None)


def test_a_call_that_hangs_hides_that_the_backend_is_down(clock: list[float]) -> None:
    backend = BackendState(hung_after=1.0)
    backend.go_down()
    backend.begin_call()
    clock[0] += 2.0
    assert backend.state == "hung"
    backend.end_call()
    assert backend.state == "down"


def test_a_backend_is_up_from_its_first_answer_to_the_end_of_the_run() -> None:
    backend = BackendState(hung_after=60.0)
    states = [backend.state]
    for event in (backend.open, backend.answer, backend.close, backend.open, backend.stop, backend.start):
        event()
        states.append(backend.state)
    assert states == ["starting", "starting", "up", "closed", "up", "stopped", "up"]


def test_down_hides_that_the_run_is_closed_and_is_trouble() -> None:
    backend = BackendState(hung_after=60.0)
    backend.answer()
    backend.close()
    troubles = [backend.is_in_trouble]
    backend.go_down()
    assert (backend.state, [*troubles, backend.is_in_trouble]) == ("down", [False, True])
