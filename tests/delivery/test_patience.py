from __future__ import annotations

import json
import threading

import pytest
from helpers.failing_sinks import Flaky, Hanging, snapshots

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.delivery.pipeline import Delivery
from mtask_sinks.sinks import MemorySink

pytestmark = pytest.mark.usefixtures("impatient")

FOREVER = 1000.0


def test_a_flush_returns_when_every_sink_has_all_values_and_the_cursor_knows_it(tmp_path, monkeypatch) -> None:
    class Slow(MemorySink):
        flushed = 0

        def write(self, snapshot: Snapshot) -> None:
            threading.Event().wait(0.005)
            super().write(snapshot)

        def flush(self) -> None:
            self.flushed = len(self.snapshots)

    # Without a flush, the worker would wait this long before it saves the cursor.
    monkeypatch.setattr("mtask_sinks.delivery.worker._SAVE_SECONDS", FOREVER)
    monkeypatch.setattr("mtask_sinks.delivery.pipeline.FLUSH_SECONDS", FOREVER)
    sink = Slow()
    delivery = Delivery([sink], drain_seconds=FOREVER)
    delivery.open(RunInfo(id="1", output_dir=str(tmp_path)))
    for snapshot in snapshots(20):
        delivery.write(snapshot)
    delivery.flush()
    assert (len(sink.snapshots), sink.flushed) == (20, 20)
    cursor = json.loads((tmp_path / "metrics.delivery" / "memory.json").read_text())
    assert (cursor["delivered"], cursor["offset"]) == (20, (tmp_path / "metrics.jsonl").stat().st_size)
    delivery.close("finished")


def test_a_sink_that_is_down_is_not_waited_for(monkeypatch) -> None:
    monkeypatch.setattr("mtask_sinks.delivery.pipeline.FLUSH_SECONDS", FOREVER)
    down, good = Flaky("write", failures=10**9), MemorySink()
    delivery = Delivery([down, good], drain_seconds=FOREVER)
    delivery.open(RunInfo(id="1"))
    back = threading.Timer(100.0, lambda: setattr(down, "failures", 0))  # ends the test if it waits after all
    back.start()
    for snapshot in snapshots(3):
        delivery.write(snapshot)
        delivery.flush()
        assert len(good.snapshots) == snapshot.step + 1
    assert (delivery.counts["flaky"].state, delivery.counts["flaky"].pending, len(good.snapshots)) == ("down", 3, 3)
    back.cancel()
    down.failures = 0
    delivery.close("finished")


def test_a_late_sink_is_waited_for_once_until_it_has_caught_up(caplog, monkeypatch) -> None:
    monkeypatch.setattr("mtask_sinks.delivery.pipeline.FLUSH_SECONDS", 0.05)
    late = Hanging()
    delivery = Delivery([late])
    delivery.open(RunInfo(id="1"))
    delivery.write(Snapshot(step=0))
    delivery.flush()
    monkeypatch.setattr("mtask_sinks.delivery.pipeline.FLUSH_SECONDS", FOREVER)
    delivery.drain_seconds = FOREVER
    back = threading.Timer(100.0, late.released.set)  # ends the test if it waits after all
    back.start()
    for step in (1, 2):
        delivery.write(Snapshot(step=step))
        delivery.flush()
    assert late.steps == []
    back.cancel()
    late.released.set()
    with delivery._journal.stream.reader_advanced:  # type: ignore[union-attr]
        assert delivery._journal.stream.reader_advanced.wait_for(lambda: late.steps == [0, 1, 2], 60)  # type: ignore[union-attr]
    delivery.write(Snapshot(step=3))
    delivery.flush()
    assert late.steps == [0, 1, 2, 3]
    assert [record.getMessage() for record in caplog.records] == [
        "sink hanging has not received 1 snapshot within 0.05 s; the program goes on. The journal keeps what is "
        "missing. If you finish the run of the backend now, the run lacks it."
    ]
    delivery.close("finished")
