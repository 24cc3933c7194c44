"""Notes reach sinks that have a place for them, in order, once; replays do not send them again."""

from __future__ import annotations

import pytest

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.delivery.pipeline import Delivery
from mtask_sinks.delivery.replay import replay
from mtask_sinks.note import Note
from mtask_sinks.sinks import MemorySink


class Noting(MemorySink):
    """Fails as often as `errors` says, then takes notes."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__()
        self.errors = list(errors)
        self.notes: list[tuple[int, str]] = []

    def note(self, note: Note) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.notes.append((note.step, note.text))


def deliver(path, sink):
    delivery = Delivery([sink])
    delivery.open(RunInfo(id="1", output_dir=str(path)))
    for step in (1, 2):
        delivery.write(Snapshot(step=step, metrics={"x": 1.0}))
        delivery.note(Note("alert", step, f"at {step}", {}, 1.0))
    delivery.close("finished")
    return delivery


def test_each_note_arrives_once_and_counts_as_no_snapshot(tmp_path):
    sink = Noting(ConnectionError("away"))
    counts = deliver(tmp_path, sink).counts["memory"]
    assert sink.notes == [(1, "at 1"), (2, "at 2")]
    assert (counts.given, counts.delivered, counts.pending) == (2, 2, 0)


def test_a_note_that_is_never_accepted_blocks_nothing(tmp_path, caplog):
    sink = Noting(ValueError("too long"))
    deliver(tmp_path, sink)
    assert sink.notes == [(2, "at 2")]
    assert "sink memory rejected a note (step 1): ValueError: too long" in caplog.text


@pytest.mark.parametrize("what", ["left", "all", "new"])
def test_a_replay_does_not_send_old_alerts_again(what, tmp_path):
    deliver(tmp_path, MemorySink())
    sink = Noting()
    replay(tmp_path, [sink], what=what)
    assert sink.notes == []
