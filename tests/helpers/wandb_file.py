"""Reads a W&B run file (`*.wandb`). W&B's own package cannot do that any more since 0.31.

The file is a LevelDB log: a header of 7 bytes (``:W&B``, a magic number, a version), then blocks of 32 KiB; each chunk
in a block has a header of 7 bytes (CRC, length, kind: 1 whole, 2 first, 3 middle, 4 last part of a record), and a
record is a protocol buffer.
"""

from __future__ import annotations

import json
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_BLOCK, _HEADER = 32768, 7


@dataclass
class WandbRun:
    """The contents of a run file."""

    history: list[dict[str, Any]] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    #: Defined metric, or pattern of metrics → the metric on its x axis.
    axes: dict[str, str] = field(default_factory=dict)
    name: str = ""
    run_id: str = ""
    #: Entity and project.
    place: tuple[str, str] = ("", "")
    exit_code: int | None = None
    #: Title, text and level of each alert.
    alerts: list[tuple[str, str, str]] = field(default_factory=list)


def read_runs(directory: Path, seconds: float = 60.0) -> list[WandbRun]:
    """Read all runs below a directory. Waits until each has its exit record, which W&B may write after `finish`."""
    end = time.monotonic() + seconds
    while True:
        runs = [_read(path) for path in sorted(directory.rglob("run-*.wandb"))]
        if all(run.exit_code is not None for run in runs) or time.monotonic() > end:
            return runs
        time.sleep(0.05)


def _read(path: Path) -> WandbRun:
    from wandb.proto import wandb_internal_pb2 as proto

    run = WandbRun()
    for body in _records(path.read_bytes()):
        record = proto.Record.FromString(body)
        kind = record.WhichOneof("record_type")
        if kind == "history":
            run.history.append(_items(record.history.item))
        elif kind == "alert":
            run.alerts.append((record.alert.title, record.alert.text, record.alert.level))
        elif kind == "summary":
            run.summary.update(_items(record.summary.update))
        elif kind == "metric" and not record.metric.expanded_from_glob:  # only old versions of W&B write these
            run.axes[record.metric.name or record.metric.glob_name] = record.metric.step_metric
        elif kind == "config":
            run.config.update(_items(record.config.update))
        elif kind == "run":
            run.run_id, run.name = record.run.run_id, record.run.display_name
            run.place = record.run.entity, record.run.project
            run.config.update(_items(record.run.config.update))
        elif kind == "exit":
            run.exit_code = record.exit.exit_code
    return run


def _items(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def _records(data: bytes) -> Iterator[bytes]:
    position, parts = _HEADER, b""
    while position + _HEADER <= len(data):
        left = _BLOCK - position % _BLOCK
        if left < _HEADER:
            position += left
            continue
        crc, length, kind = struct.unpack_from("<IHB", data, position)
        if kind == 0:  # padding until the next block
            position += left
            continue
        body = data[position + _HEADER : position + _HEADER + length]
        if len(body) < length:  # W&B is still writing it
            return
        assert zlib.crc32(body, zlib.crc32(bytes([kind]))) & 0xFFFFFFFF == crc, "broken record"
        position += _HEADER + length
        parts = body if kind in (1, 2) else parts + body
        if kind in (1, 4):
            yield parts
