from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading

import pytest
from helpers.disk import small_disk
from helpers.failing_sinks import Hanging, snapshots
from helpers.faulty import wait_for

from mtask_sinks import RunInfo, Snapshot, read_journal
from mtask_sinks.delivery import open_deliveries
from mtask_sinks.delivery.ending import Ending
from mtask_sinks.delivery.pipeline import Delivery
from mtask_sinks.sinks import MemorySink

pytestmark = pytest.mark.usefixtures("impatient")


class Interrupts(MemorySink):
    """Hangs in its first write, and presses Ctrl-C there as soon as somebody waits for it."""

    name = "interrupts"

    def __init__(self) -> None:
        super().__init__()
        self.is_awaited = threading.Event()
        self.released = threading.Event()

    def write(self, snapshot: Snapshot) -> None:
        if not self.released.is_set():
            assert self.is_awaited.wait(100)
            os.kill(os.getpid(), signal.SIGINT)
            assert self.released.wait(100)
        super().write(snapshot)


def test_ctrl_c_ends_the_wait_and_nothing_else(tmp_path, caplog, monkeypatch) -> None:
    sink, other = Interrupts(), MemorySink()
    delivery = Delivery([sink, other], drain_seconds=1000.0)
    delivery.open(RunInfo(id="1", output_dir=str(tmp_path)))
    for snapshot in snapshots(3):
        delivery.write(snapshot)
    wait_for(lambda: len(other.snapshots) == 3, "the other sink")
    wait = Ending.wait
    monkeypatch.setattr(Ending, "wait", lambda ending, seconds: sink.is_awaited.set() or wait(ending, seconds))
    delivery.close("finished")
    said = caplog.text
    sink.released.set()
    assert len(other.snapshots) == 3
    assert "sink interrupts (starting) received 0 of 3 snapshots; 3 did not arrive within" in said
    assert "within 1000 s" not in said
    assert f"replay({str(tmp_path / 'metrics.jsonl')!r}, [the interrupts sink])" in said
    with pytest.raises(KeyboardInterrupt):  # a second one is as ever
        signal.raise_signal(signal.SIGINT)


_INTERRUPTED = """
import signal, sys, threading, time
from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.delivery.pipeline import Delivery
from mtask_sinks.sinks import MemorySink

class Slow(MemorySink):
    def write(self, snapshot):
        time.sleep(0.02)
        super().write(snapshot)

def interrupting(place):  # after a call in C that may have taken or released a lock
    def profile(frame, event, arg):
        nonlocal place
        if event == "c_return" and frame.f_code.co_filename == threading.__file__:
            place -= 1
            if place == 0:
                signal.raise_signal(signal.SIGINT)
    return profile

for function in ("flush", "close"):
    for place in range(1, 40):
        delivery = Delivery([sink := Slow()], drain_seconds=30.0)
        delivery.open(RunInfo(id="1"))
        delivery.write(Snapshot(step=1, metrics={"a/loss": 1.0}))
        try:
            sys.setprofile(interrupting(place))
            delivery.close("finished") if function == "close" else delivery.flush()
        except KeyboardInterrupt:
            pass
        sys.setprofile(None)
        delivery.open(RunInfo(id="1"))
        delivery.write(Snapshot(step=2, metrics={"a/loss": 2.0}))
        end = time.monotonic() + 30
        while len(sink.snapshots) < 2:
            assert time.monotonic() < end, (function, place)
            time.sleep(0.001)
        delivery.close("finished")
"""


def test_ctrl_c_at_any_moment_of_a_wait_leaves_no_lock_behind() -> None:
    done = subprocess.run([sys.executable, "-c", _INTERRUPTED], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("seconds", "said"), [(math.inf, "waits for sinks"), (1e12, "waits up to 1e+12 s for sinks")])
def test_the_wait_may_have_no_limit(tmp_path, caplog, monkeypatch, seconds: float, said: str) -> None:
    monkeypatch.setattr("mtask_sinks.delivery.last_wait._QUIET_SECONDS", 0.1)
    sink = Hanging()
    delivery = Delivery([sink], seconds, publish=(tmp_path / "copy").as_uri())
    delivery.open(RunInfo(id="1", output_dir=str(tmp_path)))
    delivery.write(*snapshots(1))
    ended = threading.Thread(target=delivery.close, args=("finished",))
    ended.start()
    wait_for(lambda: said in caplog.text, "the message")
    assert ended.is_alive()
    sink.released.set()
    ended.join(100)
    assert (sink.steps, delivery.counts["hanging"].delivered) == ([0], 1)
    assert (tmp_path / "copy" / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    ("can_replay", "end"),
    [(True, "Ctrl-C ends the wait; you can deliver the missing snapshots later."), (False, "Ctrl-C ends the wait.")],
)
def test_the_message_of_a_wait_promises_a_later_delivery_only_if_there_is_one(
    tmp_path, caplog, monkeypatch, can_replay: bool, end: str
) -> None:
    monkeypatch.setattr("mtask_sinks.delivery.last_wait._QUIET_SECONDS", 0.1)
    monkeypatch.setattr(Hanging, "can_replay", can_replay)
    sink = Hanging()
    delivery = Delivery([sink], 0.3)
    delivery.open(RunInfo(id="1", output_dir=str(tmp_path)))
    delivery.write(*snapshots(1))
    delivery.close("finished")
    sink.released.set()
    begin = "the training has ended and waits up to 0.3 s for sinks that are behind: hanging. "
    assert f"{begin}{end}" in caplog.messages


