from __future__ import annotations

import pytest

from mtask_sinks import RunInfo, Sink, Snapshot, errors, sinks
from mtask_sinks.sinks import base


class Written(Sink):
    """A sink that only writes."""

    name = "written"

    def __init__(self) -> None:
        self.steps: list[int] = []

    def write(self, snapshot: Snapshot) -> None:
        self.steps.append(snapshot.step)


def test_a_sink_needs_no_more_than_write() -> None:
    sink, run = Written(), RunInfo(id="1")
    sink.open(run)
    sink.write(Snapshot(step=1))
    sink.flush()
    sink.close("finished")
    assert sink.steps == [1]


def test_a_sink_without_runs_has_no_target_and_nothing_to_check_or_to_send_again() -> None:
    sink = Written()
    assert (sink.target(), sink.check(RunInfo(id="1"), 1.0)) == (None, None)
    assert sink.survives()
    assert dict(sink.environment()) == {}


def test_a_sink_without_write_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="write"):
        base.Sink()  # type: ignore[abstract]


@pytest.mark.parametrize("name", ["open", "write", "flush", "close"])
def test_a_sink_whose_calls_would_run_nothing_is_refused_when_it_is_defined(name: str) -> None:
    async def coroutine(self, *arguments: object) -> None: ...

    def generator(self, *arguments: object):
        yield

    for function in (coroutine, generator):
        with pytest.raises(TypeError, match=rf"Later\.{name} is a coroutine or a generator"):
            type("Later", (Written,), {name: function})


def test_the_package_offers_what_a_sink_raises() -> None:
    for name in ("Rejected", "Forgotten", "NoSuchRun"):
        assert getattr(sinks, name) is getattr(errors, name)


def test_a_sink_without_a_name_is_refused() -> None:
    class Nameless(Sink):
        def write(self, snapshot):
            pass

    with pytest.raises(TypeError, match="Nameless has no name: write name = 'my_sink' in the class"):
        base.check_are_sinks([Nameless()])
