"""How far each sink has got with a journal, read from the files that another process writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mtask_sinks.delivery.cursor import DIRECTORY_SUFFIX, load_cursor
from mtask_sinks.journal.reader import Tail

# A worker that keeps up writes within a second or two.
_LATE_SECONDS = 5.0


@dataclass(frozen=True)
class Standing:
    """Of one sink.

    Attributes:
        name: of the sink.
        state: ``up``, ``down`` or ``hung`` as its worker last wrote; ``behind`` if it wrote nothing for seconds while
            snapshots came.
        delivered: snapshots; while a training runs those of its process.
        failed: snapshots set aside, which the backend will never accept.
        pending: snapshots that wait.
        error: what the backend was away with, else the first reason why a snapshot was set aside.
    """

    name: str
    state: str
    delivered: int
    failed: int
    pending: int
    error: str | None


def standings(tail: Tail, is_running: bool) -> list[Standing]:
    """Every sink that has delivered from this journal, by name.

    Args:
        tail: that has read the journal.
        is_running: whether a process delivers it now. If none does, all that lies behind a sink's cursor waits,
            whatever the process that is gone last said.
    """
    found = []
    for path in sorted(tail.path.with_suffix(DIRECTORY_SUFFIX).glob("*.json")):
        cursor = load_cursor(path, tail.fingerprint)
        if cursor is None:
            continue
        state, delivered, pending = cursor.state, cursor.delivered, cursor.pending
        behind = tail.snapshots_behind(cursor.offset)
        if not is_running:
            delivered, pending = tail.snapshots_behind(0) - behind - cursor.failed, behind
        elif state != "up" or _is_late(path, tail.path):
            # A worker in trouble seldom writes. One that is well knows better than its offset, which for W&B is where
            # the run began until the client has sent all.
            state, pending = "behind" if state == "up" and behind else state, max(behind, pending)
        error = cursor.error or (str(cursor.reasons[0]["error"]) if cursor.reasons else None)
        found.append(Standing(path.stem, state, delivered, cursor.failed, pending, error))
    return found


def _is_late(cursor: Path, journal: Path) -> bool:
    """Whether the journal was written to some time after the cursor: both times are of one file system's clock."""
    try:
        return journal.stat().st_mtime - cursor.stat().st_mtime > _LATE_SECONDS
    except FileNotFoundError:
        return False
