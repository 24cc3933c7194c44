"""Encodes snapshots, run starts and run ends as lines of a journal, and decodes them."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import socket
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from mtask_sinks.snapshot import RunInfo, Snapshot, thawed

_NONFINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_SNAPSHOT = ("step", "phase", "metrics", "epoch", "time", "counts", "nonfinite", "logs")
_RUN = ("id", "output_dir", "name", "params", "step", "attached", "continued", "logged", "directions")
# Distinguishes this process from an earlier one with the same number, for example in a restarted container.
_TOKEN = uuid.uuid4().hex
_SECRET_NAME = re.compile(r"(^|_)(token|secret|password|passwd|api_?key|credentials?)$", re.IGNORECASE)
# transformers writes such text in place of a secret.
_MASKED = re.compile(r"<[A-Z_]+>")
_SECRET_IN_URL = re.compile(r"(?<=://)[^/@\s]+@")


@cache
def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("mtask-sinks", "torch", "transformers", "accelerate"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@dataclass(frozen=True)
class Begin:
    """A run starts, resumes or continues here (with an evaluation after training, or in other runs of the backends).

    `mtask_sinks.journal.run_start` decides which of the three it is.

    Attributes:
        run: the information that the sinks get.
        time: when the run began, in seconds since 1970 (UTC).
        versions: versions of this library and of the packages that it uses.
        process: host, number and token of the process that trains.
    """

    run: RunInfo
    time: float = field(default_factory=time.time)
    versions: Mapping[str, str] = field(default_factory=_versions)
    process: tuple[str, int, str] = field(default_factory=lambda: (socket.gethostname(), os.getpid(), _TOKEN))

    def is_at_work(self) -> bool:
        """Return whether the process that trains still exists. A process on another machine counts as ended."""
        host, process, token = self.process
        if host != socket.gethostname():
            return False
        if process == os.getpid():
            return token == _TOKEN
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # the process exists, but another user owns it
            return True
        return True


@dataclass(frozen=True)
class End:
    """A run ends here, with the status ``finished``, ``failed`` or ``killed``."""

    id: str
    status: str
    time: float = field(default_factory=time.time)


Item = Begin | Snapshot | End


def encode(item: Item) -> bytes:
    """Return the line of an item, with its newline. The line is valid JSON: NaN and infinity are strings."""
    if isinstance(item, Snapshot):
        return _encode_snapshot(item)
    if isinstance(item, Begin):
        run = {name: getattr(item.run, name) for name in _RUN}
        run |= {"params": _without_secrets(item.run.params), "logged": sorted(item.run.logged)}
        record = {"record": "run", **run, "time": item.time, "versions": item.versions, "process": item.process}
    else:
        record = {"record": "end", "id": item.id, "status": item.status, "time": item.time}
    return _line(as_plain(record))


def _encode_snapshot(item: Snapshot) -> bytes:
    """Encode a snapshot 20 times faster than `json`, which spends most of its time on the digits of floats."""
    import orjson  # imported late: commands that only read journals start 20 ms faster without it

    # If the sum is finite, all values are. Testing each value would take ten times as long.
    is_finite = math.isfinite(sum(item.metrics.values()) + item.time + (item.epoch or 0.0))
    record = {
        "record": "snapshot",
        "step": item.step,
        "phase": item.phase,
        "metrics": thawed(item.metrics),
        "epoch": item.epoch,
        "time": item.time,
        "counts": thawed(item.counts),
        "nonfinite": thawed(item.nonfinite),
        "logs": as_plain(item.logs),
    }
    if item.is_partial:
        record["partial"] = True
    try:
        if is_finite:  # orjson writes null for NaN and infinity
            return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:  # orjson refuses NumPy floats, integers of more than 64 bits and invalid Unicode
        pass
    return _line(as_plain(record))


def _line(record: dict[str, Any]) -> bytes:
    return json.dumps(record, allow_nan=False).encode() + b"\n"


def decode(line: bytes) -> Item | None:
    """Return what a line records, or ``None`` if it holds no complete record of a known kind."""
    try:
        record = json.loads(line)
        if record["record"] == "snapshot":
            if "coverage" in record:  # the older name of `counts`
                record["counts"] = record["coverage"]
            fields = {name: _numbers(record[name]) for name in _SNAPSHOT}
            return Snapshot(**fields, is_partial=record.get("partial") is True)
        if record["record"] == "run":
            run = {name: record[name] for name in _RUN if name in record}
            run["logged"] = frozenset(run.get("logged", ()))
            host, process, token = record.get("process", ("", 0, ""))
            return Begin(RunInfo(**run), record["time"], record["versions"], (host, process, token))
        if record["record"] == "end":
            return End(record["id"], record["status"], record["time"])
    except (ValueError, KeyError, TypeError):
        pass
    return None


def fingerprint_of(first_line: bytes) -> str:
    """Return a hash of a journal's first line. Another journal with the same path has another fingerprint."""
    return hashlib.sha256(first_line).hexdigest()[:16]


def is_run_record(line: bytes) -> bool:
    """Return whether a line begins or ends a run, without decoding the line."""
    return line.startswith((b'{"record": "run"', b'{"record": "end"'))


def as_plain(value: Any) -> Any:
    """Return a value that JSON can hold: NaN, infinity and unknown types become strings, mappings become dicts."""
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(name): as_plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [as_plain(item) for item in value]
    return value if value is None or isinstance(value, (str, int)) else str(value)


def _numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _numbers(item) for name, item in value.items()}
    return _NONFINITE.get(value, value) if isinstance(value, str) else value


def _without_secrets(value: Any, name: str = "") -> Any:
    """Return parameters without secrets, because everybody who can read the file can read the parameters."""
    if isinstance(value, Mapping):
        return {str(name): _without_secrets(item, str(name)) for name, item in value.items()}
    if isinstance(value, str):
        is_secret = _SECRET_NAME.search(name) and value and not _MASKED.fullmatch(value)
        return "***" if is_secret else _SECRET_IN_URL.sub("***@", value)
    return value
