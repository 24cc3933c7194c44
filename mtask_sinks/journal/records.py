"""Records: what a line of the journal holds, encoded to bytes and decoded to objects."""

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
_RUN = ("id", "output_dir", "name", "params", "step", "attached", "continued", "logged")
# Tells this process from an earlier one with the same number, as in a container that was restarted.
_TOKEN = uuid.uuid4().hex
_SECRET_NAME = re.compile(r"(^|_)(token|secret|password|passwd|api_?key|credentials?)$", re.IGNORECASE)
# What transformers writes in place of a secret.
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
    """A run begins here, is resumed, or goes on: for an evaluation after training, or in other runs of the backends.

    `mtask_sinks.journal.run_start` decides which of these it is.

    Attributes:
        run: what the sinks are told.
        time: when it began, in seconds since 1970 (UTC).
        versions: of this library and of the packages that it runs with.
        process: host, number and token of the process that trains.
    """

    run: RunInfo
    time: float = field(default_factory=time.time)
    versions: Mapping[str, str] = field(default_factory=_versions)
    process: tuple[str, int, str] = field(default_factory=lambda: (socket.gethostname(), os.getpid(), _TOKEN))

    def is_at_work(self) -> bool:
        """Whether the process that trains is still there; a process on another machine counts as gone."""
        host, process, token = self.process
        if host != socket.gethostname():
            return False
        if process == os.getpid():
            return token == _TOKEN
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # somebody else's process
            return True
        return True


@dataclass(frozen=True)
class End:
    """A run ends here: ``finished``, ``failed`` or ``killed``."""

    id: str
    status: str
    time: float = field(default_factory=time.time)


Item = Begin | Snapshot | End


def encode(item: Item) -> bytes:
    """The line of an item, with its newline. Valid JSON: NaN and infinity are strings."""
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
    """As `encode`, in a twentieth of the time that `json` takes, mostly for the digits of floats."""
    import orjson  # not above: commands that only read journals start 20 ms earlier without it

    # If all values are finite, so is their sum; that takes a tenth of the time of a check per value.
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
    try:
        if is_finite:  # orjson writes null for other values
            return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:  # a NumPy float, an integer of more than 64 bits, text that is no valid Unicode
        pass
    return _line(as_plain(record))


def _line(record: dict[str, Any]) -> bytes:
    return json.dumps(record, allow_nan=False).encode() + b"\n"


def decode(line: bytes) -> Item | None:
    """What a line records; ``None`` if it holds no whole record of a known kind."""
    try:
        record = json.loads(line)
        if record["record"] == "snapshot":
            if "coverage" in record:  # an older name
                record["counts"] = record["coverage"]
            return Snapshot(**{name: _numbers(record[name]) for name in _SNAPSHOT})
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
    """Identifies a journal by its first line: another one of the same name has another fingerprint."""
    return hashlib.sha256(first_line).hexdigest()[:16]


def is_run_record(line: bytes) -> bool:
    """Whether a line begins or ends a run; faster than decoding it."""
    return line.startswith((b'{"record": "run"', b'{"record": "end"'))


def as_plain(value: Any) -> Any:
    """A value as JSON can hold it: NaN and infinity become strings, mappings dicts, and unknown types their text."""
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
    """Parameters without secrets: everybody who can read the file can read them."""
    if isinstance(value, Mapping):
        return {str(name): _without_secrets(item, str(name)) for name, item in value.items()}
    if isinstance(value, str):
        is_secret = _SECRET_NAME.search(name) and value and not _MASKED.fullmatch(value)
        return "***" if is_secret else _SECRET_IN_URL.sub("***@", value)
    return value
