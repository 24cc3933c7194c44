"""Event files: TensorBoard's own format, written so that a full disk or a removed directory spoils nothing."""

from __future__ import annotations

import itertools
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtask_sinks._util.append_file import AppendFile

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event

_PREFIX = "events.out.tfevents."

# Of the files of this process, as TensorBoard's own writer numbers its.
_numbers = itertools.count()


class EventFile:
    """Appends events to a new file in a directory.

    Each event is one write, so it is there for every reader at once and survives the end of the process. If the disk
    takes only part of one, that is cut off again: a torn event would hide all that follow. TensorBoard's own writer
    hands events to a thread, which dies of its first error.

    Args:
        directory: made if need be.
        suffix: of the file's name.

    TensorBoard reads the files of a directory in the order of their names, which begin with the second of their making;
    a new one always comes last. Every call may raise `OSError`.
    """

    def __init__(self, directory: Path, suffix: str) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SourceMetadata

        directory.mkdir(parents=True, exist_ok=True)
        seconds = max([int(time.time()), *(made + 1 for path in directory.iterdir() if (made := _made(path)))])
        self.path = (
            directory / f"{_PREFIX}{seconds:010d}.{socket.gethostname()}.{os.getpid()}.{next(_numbers):06d}{suffix}"
        )
        self._file = AppendFile(self.path, os.O_WRONLY | os.O_EXCL)
        metadata = SourceMetadata(writer="mtask_sinks")
        try:
            self.add(Event(wall_time=time.time(), file_version="brain.Event:2", source_metadata=metadata))
        except OSError:
            self.close()
            self.path.unlink(missing_ok=True)
            raise

    def add(self, event: Event) -> None:
        """Append one event, or nothing."""
        self._file.append(_record(event.SerializeToString()))

    def is_there(self) -> bool:
        """Whether the file is where it was made."""
        return self._file.is_at_path()

    def close(self) -> None:
        """Nothing can be added any more."""
        self._file.close()


def _record(data: bytes) -> bytes:
    """A record as TensorFlow defines it: length, its checksum, data, their checksum, in little endian.

    https://www.tensorflow.org/tutorials/load_data/tfrecord, "TFRecords format details".
    """
    length = struct.pack("<Q", len(data))
    return length + _checksum(length) + data + _checksum(data)


def _checksum(data: bytes) -> bytes:
    crc = _crc32c()(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


@cache
def _crc32c() -> Callable[[bytes], int]:
    checksum: Callable[[bytes], int]
    try:
        import google_crc32c

        checksum = google_crc32c.value
    except ImportError:  # TensorBoard's own is Python: 100 ns a byte, or 0.8 ms for 200 scalars
        from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import crc32c

        checksum = crc32c
    return checksum


def read_events(directory: Path, suffix: str) -> Iterator[Any]:
    """All whole events in the files of a directory whose names end so, in TensorBoard's order."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    for path in sorted(directory.glob(f"{_PREFIX}*{suffix}")):
        yield from LegacyEventFileLoader(str(path)).Load()


def _made(path: Path) -> int:
    """The second of its making in the name of an event file, else 0."""
    first = path.name.removeprefix(_PREFIX).partition(".")[0]
    return int(first) if path.name.startswith(_PREFIX) and first.isdigit() else 0
