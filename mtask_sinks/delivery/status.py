"""How far each sink has got with a journal, as far as the files say that another process writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mtask_sinks.delivery.cursor import DIRECTORY_SUFFIX, load_cursor
from mtask_sinks.journal.reader import JournalReader

# A worker without trouble writes its cursor within a second or two.
_LATE_SECONDS = 5.0


@dataclass(frozen=True)
class SinkStatus:
    """How far one sink has got.

    Attributes:
        name: of the sink.
        state: ``up``, ``down`` or ``hung``, as its worker last wrote; ``behind`` if the worker wrote nothing for
            seconds while snapshots came.
        delivered: snapshots; while a training runs, those of its process.
        rejected: snapshots that the backend will never accept.
        pending: snapshots that wait.
        error: of the outage if the backend is away, else the first reason why a snapshot was rejected.
    """

    name: str
    state: str
    delivered: int
    rejected: int
    pending: int
    error: str | None


def sink_statuses(reader: JournalReader, is_running: bool) -> list[SinkStatus]:
    """The status of every sink that has delivered from a journal, by name.

    Args:
        reader: has read the journal.
        is_running: whether a process delivers the journal now. If none does, all snapshots after a sink's cursor wait,
            whatever the process wrote last.
    """
    found = []
    for path in sorted(reader.path.with_suffix(DIRECTORY_SUFFIX).glob("*.json")):
        cursor = load_cursor(path, reader.fingerprint)
        if cursor is None:
            continue
        state, delivered, pending = cursor.state, cursor.delivered, cursor.pending
        behind = reader.snapshots_after(cursor.offset)
        if not is_running:
            delivered, pending = reader.snapshots_after(0) - behind - cursor.rejected, behind
        elif state != "up" or _is_late(path, reader.path):
            # A worker in trouble seldom writes: its cursor is old. The numbers of a worker without trouble are better
            # than its offset, which for W&B stays at the beginning of the run until the client has sent everything.
            state, pending = "behind" if state == "up" and behind else state, max(behind, pending)
        error = cursor.error or (str(cursor.reasons[0]["error"]) if cursor.reasons else None)
        found.append(SinkStatus(path.stem, state, delivered, cursor.rejected, pending, error))
    return found


def _is_late(cursor: Path, journal: Path) -> bool:
    """Whether the journal was written some time after the cursor. The clock of one file system gives both times."""
    try:
        return journal.stat().st_mtime - cursor.stat().st_mtime > _LATE_SECONDS
    except FileNotFoundError:
        return False
