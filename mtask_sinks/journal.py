"""Journal: the local record of every snapshot, one line of JSON each, that outlives a crash."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtask_sinks.notices import Notices
from mtask_sinks.snapshot import RunInfo, Snapshot

logger = logging.getLogger(__name__)

#: Name of the file in a training's output directory.
FILE_NAME = "metrics.jsonl"

# Lines that wait in memory while the disk does not take them.
_MAX_WAITING = 10_000
_NONFINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


@dataclass
class JournalRun:
    """One training in a journal: from its beginning, or from where it was resumed, to its end.

    Attributes:
        id: as in `RunInfo`.
        name: display name, or ``None``.
        step: optimizer steps taken when it began: above 0 when it was resumed.
        time: seconds since 1970 (UTC) at which it began.
        versions: of this library and of what it ran with.
        snapshots: in the order of their making.
    """

    id: str
    name: str | None = None
    step: int = 0
    time: float = 0.0
    versions: Mapping[str, str] = field(default_factory=dict)
    snapshots: list[Snapshot] = field(default_factory=list)


class Journal:
    """Appends snapshots to a file.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "metrics.jsonl")
    >>> journal = Journal(path)
    >>> journal.begin(RunInfo(id="1", name="bert"))
    >>> journal.append(Snapshot(step=10, metrics={"mlm/loss": 2.5}))
    >>> journal.close()
    >>> [(run.name, run.snapshots[0].metrics["mlm/loss"]) for run in read_journal(path)]
    [('bert', 2.5)]

    The file appears with the first snapshot that has metrics; each line is written at once, so killing the process
    loses at most the line at hand. A torn last line, which a crash may leave, is cut off when the file is opened again;
    the file of an earlier run is continued. NaN and infinity are the strings ``"NaN"``, ``"Infinity"`` and
    ``"-Infinity"``, so that each line is valid JSON and `pandas.read_json` with ``lines=True`` reads them. No locks;
    one process writes.

    What the disk does not take (full, read-only, gone) waits in memory, bounded, and is written when it does; that is
    said once and counted.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._notices = Notices(logger)
        self._waiting: deque[bytes] = deque(maxlen=_MAX_WAITING)
        self._has_metrics = False
        self._file: int | None = None
        #: Length of the file up to the last whole line.
        self._size = 0

    @property
    def failures(self) -> int:
        """How often the disk did not take a line."""
        return self._notices.counts["disk"]

    def begin(self, run: RunInfo) -> None:
        """Say which run the snapshots from here on belong to."""
        header = {"record": "run", "id": run.id, "name": run.name, "step": run.step, "time": time.time()}
        self._put({**header, "versions": _versions()})

    def append(self, snapshot: Snapshot) -> None:
        """Write a snapshot; never raises for what the disk does."""
        self._has_metrics = self._has_metrics or bool(snapshot.metrics)
        self._put({"record": "snapshot", **{name: getattr(snapshot, name) for name in _SNAPSHOT}})

    def close(self) -> None:
        """Write what waits, and close the file."""
        if self._has_metrics:
            self._flush()
        self._release()
        self._waiting.clear()
        self._has_metrics = False

    def _put(self, record: dict[str, Any]) -> None:
        self._waiting.append(json.dumps(_plain(record), allow_nan=False, default=str).encode() + b"\n")
        if self._has_metrics:
            self._flush()

    def _flush(self) -> None:
        try:
            file = self._open()
            while self._waiting:
                self._write(file, self._waiting[0])
                self._waiting.popleft()
        except OSError as error:
            self._release()
            message = "the journal %s cannot be written: %s. Up to %d lines wait in memory until it can."
            self._notices.add("disk", message, self.path, error, _MAX_WAITING)

    def _open(self) -> int:
        """The file, made or repaired if need be; a new one if somebody removed it."""
        if self._file is not None and _is_same(self._file, self.path):
            return self._file
        self._release()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        self._size = _repair(self._file)
        return self._file

    def _write(self, file: int, line: bytes) -> None:
        written = 0
        try:
            while written < len(line):
                written += os.write(file, line[written:])
        except OSError:
            if written:
                os.ftruncate(file, self._size)
            raise
        self._size += len(line)

    def _release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def read_journal(path: str | os.PathLike[str]) -> list[JournalRun]:
    """The trainings recorded in a journal, each with its snapshots.

    Args:
        path: the file, or the output directory of a training.

    A line that is no whole record, as a crash may leave one, is left out. A resumed training is a run of its own whose
    `step` says where it went on: steps beyond that which an earlier run has too were computed again.

    Raises:
        OSError: the file cannot be read.
    """
    path = Path(path)
    runs: list[JournalRun] = []
    for record in _records(path / FILE_NAME if path.is_dir() else path):
        kind = record.pop("record", None)
        if kind == "run":
            run = JournalRun(**{name: record[name] for name in ("id", "name", "step", "time", "versions")})
            if not runs or (run.id, run.step) != (runs[-1].id, runs[-1].step):
                runs.append(run)
        elif kind == "snapshot":
            if not runs:
                runs.append(JournalRun(id=""))
            runs[-1].snapshots.append(Snapshot(**{name: _numbers(record[name]) for name in _SNAPSHOT}))
    return runs


_SNAPSHOT = ("step", "phase", "metrics", "epoch", "time", "coverage", "nonfinite", "logs")


def _records(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_bytes().splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            yield record


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    return value


def _numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _numbers(item) for name, item in value.items()}
    return _NONFINITE.get(value, value) if isinstance(value, str) else value


def _is_same(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _repair(file: int) -> int:
    """Cut off what follows the last whole line; returns the length that is left."""
    size = os.fstat(file).st_size
    end = size
    while end > 0:
        start = max(end - 65_536, 0)
        newline = os.pread(file, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        os.ftruncate(file, end)
    return end


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("mtask-sinks", "torch", "transformers", "accelerate"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
