"""Makes TensorBoard purge the points beyond a checkpoint, because a resumed training reports them again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from mtask_sinks.sinks.tensorboard.event_file import EventFile, read_events
from mtask_sinks.sinks.tensorboard.subrun import RUN_SUFFIX

# Marks an event whose window was still open. A resume at the event's step continues this window; see `mark_open`.
_OPEN = "mtask_sinks open window"
# Bytes to read at a time.
_BLOCK = 1 << 20


def mark_open(event: Any) -> Any:
    """Return a marked copy of an event. The mark means: a resume at its step will report its values again."""
    marked = type(event)()
    marked.CopyFrom(event)
    marked.source_metadata.writer = _OPEN
    return marked


def restart_events(step: int, directory: Path) -> list[Any]:
    """Return events that make TensorBoard purge the points beyond ``step`` that it has already read.

    TensorBoard reads the files of a run in the order of their names, which hold the second of the file's creation.

    Args:
        step: the step of the resume.
        directory: the directory of the run. If it holds marked events of this step, TensorBoard must purge them too. It
            can only purge all events of a step, so the result then contains the other events of the step again.
    """
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog

    kept = _kept_of_step(directory, step)
    start = Event(step=step + (not kept), wall_time=time.time(), session_log=SessionLog(status=SessionLog.START))
    # Two events: with --load_fast=false, TensorBoard takes the first such event as the beginning of the run and
    # purges nothing.
    return [start, start, *(event for event in kept if event is not None)]


def _kept_of_step(directory: Path, step: int) -> list[Any]:
    """Return the events of a step, with ``None`` in place of each marked one; an empty list if none is marked."""
    if not any(_holds_mark(path) for path in directory.glob("*")):
        return []
    events = [event for event in read_events(directory, "") if event.step == step and event.HasField("summary")]
    found = [None if event.source_metadata.writer == _OPEN else event for event in events]
    return found if None in found else []


def _holds_mark(path: Path) -> bool:
    """Return whether a file has the mark, without decoding its events."""
    if not path.is_file():
        return False
    mark, before = _OPEN.encode(), b""
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            if mark in before + block:
                return True
            before = block[-len(mark) :]
    return False


def write_restart(directory: Path, step: int) -> None:
    """Make TensorBoard purge all points beyond ``step`` that a directory holds now.

    Raises:
        OSError: the directory cannot be written.
    """
    file = EventFile(directory, RUN_SUFFIX)
    try:
        for event in restart_events(step, directory):
            file.add(event)
    finally:
        file.close()
