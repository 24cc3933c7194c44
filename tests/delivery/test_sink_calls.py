from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from helpers.failing_sinks import snapshots
from helpers.faulty import wait_for

from mtask_sinks import MetricRegistry, RunInfo, Snapshot
from mtask_sinks.delivery.pipeline import Delivery
from mtask_sinks.errors import NoSuchRun, Rejected
from mtask_sinks.note import Note
from mtask_sinks.sinks import MemorySink

pytestmark = pytest.mark.usefixtures("impatient")


@pytest.mark.parametrize("error", [Rejected("too long"), ValueError("not a number"), KeyError("mlm/loss")])
def test_what_will_never_be_accepted_is_rejected_with_the_reason_and_blocks_nothing(error, tmp_path, caplog) -> None:
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
    assert (counts.delivered, counts.rejected, counts.pending, counts.state) == (3, 2, 0, "closed")
    assert sum("rejected a snapshot (step 1, train)" in record.getMessage() for record in caplog.records) == 1
    assert "sink memory: 2 of 5 snapshots were rejected" in caplog.text
    reasons = json.loads((tmp_path / "metrics.delivery" / "memory.json").read_text())["reasons"]
    text = f"{type(error).__name__}: {error}"
    assert reasons == [{"step": step, "phase": "train", "error": text} for step in (1, 3)]


@pytest.mark.parametrize("call", ["open", "write", "note", "flush", "close"])
def test_a_run_that_its_backend_lacks_is_waited_for_until_a_later_one_begins(call: str, tmp_path, caplog) -> None:
    class Lacking(MemorySink):
        run_id: str | None = None

        def open(self, run: RunInfo) -> None:
            self.run_id = run.id
            super().open(run)
            self.fail_in("open")

        def write(self, snapshot: Snapshot) -> None:
            self.fail_in("write")
            super().write(snapshot)

        def note(self, note: Note) -> None:
            self.fail_in("note")

        def flush(self) -> None:
            self.fail_in("flush")

        def close(self, status: Any) -> None:
            self.fail_in("close")
            super().close(status)

        def fail_in(self, name: str) -> None:
            if self.run_id == "1" and name == call:
                failed.append(name)
                raise NoSuchRun("somebody deleted it")

    failed: list[str] = []
    sink = Lacking()
    delivery = Delivery([sink])
    delivery.open(RunInfo(id="1", output_dir=str(tmp_path)))
    for snapshot in snapshots(2):
        delivery.write(snapshot)
    delivery.note(Note("alert", 2, "a/loss is high", {}))
    delivery.close("killed", seconds=0.2)
    wait_for(lambda: len(failed) > 1, "another try")
    is_refused = call in ("open", "write")
    before = delivery.counts["memory"]
    assert (before.delivered, before.rejected) == ((0, 0) if is_refused else (2, 0))
    delivery.open(RunInfo(id="2", output_dir=str(tmp_path)))
    delivery.write(Snapshot(step=7, metrics={"x": 7.0}))
    delivery.close("finished", seconds=30)
    assert sink.series("x")[-1] == (7, 7.0)
    counts = delivery.counts["memory"]
    assert (counts.delivered, counts.rejected, counts.pending) == ((1, 2, 0) if is_refused else (3, 0, 0))
    assert "somebody deleted it" in caplog.text


def test_an_error_with_the_page_of_a_server_is_short_in_the_cursor_and_in_messages(tmp_path, caplog) -> None:
    class Refusing(MemorySink):
        def write(self, snapshot: Snapshot) -> None:
            raise ValueError("no http://me:word@host: " + "<p>a page</p>" * 100_000)

    delivery = Delivery([Refusing()])
    delivery.open(RunInfo(id="1", output_dir=str(tmp_path)))
    for snapshot in snapshots(3):
        delivery.write(snapshot)
    delivery.close("finished")
    assert delivery.counts["memory"].rejected == 3
    cursor = (tmp_path / "metrics.delivery" / "memory.json").read_text()
    assert "no http://***@host: <p>a page</p>" in cursor and "word" not in cursor + caplog.text
    assert "(1,300,036 characters)" in cursor
    assert len(cursor) < 10_000
    assert len(caplog.text) < 50_000


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
    assert cursor.exists()  # so another process finds it even if this one is killed now
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


def test_a_sink_that_changes_what_it_gets_changes_it_for_nobody_else(tmp_path) -> None:
    class Changing(MemorySink):
        name = "changing"

        def open(self, run: RunInfo) -> None:
            run.params["report_to"].append("changed")
            super().open(run)

        def note(self, note: Note) -> None:
            note.data["actions"].append("changed")

        def write(self, snapshot: Snapshot) -> None:
            snapshot.logs["report"]["f1"].append("changed")
            snapshot.logs["report"]["cat"] = "changed"
            super().write(snapshot)

    class Keeping(MemorySink):
        def note(self, note: Note) -> None:
            notes.append(note)

        def open(self, run: RunInfo) -> None:
            runs.append(run)

    runs: list[RunInfo] = []
    notes: list[Note] = []
    keeping = Keeping()
    changing = Changing()
    delivery = Delivery([changing, keeping])
    run = RunInfo(id="1", output_dir=str(tmp_path), params={"report_to": ["wandb"]})
    row = {"report": {"f1": [0.5]}}
    note = Note("alert", 1, "mlm/loss is nan", {"actions": ["stop"]})
    delivery.open(run)
    delivery.write(Snapshot(step=1, metrics={"mlm/loss": 1.0}).with_logs(row))
    delivery.note(note)
    delivery.close("finished")
    assert delivery.counts["changing"].delivered == 1
    assert changing.snapshots[0].logs == {"report": {"f1": [0.5, "changed"], "cat": "changed"}}
    assert (keeping.snapshots[0].logs, runs[0].params, notes[0].data) == (row, run.params, note.data)
    assert (row, run.params, note.data) == (
        {"report": {"f1": [0.5]}},
        {"report_to": ["wandb"]},
        {"actions": ["stop"]},
    )


@pytest.mark.parametrize("caller", ["trainer", "own loop"])
def test_a_row_that_its_owner_changes_later_arrives_as_it_was_logged(caller: str, tmp_path) -> None:
    released = threading.Event()

    class Late(MemorySink):
        def open(self, run: RunInfo) -> None:
            released.wait(30)

    sink = Late()
    delivery = Delivery([sink])
    delivery.open(RunInfo(id="1", output_dir=str(tmp_path)))
    matrix = [[1, 0], [0, 1]]
    if caller == "trainer":
        delivery.write(Snapshot(step=1, metrics={"mlm/loss": 1.0}).with_logs({"confusion": matrix}))
    else:
        delivery.write(MetricRegistry().snapshot(step=1, logs={"confusion": matrix}))
    matrix[0][0] = 7  # a counter that the evaluation function uses again
    released.set()
    delivery.close("finished")
    assert sink.snapshots[0].logs == {"confusion": [[1, 0], [0, 1]]}
