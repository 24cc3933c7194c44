from __future__ import annotations

import random
import threading
import time

import pytest
from helpers.failing_sinks import Flaky, Hanging, snapshots, threads_of_ours
from helpers.faulty import wait_for

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.delivery import pipeline
from mtask_sinks.delivery.pipeline import Delivery
from mtask_sinks.delivery.replay import replay
from mtask_sinks.errors import Forgotten
from mtask_sinks.journal import stream
from mtask_sinks.sinks import MemorySink

pytestmark = pytest.mark.usefixtures("impatient")


@pytest.mark.parametrize("call", ["open", "write", "close"])
def test_what_fails_is_tried_again_until_it_succeeds_and_disturbs_nobody(call: str) -> None:
    flaky, good = Flaky(call, failures=4), MemorySink()
    delivery = Delivery([flaky, good])
    delivery.open(RunInfo(id="1"))
    for snapshot in snapshots(5):
        delivery.write(snapshot)
    delivery.close("finished")
    assert flaky.steps == [0, 1, 2, 3, 4]
    assert flaky.closed == ["finished"]
    assert len(good.snapshots) == 5
    counts = delivery.counts["flaky"]
    assert (counts.given, counts.delivered, counts.rejected, counts.state) == (5, 5, 0, "closed")


def test_an_outage_is_one_line_when_it_begins_and_one_when_it_ends(caplog) -> None:
    flaky, written = Flaky("write", failures=6), threading.Event()
    flaky.open = lambda run: written.wait(120)  # type: ignore[method-assign]
    delivery = Delivery([flaky])
    delivery.open(RunInfo(id="1"))
    for snapshot in snapshots(3):
        delivery.write(snapshot)
    written.set()
    delivery.close("finished")
    down, up = [record.getMessage() for record in caplog.records if record.name == "mtask_sinks.delivery.worker"]
    assert "sink flaky is down (OSError: no write today); training goes on. 3 snapshots wait" in down
    assert "sink flaky is up again after" in up
    assert "; 2 snapshots wait for it" in up


def test_a_hiccup_is_not_worth_a_line(caplog) -> None:
    flaky = Flaky("write", failures=1)
    delivery = Delivery([flaky])
    delivery.open(RunInfo(id="1"))
    delivery.write(Snapshot(step=0))
    delivery.close("finished")
    assert (flaky.steps, caplog.records) == ([0], [])


def test_a_sink_whose_backend_forgot_the_run_gets_all_of_it_again(tmp_path) -> None:
    class Forgetful(MemorySink):
        forgets = True

        def write(self, snapshot: Snapshot) -> None:
            if snapshot.step == 13 and self.forgets:
                self.forgets = False
                self.snapshots.clear()
                raise Forgotten
            super().write(snapshot)

    sink = Forgetful()
    delivery = Delivery([sink])
    delivery.open(RunInfo(id="0", output_dir=str(tmp_path)))
    delivery.write(Snapshot(step=99, metrics={"x": 99.0}))
    delivery.open(RunInfo(id="1", output_dir=str(tmp_path)))
    for snapshot in snapshots(20):
        delivery.write(snapshot)
    delivery.close("finished")
    assert sink.series("x") == [(step, float(step)) for step in range(20)]
    assert (delivery.counts["memory"].delivered, delivery.counts["memory"].pending) == (21, 0)


def test_a_backlog_lies_on_disk_and_not_in_memory(tmp_path) -> None:
    hanging = Hanging()
    delivery = Delivery([hanging])
    delivery.open(RunInfo(id="1", output_dir=str(tmp_path)))
    for step in range(2000):
        delivery.write(Snapshot(step=step, metrics={"x": float(step)}))
    assert len(delivery._journal.stream._recent) <= 256  # type: ignore[union-attr]
    hanging.released.set()
    delivery.close("finished")
    assert hanging.steps == list(range(2000))


