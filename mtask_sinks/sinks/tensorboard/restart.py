"""Makes TensorBoard purge the points beyond a checkpoint, because a resumed training reports them again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from mtask_sinks.sinks.tensorboard.event_file import EventFile
from mtask_sinks.sinks.tensorboard.subrun import RUN_SUFFIX


def restart_events(step: int) -> list[Any]:
    """Return events that make TensorBoard purge all points beyond ``step`` in the files of a run that it has read.

    TensorBoard reads the files of a run in the order of their names. A name begins with the second of its creation.
    """
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog

    start = Event(step=step + 1, wall_time=time.time(), session_log=SessionLog(status=SessionLog.START))
    # Two events: with --load_fast=false, TensorBoard takes the first such event as the beginning of the run and
    # purges nothing.
    return [start, start]


def write_restart(directory: Path, step: int) -> None:
    """Make TensorBoard purge all points beyond ``step`` that a directory holds now.

    Raises:
        OSError: the directory cannot be written.
    """
    file = EventFile(directory, RUN_SUFFIX)
    try:
        for event in restart_events(step):
            file.add(event)
    finally:
        file.close()
