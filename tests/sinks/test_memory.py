from __future__ import annotations

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.sinks import MemorySink


def test_everything_is_kept_in_the_order_of_the_calls() -> None:
    sink = MemorySink()
    runs, snapshots = [RunInfo(id="1"), RunInfo(id="2")], [Snapshot(step=1), Snapshot(step=2)]
    for run, snapshot, status in zip(runs, snapshots, ("failed", "finished")):
        sink.open(run)
        sink.write(snapshot)
        sink.close(status)
    assert (sink.runs, sink.snapshots, sink.closed) == (runs, snapshots, ["failed", "finished"])


def test_a_series_has_one_key_of_one_phase() -> None:
    sink = MemorySink()
    sink.write(Snapshot(step=1, metrics={"mlm/loss": 4.0, "nsp/loss": 9.0}))
    sink.write(Snapshot(step=1, phase="eval", metrics={"mlm/loss": 5.0}))
    sink.write(Snapshot(step=2, metrics={"nsp/loss": 9.0}))
    sink.write(Snapshot(step=3, metrics={"mlm/loss": 2.0}))
    assert sink.series("mlm/loss") == [(1, 4.0), (3, 2.0)]
    assert sink.series("mlm/loss", "eval") == [(1, 5.0)]