@pytest.mark.parametrize("seconds", [-1.0, math.nan])
def test_a_wait_that_is_no_time_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match=r"drain_seconds=.*: pass a number of seconds, 0 or more"):
        Delivery([], seconds)


def test_all_deliveries_of_a_process_finish_at_the_same_time_at_its_exit() -> None:
    together = threading.Barrier(3)

    class Meets(MemorySink):
        def close(self, status) -> None:
            together.wait(100)
            super().close(status)

    sinks = [Meets() for _ in range(3)]
    deliveries = [Delivery([sink], drain_seconds=100.0) for sink in sinks]
    for delivery in deliveries:
        delivery.open(RunInfo(id="1"))
        delivery.write(Snapshot(step=1, metrics={"x": 1.0}))
    open_deliveries.close_all()
    assert [sink.closed for sink in sinks] == [["finished"]] * 3
    assert not together.broken


def test_the_exit_waits_once_for_all_and_tells_what_each_delivery_lacks(caplog) -> None:
    sinks = [Hanging() for _ in range(3)]
    deliveries = [Delivery([sink], drain_seconds=seconds) for sink, seconds in zip(sinks, (0.1, 0.3, 0.2), strict=True)]
    for delivery in deliveries:
        delivery.open(RunInfo(id="1"))
        delivery.write(Snapshot(step=1))
    open_deliveries.close_all()
    open_deliveries.close_all()  # nothing is left to close
    # Sinks of other tests may still be at work in their threads.
    said = [text for record in caplog.records if "sink hanging" in (text := record.getMessage())]
    assert len(said) == 3
    assert all("received 0 of 1 snapshots; 1 did not arrive within 0.3 s." in message for message in said)
    for sink in sinks:
        sink.released.set()


@pytest.mark.parametrize("is_closed", [True, False])
def test_the_exit_writes_to_the_journal_what_the_disk_did_not_accept_before(tmp_path, caplog, is_closed: bool) -> None:
    (tmp_path / "out").write_text("in the way")
    delivery = Delivery([MemorySink()], publish=f"file://{tmp_path}/copy")
    delivery.open(RunInfo(id="1", output_dir=str(tmp_path / "out")))
    for snapshot in snapshots(3):
        delivery.write(snapshot)
    if is_closed:
        delivery.close("finished")
        assert "lacks its last 5 lines" in caplog.text
    del delivery  # as the trainer may be deleted
    (tmp_path / "out").unlink()
    open_deliveries.close_all()
    (run,) = read_journal(tmp_path / "out")
    assert ([each.step for each in run.snapshots], run.status) == ([0, 1, 2], "finished")
    assert "the disk accepts lines again" in caplog.text or not is_closed
    assert (tmp_path / "copy" / "metrics.jsonl").read_bytes() == (tmp_path / "out" / "metrics.jsonl").read_bytes()


_WHY = "because it could not be written, or somebody removed or changed it."


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (0, f"The journal lacks 5 of them, {_WHY}"),
        (2, f"The journal lacks 3 of them, {_WHY} To deliver the others, run in Python:"),
        (5, "within 0.1 s. To deliver them, run in Python:"),
    ],
)
def test_the_command_is_given_only_for_snapshots_that_the_journal_has(written, said, tmp_path, caplog) -> None:
    sink = Hanging()
    with small_disk(tmp_path / "disk") as disk:
        delivery = Delivery([sink], drain_seconds=0.1)
        run = RunInfo(id="1", output_dir=str(disk.path))
        if not written:
            disk.fill()
        delivery.open(run)
        for step in range(1, 6):
            delivery.write(Snapshot(step, metrics={f"x{number}": 0.0 for number in range(500)}))  # more than a block
            if step == written:
                disk.fill()
        delivery.close("finished")
        sink.released.set()
        (message,) = (text for record in caplog.records if "sink hanging" in (text := record.getMessage()))
        assert said in message
        assert ("replay(" in message) == (written > 0)
        open_deliveries.forget(delivery)  # the disk stays full


def test_the_message_about_a_sink_that_is_behind_counts_what_went_with_the_removed_journal(tmp_path, caplog) -> None:
    """A replay delivers only what the file has: the snapshots since somebody removed it."""
    sink = Hanging()
    delivery = Delivery([sink], drain_seconds=0.1)
    delivery.open(RunInfo(id="1", output_dir=str(tmp_path)))
    for snapshot in snapshots(10):
        if snapshot.step == 6:
            (tmp_path / "metrics.jsonl").unlink()
        delivery.write(snapshot)
    delivery.close("finished")
    (message,) = (text for record in caplog.records if "sink hanging" in (text := record.getMessage()))
    sink.released.set()
    assert "received 0 of 10 snapshots; 10 did not arrive within 0.1 s. The journal lacks 6 of them" in message
    assert f"{_WHY} To deliver the others, run in Python:" in message
    (run,) = read_journal(tmp_path)
    assert [snapshot.step for snapshot in run.snapshots] == [6, 7, 8, 9]
