from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from mtask_sinks import RunInfo, Sink, Snapshot
from mtask_sinks.delivery import Delivery
from mtask_sinks.sinks import MemorySink


class Failing(Sink):
    """Raises in the calls it is told to."""

    name = "failing"

    def __init__(self, *calls: str) -> None:
        self.calls = calls
        self.closed: list[str] = []

    def open(self, run: RunInfo) -> None:
        self._may_raise("open")

    def write(self, snapshot: Snapshot) -> None:
        self._may_raise("write")

    def close(self, status: str) -> None:
        self.closed.append(status)
        self._may_raise("close")

    def _may_raise(self, call: str) -> None:
        if call in self.calls:
            raise OSError(f"no {call} today")


class Hanging(Sink):
    """Does not come back from its first write until it is released."""

    name = "hanging"

    def __init__(self) -> None:
        self.released = threading.Event()
        self.steps: list[int] = []

    def write(self, snapshot: Snapshot) -> None:
        self.released.wait(30)
        self.steps.append(snapshot.step)


def snapshots(count: int) -> list[Snapshot]:
    return [Snapshot(step=step, metrics={"x": float(step)}) for step in range(count)]


def test_every_sink_gets_every_snapshot_in_order() -> None:
    first, second = MemorySink(), MemorySink()
    second.name = "second"
    delivery = Delivery([first, second])
    delivery.open(RunInfo(id="1"))
    for snapshot in snapshots(100):
        delivery.write(snapshot)
    delivery.close("finished")
    assert first.series("x") == second.series("x") == [(step, float(step)) for step in range(100)]
    assert (first.closed, delivery.counts["memory"].delivered) == (["finished"], 100)


@pytest.mark.parametrize("calls", [("write",), ("open",), ("open", "write", "close"), ("close",)])
def test_a_sink_that_raises_is_logged_once_and_disturbs_nobody(calls: tuple[str, ...], caplog) -> None:
    bad, good = Failing(*calls), MemorySink()
    delivery = Delivery([bad, good])
    delivery.open(RunInfo(id="1"))
    for snapshot in snapshots(5):
        delivery.write(snapshot)
    delivery.close("finished")
    assert len(good.snapshots) == 5
    counts = delivery.counts["failing"]
    assert (counts.given, counts.failed, counts.pending) == (5, 0 if calls == ("close",) else 5, 0)
    assert counts.error == f"OSError: no {calls[0]} today"
    failures = [record for record in caplog.records if "sink failing failed" in record.getMessage()]
    assert len(failures) == 1


def test_a_sink_that_could_not_open_is_opened_again_with_the_next_snapshot() -> None:
    class Late(MemorySink):
        tries = 0

        def open(self, run: RunInfo) -> None:
            self.tries += 1
            if self.tries < 3:
                raise OSError("not yet")
            super().open(run)

    sink = Late()
    delivery = Delivery([sink])
    delivery.open(RunInfo(id="1"))
    for snapshot in snapshots(4):
        delivery.write(snapshot)
    delivery.close("finished")
    assert [step for step, _ in sink.series("x")] == [1, 2, 3]
    assert (delivery.counts["memory"].failed, delivery.counts["memory"].delivered) == (1, 3)


def test_a_sink_that_hangs_holds_up_neither_the_caller_nor_the_others_nor_the_end(caplog) -> None:
    hanging, good = Hanging(), MemorySink()
    delivery = Delivery([hanging, good], drain_seconds=0.3)
    delivery.open(RunInfo(id="1"))
    start = time.monotonic()
    for snapshot in snapshots(50):
        delivery.write(snapshot)
    delivery.close("finished")
    assert time.monotonic() - start < 10  # not the 30 s that each write would take
    assert len(good.snapshots) == 50
    assert "50 were not done within 0.3 s" in caplog.text
    hanging.released.set()


def test_what_was_left_by_a_slow_sink_still_arrives_in_order_before_the_next_run() -> None:
    slow = Hanging()
    delivery = Delivery([slow], drain_seconds=0.05)
    delivery.open(RunInfo(id="1"))
    for snapshot in snapshots(3):
        delivery.write(snapshot)
    delivery.close("finished")
    delivery.open(RunInfo(id="2"))
    delivery.write(Snapshot(step=10))
    slow.released.set()
    delivery._drain_seconds = 10.0
    delivery.close("finished")
    assert slow.steps == [0, 1, 2, 10]


def test_a_sink_is_never_called_from_two_threads_at_once() -> None:
    class Checking(MemorySink):
        inside = threading.Lock()

        def write(self, snapshot: Snapshot) -> None:
            assert self.inside.acquire(blocking=False)
            time.sleep(0.001)
            super().write(snapshot)
            self.inside.release()

    sink = Checking()
    delivery = Delivery([sink])
    for run in range(5):
        delivery.open(RunInfo(id=str(run)))
        for snapshot in snapshots(10):
            delivery.write(snapshot)
        delivery.close("finished")
    assert (len(sink.snapshots), delivery.counts["memory"].failed) == (50, 0)
    assert [run.id for run in sink.runs] == ["0", "1", "2", "3", "4"]


def test_opening_for_another_run_closes_the_one_before() -> None:
    sink = MemorySink()
    delivery = Delivery([sink])
    delivery.open(RunInfo(id="1"))
    delivery.write(Snapshot(step=1))
    delivery.open(RunInfo(id="2"))
    delivery.close("failed")
    assert (sink.closed, [run.id for run in sink.runs]) == (["finished", "failed"], ["1", "2"])


def test_closing_twice_or_unopened_does_nothing() -> None:
    sink = MemorySink()
    delivery = Delivery([sink])
    delivery.close("finished")
    delivery.open(RunInfo(id="1"))
    delivery.close("finished")
    delivery.close("failed")
    assert sink.closed == ["finished"]


def test_no_thread_is_left_behind() -> None:
    before = threading.active_count()
    delivery = Delivery([MemorySink()])
    delivery.open(RunInfo(id="1"))
    delivery.close("finished")
    end = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < end:
        time.sleep(0.01)
    assert threading.active_count() == before


def test_two_sinks_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="one name: memory, memory"):
        Delivery([MemorySink(), MemorySink()])


def test_what_was_not_closed_is_delivered_when_the_interpreter_exits(tmp_path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import time\n"
        "from mtask_sinks import Sink, Snapshot, RunInfo\n"
        "from mtask_sinks.delivery import Delivery\n"
        "class Slow(Sink):\n"
        "    name = 'slow'\n"
        "    def write(self, snapshot):\n"
        "        time.sleep(0.02)\n"
        "        print('wrote', snapshot.step, flush=True)\n"
        "    def close(self, status):\n"
        "        print('closed', status, flush=True)\n"
        "delivery = Delivery([Slow()])\n"
        "delivery.open(RunInfo(id='1'))\n"
        "for step in range(10):\n"
        "    delivery.write(Snapshot(step=step))\n"
    )
    output = subprocess.run([sys.executable, str(script)], check=True, capture_output=True, text=True).stdout
    assert output.splitlines() == [*(f"wrote {step}" for step in range(10)), "closed finished"]
