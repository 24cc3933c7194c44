from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time

import pytest

from mtask_sinks import RunInfo, Sink, Snapshot
from mtask_sinks.delivery.pipeline import Delivery
from mtask_sinks.delivery.replay import replay
from mtask_sinks.errors import Forgotten, Rejected
from mtask_sinks.sinks import MemorySink


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtask_sinks.delivery.worker._FIRST_WAIT", 0.01)
    monkeypatch.setattr("mtask_sinks.delivery.worker._JITTER", 0.0)
    monkeypatch.setattr("mtask_sinks.delivery.worker._URGENT_WAIT", 0.02)


class Flaky(Sink):
    """Raises in one of its calls, for some number of times."""

    name = "flaky"

    def __init__(self, call: str, failures: int) -> None:
        self.call = call
        self.failures = failures
        self.steps: list[int] = []
        self.closed: list[str] = []

    def open(self, run: RunInfo) -> None:
        self._may_raise("open")

    def write(self, snapshot: Snapshot) -> None:
        self._may_raise("write")
        self.steps.append(snapshot.step)

    def close(self, status: str) -> None:
        self._may_raise("close")
        self.closed.append(status)

    def _may_raise(self, call: str) -> None:
        if call == self.call and self.failures:
            self.failures -= 1
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
    assert (counts.given, counts.delivered, counts.failed, counts.state) == (5, 5, 0, "up")


def test_an_outage_is_one_line_when_it_begins_and_one_when_it_ends(caplog) -> None:
    flaky = Flaky("write", failures=6)
    delivery = Delivery([flaky])
    delivery.open(RunInfo(id="1"))
    for snapshot in snapshots(3):
        delivery.write(snapshot)
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


def test_a_sink_that_stays_away_leaves_its_snapshots_in_the_journal_and_says_how_to_deliver_them(
    tmp_path, caplog
) -> None:
    away, good = Flaky("write", failures=10**9), MemorySink()
    away.environment = lambda: {"AWAY_URL": "http://a b"}  # type: ignore[method-assign]
    delivery = Delivery([away, good], drain_seconds=0.2)
    delivery.open(RunInfo(id="1", output_dir=str(tmp_path)))
    for snapshot in snapshots(5):
        delivery.write(snapshot)
    delivery.close("finished")
    assert len(good.snapshots) == 5
    counts = delivery.counts["flaky"]
    assert (counts.given, counts.pending, counts.failed, counts.state) == (5, 5, 0, "down")
    assert "sink flaky (down, OSError: no write today): of 5 snapshots 0 were delivered, 5 were not within 0.2 s" in (
        caplog.text
    )
    command = f"AWAY_URL='http://a b' mtask-sinks replay {tmp_path / 'metrics.jsonl'} --to flaky"
    assert caplog.text.rstrip().endswith(command)
    assert replay(tmp_path, [back := Flaky("", failures=0)])["flaky"].delivered == 5
    assert (back.steps, back.closed) == ([0, 1, 2, 3, 4], ["finished"])


@pytest.mark.parametrize("error", [Rejected("too long"), ValueError("not a number"), KeyError("mlm/loss")])
def test_what_will_never_be_accepted_is_set_aside_with_the_reason_and_blocks_nothing(error, tmp_path, caplog) -> None:
    class Choosy(MemorySink):
        def write(self, snapshot: Snapshot) -> None:
            if snapshot.step % 2:
                raise error
            super().write(snapshot)

    sink = Choosy()
    delivery = Delivery([sink])
    delivery.open(RunInfo(id="1", output_dir=str(tmp_path)))
    for snapshot in snapshots(5):
        delivery.write(snapshot)
    delivery.close("finished")
    assert [step for step, _ in sink.series("x")] == [0, 2, 4]
    counts = delivery.counts["memory"]
    assert (counts.delivered, counts.failed, counts.pending, counts.state) == (3, 2, 0, "up")
    assert sum("a snapshot was set aside (step 1, train)" in record.getMessage() for record in caplog.records) == 1
    assert "sink memory: 2 of 5 snapshots were set aside" in caplog.text
    reasons = json.loads((tmp_path / "metrics.delivery" / "memory.json").read_text())["reasons"]
    text = f"{type(error).__name__}: {error}"
    assert reasons == [{"step": step, "phase": "train", "error": text} for step in (1, 3)]


def test_where_a_run_is_written_to_is_known_to_other_processes_before_it_holds_anything(tmp_path) -> None:
    cursor = tmp_path / "metrics.delivery" / "memory.json"
    seen = []

    class Found(MemorySink):
        def target(self) -> str:
            return "there"

        def write(self, snapshot: Snapshot) -> None:
            seen.append(json.loads(cursor.read_text())["targets"])
            super().write(snapshot)

    delivery = Delivery([Found()])
    delivery.open(RunInfo(id="1", output_dir=str(tmp_path)))
    assert cursor.exists()  # before anything can be left
    delivery.write(Snapshot(step=0))
    delivery.close("finished")
    assert seen == [{"1": "there"}]