def test_a_journal_that_cannot_be_read_for_a_while_costs_no_snapshot(tmp_path, monkeypatch, caplog) -> None:
    flaky, written = Flaky("write", failures=3), threading.Event()
    flaky.open = lambda run: written.wait(120)  # type: ignore[method-assign]
    delivery = Delivery([flaky])
    delivery.open(RunInfo(id="1", output_dir=str(tmp_path)))
    failures = iter([OSError(24, "Too many open files")] * 2)
    read = stream.read_lines

    def failing(*args):
        if (error := next(failures, None)) is not None:
            raise error
        return read(*args)

    monkeypatch.setattr(stream, "read_lines", failing)
    for snapshot in snapshots(600):  # 256 of them stay in memory
        delivery.write(snapshot)
    written.set()
    delivery.close("finished")
    assert flaky.steps == [*range(600)]
    assert (delivery.counts["flaky"].delivered, delivery.counts["flaky"].pending) == (600, 0)
    assert sum("the journal cannot be read: [Errno 24]" in message for message in caplog.messages) == 1


def test_a_sink_that_hangs_holds_up_neither_the_caller_nor_the_others_nor_the_end(caplog, monkeypatch) -> None:
    monkeypatch.setattr("mtask_sinks.delivery.worker.CALL_SECONDS", 0.05)
    hanging, good = Hanging(), MemorySink()
    delivery = Delivery([hanging, good], drain_seconds=0.3)
    delivery.open(RunInfo(id="1"))
    start = time.monotonic()
    for snapshot in snapshots(50):
        delivery.write(snapshot)
    wait_for(lambda: len(good.snapshots) == 50 and delivery.counts["hanging"].state == "hung", "the others, the hang")
    delivery.close("finished")
    assert time.monotonic() - start < 100  # less than one hanging write
    assert "sink hanging (hung) received 0 of 50 snapshots; 50 did not arrive within 0.3 s" in caplog.text
    hanging.released.set()


def test_a_hanging_call_is_said_once(caplog, monkeypatch) -> None:
    monkeypatch.setattr("mtask_sinks.delivery.worker.CALL_SECONDS", 0.05)
    hanging = Hanging()
    delivery = Delivery([hanging])
    delivery.open(RunInfo(id="1"))
    delivery.write(Snapshot(step=0))
    wait_for(lambda: delivery.counts["hanging"].state == "hung", "the hang")
    for step in (1, 2, 3):
        delivery.write(Snapshot(step=step))
    # Sinks of other tests may still be at work in their threads.
    assert [text for record in caplog.records if "sink hanging" in (text := record.getMessage())] == [
        "sink hanging: a call has not returned for 0.05 s; training goes on. Snapshots wait in the journal."
    ]
    hanging.released.set()
    delivery.close("finished")
    assert (hanging.steps, delivery.counts["hanging"].state) == ([0, 1, 2, 3], "closed")


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
    delivery.drain_seconds = 100.0
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
    assert (len(sink.snapshots), delivery.counts["memory"].rejected) == (50, 0)
    assert [run.id for run in sink.runs] == ["0", "1", "2", "3", "4"]


def test_no_thread_is_left_behind() -> None:
    before = threads_of_ours()
    delivery = Delivery([MemorySink()])
    delivery.open(RunInfo(id="1"))
    assert len(threads_of_ours() - before) == 1
    delivery.close("finished")
    wait_for(lambda: threads_of_ours() <= before, "the end of the thread")


def test_a_sink_is_up_from_its_first_snapshot_to_its_end_and_has_no_error_that_is_over() -> None:
    seen = []

    class Watched(MemorySink):
        failures = 1

        def open(self, run: RunInfo) -> None:
            seen.append(delivery.counts["memory"])

        def write(self, snapshot: Snapshot) -> None:
            seen.append(delivery.counts["memory"])
            if self.failures:
                self.failures -= 1
                raise OSError("not yet")
            super().write(snapshot)

        def close(self, status) -> None:
            seen.append(delivery.counts["memory"])

    delivery = Delivery([Watched()])
    delivery.open(RunInfo(id="1"))
    delivery.write(Snapshot(step=1))
    delivery.close("finished")
    seen.append(delivery.counts["memory"])
    states = [(counts.state, counts.error) for counts in seen]
    starting, failed = ("starting", None), ("starting", "OSError: not yet")
    assert states == [starting, starting, failed, ("up", None), ("closed", None)]


