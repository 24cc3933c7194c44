from __future__ import annotations

from mtask_sinks import Snapshot
from mtask_sinks.journal.entries import EntryQueue, JournalEntry


def test_a_queue_knows_how_many_entries_and_bytes_it_has() -> None:
    queue = EntryQueue()
    for position, line in ((0, b"four"), (4, b"sixsix"), (10, b"x")):
        queue.append(JournalEntry(position, line, Snapshot(step=position)))
    assert [(entry.position, entry.end) for entry in queue] == [(0, 4), (4, 10), (10, 11)]
    assert [queue.exceeds(limits) for limits in ((3, 11), (2, 11), (3, 10))] == [False, True, True]
    queue.drop_first()
    assert (len(queue), queue.first.position, queue.exceeds((2, 7)), queue.exceeds((2, 6))) == (2, 4, False, True)
