"""Reads how far each sink has got with a journal, from the files that another process writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mtask_sinks._util.masking import mask
from mtask_sinks.delivery.backend_state import TROUBLES
from mtask_sinks.delivery.cursor import DIRECTORY_SUFFIX, load_cursor
from mtask_sinks.journal.reader import JournalReader

# A worker without problems writes its cursor every second or two.
_LATE_SECONDS = 5.0


@dataclass(frozen=True)
class SinkStatus:
    """How far one sink has got.

    Attributes:
        name: name of the sink.
        state: the state of `SinkCounts`, as its worker last wrote it; ``behind`` if the worker wrote nothing for
            seconds although there were new snapshots.
        delivered: number of delivered snapshots; while a training runs, only those that its process delivered.
        rejected: number of snapshots that the backend will never accept.
        pending: number of snapshots that wait.
        error: the error of the outage if the backend is not up, else the reason of the first rejected snapshot.
    """

    name: str
    state: str
    delivered: int
    rejected: int
    pending: int
    error: str | None

    @property
    def is_in_trouble(self) -> bool:
        """Whether the sink took no snapshots when a process last wrote its state."""
        return self.state in TROUBLES


def sink_statuses(reader: JournalReader, is_running: bool) -> list[SinkStatus]:
    """Return the status of every sink that has a cursor for a journal, by name.

    Args:
        reader: a reader that has read the journal.
        is_running: whether a process delivers the journal now. If not, all snapshots after a sink's cursor wait,
            regardless of the last state in the cursor.
    """
    found = []
    for path in sorted(reader.path.with_suffix(DIRECTORY_SUFFIX).glob("*.json")):
        cursor = load_cursor(path, reader.fingerprint)
        if cursor is None:
            continue
        state, delivered, pending = cursor.state, cursor.delivered, cursor.pending
        behind = reader.snapshots_after(cursor.offset, path.stem)
        if not is_running:
            passed = reader.snapshots_after(0, path.stem) - behind
            delivered, pending = max(passed - cursor.rejected, 0), behind
        elif state in TROUBLES or _is_late(path, reader.path):
            # A worker in trouble rarely writes its cursor, so its numbers are old: count from its offset. Otherwise use
            # its numbers, because with W&B the offset stays at the beginning of the run until the client has sent
            # everything.
            state, pending = state if state in TROUBLES or not behind else "behind", max(behind, pending)
        error = cursor.error or (str(cursor.reasons[0]["error"]) if cursor.reasons else None)
        error = None if error is None else mask(error)  # an older version may have written the file
        found.append(SinkStatus(path.stem, state, delivered, cursor.rejected, pending, error))
    return found


def _is_late(cursor: Path, journal: Path) -> bool:
    """Return whether the journal is newer than the cursor by some seconds. One file system's clock gives both times."""
    try:
        return journal.stat().st_mtime - cursor.stat().st_mtime > _LATE_SECONDS
    except FileNotFoundError:
        return False