def test_a_broken_close_does_not_block_the_next_run(caplog) -> None:
    class Broken(MemorySink):
        def close(self, status) -> None:
            raise AttributeError("no such thing")

    sink = Broken()
    delivery = Delivery([sink])
    for run in "12":
        delivery.open(RunInfo(id=run))
        delivery.write(Snapshot(step=1, metrics={"x": float(run)}))
        delivery.close("finished")
    assert sink.series("x") == [(1, 1.0), (1, 2.0)]
    assert "could not be closed: AttributeError: no such thing" in caplog.text


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
    assert len(delivery._journal._recent) <= 256  # type: ignore[union-attr]
    hanging.released.set()
    delivery.close("finished")
    assert hanging.steps == list(range(2000))


def test_a_sink_that_hangs_holds_up_neither_the_caller_nor_the_others_nor_the_end(caplog, monkeypatch) -> None:
    monkeypatch.setattr("mtask_sinks.delivery.worker.CALL_SECONDS", 0.05)
    hanging, good = Hanging(), MemorySink()
    delivery = Delivery([hanging, good], drain_seconds=0.3)
    delivery.open(RunInfo(id="1"))
    start = time.monotonic()
    for snapshot in snapshots(50):
        delivery.write(snapshot)
    delivery.close("finished")
    assert time.monotonic() - start < 10  # not the 30 s that each write would take
    assert len(good.snapshots) == 50
    assert delivery.counts["hanging"].state == "hung"
    assert "sink hanging (hung): of 50 snapshots 0 were delivered, 50 were not within 0.3 s" in caplog.text
    hanging.released.set()


def test_a_hanging_call_is_said_once(caplog, monkeypatch) -> None:
    monkeypatch.setattr("mtask_sinks.delivery.worker.CALL_SECONDS", 0.05)
    hanging = Hanging()
    delivery = Delivery([hanging], drain_seconds=5)
    delivery.open(RunInfo(id="1"))
    delivery.write(Snapshot(step=0))
    time.sleep(0.3)
    for step in (1, 2, 3):
        delivery.write(Snapshot(step=step))
    assert [record.getMessage() for record in caplog.records] == [
        "sink hanging: a call has not come back for 0.05 s; its snapshots wait in the journal."
    ]
    hanging.released.set()
    delivery.close("finished")
    assert (hanging.steps, delivery.counts["hanging"].state) == ([0, 1, 2, 3], "up")


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


@pytest.mark.parametrize("status", ["finished", "failed"])
@pytest.mark.parametrize("is_kept", [True, False])
def test_what_was_not_closed_is_delivered_when_the_interpreter_exits(tmp_path, status: str, is_kept: bool) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import time\n"
        "from mtask_sinks import Sink, Snapshot, RunInfo\n"
        "from mtask_sinks.delivery.pipeline import Delivery\n"
        "class Slow(Sink):\n"
        "    name = 'slow'\n"
        "    def write(self, snapshot):\n"
        "        time.sleep(0.02)\n"
        "        print('wrote', snapshot.step, flush=True)\n"
        "    def close(self, status):\n"
        "        print('closed', status, flush=True)\n"
        "delivery = Delivery([Slow()])\n"
        f"delivery.exit_status = {status!r}\n"
        "delivery.open(RunInfo(id='1'))\n"
        "for step in range(10):\n"
        "    delivery.write(Snapshot(step=step))\n" + ("" if is_kept else "del delivery\n")
    )
    output = subprocess.run([sys.executable, str(script)], check=True, capture_output=True, text=True).stdout
    assert output.splitlines() == [*(f"wrote {step}" for step in range(10)), f"closed {status}"]


def test_a_forked_child_delivers_nothing_and_does_not_wait() -> None:
    hanging = Hanging()
    delivery = Delivery([hanging], drain_seconds=20)
    delivery.open(RunInfo(id="1"))
    delivery.write(Snapshot(step=0))
    child = os.fork()
    if not child:
        start = time.monotonic()
        delivery.write(Snapshot(step=1))
        delivery.close("finished")
        os._exit(int(time.monotonic() - start > 5))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    hanging.released.set()
    delivery.close("finished")
    assert hanging.steps == [0]


def test_a_forked_child_may_begin_a_delivery_of_its_own(tmp_path) -> None:
    sink = MemorySink()
    delivery = Delivery([sink])
    delivery.open(RunInfo(id="1", output_dir=str(tmp_path / "parent")))
    child = os.fork()
    if not child:
        delivery.open(RunInfo(id="2", output_dir=str(tmp_path / "child")))
        delivery.write(Snapshot(step=1, metrics={"x": 1.0}))
        delivery.close("finished")
        os._exit(int(sink.series("x") != [(1, 1.0)]))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    delivery.close("finished")
    assert sink.series("x") == []


def test_the_last_lines_go_to_the_journal_that_was_begun_wherever_the_process_works_by_then(
    tmp_path, monkeypatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    delivery = Delivery([MemorySink()])
    delivery.open(RunInfo(id="1", output_dir="out"))
    monkeypatch.chdir(tmp_path / "elsewhere")
    delivery.write(Snapshot(1, metrics={"mlm/loss": 1.0}))
    delivery.close("finished")
    assert not list((tmp_path / "elsewhere").iterdir())
    lines = (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["record"] for line in lines] == ["run", "snapshot", "end"]