def test_a_sink_that_is_tried_again_leaves_the_random_numbers_of_the_user_alone() -> None:
    flaky = Flaky("write", failures=2)
    random.seed(5)
    expected = random.Random(5).random()
    delivery = Delivery([flaky])
    delivery.open(RunInfo(id="1"))
    delivery.write(Snapshot(step=1))
    delivery.close("finished")
    assert flaky.steps == [1]
    assert random.random() == expected


def test_a_run_that_was_for_other_sinks_stays_out_of_this_one(tmp_path) -> None:
    sinks = {name: [] for name in ("1", "2", "3")}
    for run, names in (("1", ["memory"]), ("2", []), ("3", ["memory"])):
        sinks[run] = [MemorySink() for _ in names]
        delivery = Delivery(sinks[run])
        delivery.open(RunInfo(id=run, output_dir=str(tmp_path)))
        delivery.write(Snapshot(int(run), metrics={"x": float(run)}))
        delivery.close("finished")
        assert all(counts.pending == 0 for counts in delivery.counts.values())
    assert [sinks[run][0].series("x") for run in ("1", "3")] == [[(1, 1.0)], [(3, 3.0)]]
    assert [run.id for run in sinks["3"][0].runs] == ["3"]
    again = MemorySink()
    replay(tmp_path, [again], what="all")  # the user asks for the whole journal
    assert again.series("x") == [(1, 1.0), (2, 2.0), (3, 3.0)]


class Buffering(MemorySink):
    """Stores what it was given only when it is flushed, which fails at first."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self.failures = failures
        self.waiting: list[Snapshot] = []
        #: Cleared while a flush takes long.
        self.slow = threading.Event()
        self.slow.set()

    def write(self, snapshot: Snapshot) -> None:
        self.waiting.append(snapshot)

    def flush(self) -> None:
        self.slow.wait(120)
        if self.waiting and self.failures:
            self.failures -= 1
            raise ConnectionError("no route")
        while self.waiting:
            super().write(self.waiting.pop(0))


def test_a_flush_that_fails_is_tried_again_and_waited_for(tmp_path, caplog, monkeypatch) -> None:
    monkeypatch.setattr(pipeline, "FLUSH_SECONDS", 100.0)
    monkeypatch.setattr("mtask_sinks.delivery.worker._SAVE_SECONDS", 1000.0)  # no flush but the one that is waited for
    sink = Buffering(failures=2)
    delivery = Delivery([sink], drain_seconds=100.0)
    delivery.open(RunInfo(id="1", output_dir=str(tmp_path)))
    for snapshot in snapshots(3):
        delivery.write(snapshot)
    delivery.flush()
    assert sink.series("x") == [(0, 0.0), (1, 1.0), (2, 2.0)]
    assert caplog.messages == []
    delivery.close("finished")
    assert delivery.counts["memory"].error is None


def test_a_flush_that_takes_too_long_is_said(tmp_path, caplog, monkeypatch) -> None:
    monkeypatch.setattr(pipeline, "FLUSH_SECONDS", 0.3)
    sink = Buffering(failures=0)
    sink.slow.clear()
    delivery = Delivery([sink])
    delivery.open(RunInfo(id="1", output_dir=str(tmp_path)))
    delivery.write(snapshots(1)[0])
    wait_for(lambda: delivery.counts["memory"].delivered == 1, "the snapshot")
    delivery.flush()
    assert "sink memory has every snapshot, but has not flushed them within 0.3 s" in caplog.text
    (worker,) = delivery._workers
    monkeypatch.setattr(worker._progress.backend, "_hung_after", 0.0)  # not before: a hung sink is not waited for
    wait_for(lambda: delivery.counts["memory"].state == "hung", "the hang")
    sink.slow.set()
    delivery.close("finished")
    assert sink.series("x") == [(0, 0.0)]


def test_a_backend_that_does_not_store_is_down_and_is_not_waited_for(tmp_path, caplog, monkeypatch) -> None:
    monkeypatch.setattr(pipeline, "FLUSH_SECONDS", 1000.0)
    sink = Buffering(failures=10**9)
    delivery = Delivery([sink], drain_seconds=1000.0)
    delivery.open(RunInfo(id="1", output_dir=str(tmp_path)))
    back = threading.Timer(120.0, lambda: setattr(sink, "failures", 0))  # ends the test if it waits after all
    back.start()
    for snapshot in snapshots(3):
        delivery.write(snapshot)
        delivery.flush()
    back.cancel()
    assert sink.snapshots == []
    assert "sink memory is down (ConnectionError: no route); training goes on. 0 snapshots wait" in caplog.text
    delivery.drain_seconds = 0.3
    delivery.close("finished")
    assert "received 1 of 3 snapshots; 2 did not arrive within 0.3 s." in caplog.text
    sink.failures = 0


def test_snapshots_that_were_received_but_not_stored_are_told_at_the_end(tmp_path, caplog, monkeypatch) -> None:
    monkeypatch.setattr("mtask_sinks.delivery.worker._SAVE_SECONDS", 1000.0)  # no flush before all are received
    sink = Buffering(failures=10**9)
    delivery = Delivery([sink], drain_seconds=0.3)
    delivery.open(RunInfo(id="1", output_dir=str(tmp_path)))
    for snapshot in snapshots(3):
        delivery.write(snapshot)
    wait_for(lambda: delivery.counts["memory"].delivered == 3, "the snapshots")
    delivery._workers[0].hurry()
    wait_for(lambda: delivery.counts["memory"].state == "down", "the outage")
    delivery.close("finished")
    (told,) = [message for message in caplog.messages if " received " in message]
    assert "(down, ConnectionError: no route) received 3 of 3 snapshots; storing them did not end within 0.3 s." in told
    assert f"replay('{tmp_path}" in told
    sink.failures = 0


def test_a_mistake_in_the_code_of_flush_holds_up_nothing(tmp_path, caplog) -> None:
    class Mistaken(MemorySink):
        def flush(self) -> None:
            raise AttributeError("no such attribute")

    sink = Mistaken()
    delivery = Delivery([sink])
    delivery.open(RunInfo(id="1", output_dir=str(tmp_path)))
    for snapshot in snapshots(3):
        delivery.write(snapshot)
        delivery.flush()
    delivery.close("finished")
    assert sink.series("x") == [(0, 0.0), (1, 1.0), (2, 2.0)]
    assert "sink memory cannot flush: AttributeError: no such attribute" in caplog.text


def test_a_run_begins_without_a_question_to_a_sink_that_is_not_open(tmp_path, caplog) -> None:
    class Asked(MemorySink):
        def open(self, run: RunInfo) -> None:
            super().open(run)
            self.client = "made when the sink opens"

        def survives(self) -> bool:
            askers.append(threading.current_thread())
            return bool(self.client)

    askers: list[threading.Thread] = []
    sink = Asked()
    delivery = Delivery([sink])
    for run in "12":
        delivery.open(RunInfo(id=run, output_dir=str(tmp_path)))
        delivery.write(Snapshot(step=1))
        delivery.close("finished")
    assert len(sink.snapshots) == 2
    assert askers and threading.current_thread() not in askers
    assert caplog.records == []


def test_a_backend_that_forgets_at_a_flush_gets_the_whole_run_again(tmp_path) -> None:
    class Forgetful(MemorySink):
        forgets = True

        def flush(self) -> None:
            if self.forgets and len(self.snapshots) == 2:
                self.forgets = False
                self.snapshots.clear()
                raise Forgotten

    sink = Forgetful()
    delivery = Delivery([sink])
    delivery.open(RunInfo(id="1", output_dir=str(tmp_path)))
    first, second, third = snapshots(3)
    delivery.write(first)
    delivery.write(second)
    delivery.flush()
    delivery.write(third)
    delivery.close("finished")
    assert sink.series("x") == [(0, 0.0), (1, 1.0), (2, 2.0)]
    assert (delivery.counts["memory"].given, delivery.counts["memory"].pending) == (3, 0)
