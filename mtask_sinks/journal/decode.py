"""Decodes lines of a journal. Crashes, bad disks, editors and newer versions may leave lines that it cannot decode."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from mtask_sinks._util.masking import mask_params
from mtask_sinks.journal.records import NONFINITE, NOTE_FIELDS, Begin, End, Item
from mtask_sinks.note import Note
from mtask_sinks.snapshot import RunInfo, Snapshot

_T = TypeVar("_T")

# Times from 1970 to the year 9999, because Python's functions for dates refuse others. The last two days are left out:
# local time is up to 14 hours ahead of UTC, and `datetime.fromtimestamp` also computes the date one day later.
_LAST_TIME = 253_402_300_799.0 - 2 * 86_400
_STATUSES = ("finished", "failed", "killed")


@dataclass(frozen=True)
class Unreadable:
    """A line that holds no record, or a record with a value of a wrong type.

    Attributes:
        reason: what is wrong, in a few words.
    """

    reason: str


class _Wrong(ValueError):
    """A field is missing, or its value has a wrong type."""


def decode(line: bytes, *, without_logs: bool = False) -> Item | Unreadable | None:
    """Return what a line records.

    >>> decode(b'{"record": "end", "id": "1", "status": "finished", "time": 1.5}')
    End(id='1', status='finished', time=1.5)
    >>> decode(b'{"record": "end", "id": 1, "status": "finished", "time": 1.5}')
    Unreadable(reason='id: 1')
    >>> decode(b'{"record": "of a newer version"}') is None
    True

    Every field of the result has the type that its class declares, so readers need no checks. If a field of a `Begin`
    record is wrong, the field gets its default, and `Begin.wrong` names it. The record itself is kept, because without
    it the next snapshots would belong to the previous run.

    Args:
        line: the line.
        without_logs: leave out what the Trainer logged, which saves three quarters of the time.

    Returns:
        ``None`` if the line is empty, or has a kind of record or a status of an end that this version does not know.
    """
    if not line.strip():
        return None
    try:
        record = _parse_fast(line) if without_logs else json.loads(line)
    except RecursionError:
        return Unreadable("too many brackets")
    except ValueError:
        return Unreadable("no JSON")
    if not isinstance(record, dict) or not isinstance(record.get("record"), str):
        return Unreadable("no record")
    decoder = _DECODERS.get(record["record"])
    try:
        return None if decoder is None else decoder(record, line)
    except _Wrong as error:
        return Unreadable(str(error))
    except RecursionError:
        return Unreadable("too many brackets")


def _parse_fast(line: bytes) -> Any:
    import orjson  # imported late, because that takes 20 ms

    try:
        record = orjson.loads(line)
    except ValueError:  # json also reads a byte order mark, half of a surrogate pair, and NaN
        record = json.loads(line)
    if type(record) is dict and type(record.get("logs")) is dict:
        record["logs"] = {}
    return record


def _snapshot(record: dict[str, Any], line: bytes) -> Snapshot:
    if "counts" not in record and "coverage" in record:  # the older name
        record["counts"] = record["coverage"]
    epoch = record.get("epoch")
    return Snapshot(
        step=_field(record, "step", _integer),
        phase=_field(record, "phase", _text),
        metrics=_field(record, "metrics", _numbers),
        epoch=None if epoch is None else _field(record, "epoch", _number),
        time=_field(record, "time", _time),
        counts=_field(record, "counts", _integers),
        nonfinite=_field(record, "nonfinite", _integers),
        logs=_with_nonfinite(_field(record, "logs", _mapping)),
        is_partial=record.get("partial") is True,
        sequence=0 if record.get("sequence") is None else _field(record, "sequence", _integer),
    )


def _end(record: dict[str, Any], line: bytes) -> End | None:
    status = _field(record, "status", _text)
    end = End(_field(record, "id", _text), status, _field(record, "time", _time))
    return end if status in _STATUSES else None


def _note(record: dict[str, Any], line: bytes) -> Note:
    checks: dict[str, Callable[[Any], Any]] = {"step": _integer, "data": _mapping, "time": _time}
    return Note(**{name: _field(record, name, checks.get(name, _text)) for name in NOTE_FIELDS})


def _begin(record: dict[str, Any], line: bytes) -> Begin:
    wrong: list[str] = []
    nothing: dict[str, Any] = {}
    if b"\\ud" in line or b"\\uD" in line:
        record = {name: value if name == "output_dir" else _printable(value) for name, value in record.items()}

    def read(name: str, check: Callable[[Any], _T], default: _T, is_optional: bool = False) -> _T:
        if is_optional and record.get(name) is None:
            return default
        try:
            return _field(record, name, check)
        except _Wrong:
            wrong.append(name)
            return default

    run = RunInfo(
        id=read("id", _text, hashlib.sha256(line).hexdigest()[:32]),
        output_dir=read("output_dir", _string, None, is_optional=True),
        name=read("name", _text, None, is_optional=True),
        params=mask_params(read("params", _mapping, nothing)),  # an older version did not mask secrets
        step=read("step", _integer, 0),
        attached=read("attached", _texts, {}, is_optional=True),
        continued=read("continued", _texts, {}, is_optional=True),
        logged=read("logged", _names, frozenset(), is_optional=True),
        directions=read("directions", _mapping, nothing, is_optional=True),
        loss_weights=read("loss_weights", _numbers, {}, is_optional=True),
        is_training=record.get("is_training") is not False,
        resumes=read("resumes", _listed, (), is_optional=True),
    )
    return Begin(
        run,
        read("time", _time, 0.0),
        read("versions", _texts, {}),
        read("process", _process, ("", 0, ""), is_optional=True),
        read("started", _text, None, is_optional=True),
        read("sinks", _names, None, is_optional=True),
        tuple(wrong),
    )


_DECODERS: Mapping[str, Callable[[dict[str, Any], bytes], Item | None]] = {
    "snapshot": _snapshot,
    "run": _begin,
    "end": _end,
    "note": _note,
}


def _field(record: Mapping[str, Any], name: str, check: Callable[[Any], _T]) -> _T:
    """Return the value of a field, after a check of its type.

    Raises:
        _Wrong: the record lacks the field, or the value has another type.
    """
    if name not in record:
        raise _Wrong(f"no {name}")
    try:
        return check(record[name])
    except (_Wrong, OverflowError):
        text = repr(record[name]).encode("ascii", "backslashreplace").decode()
        raise _Wrong(f"{name}: {text if len(text) <= 40 else text[:37] + '...'}") from None


def _integer(value: Any) -> int:
    if type(value) is not int or not -(1 << 63) <= value < 1 << 63:
        raise _Wrong
    return value


def _number(value: Any) -> float:
    if type(value) is float:
        return value
    if type(value) is int:
        return float(value)
    if type(value) is str and value in NONFINITE:
        return NONFINITE[value]
    raise _Wrong


def _time(value: Any) -> float:
    number = _number(value)
    if not 0.0 <= number <= _LAST_TIME:
        raise _Wrong
    return number


def _string(value: Any) -> str:
    if type(value) is not str:
        raise _Wrong
    return value


def _text(value: Any) -> str:
    """Return a text. Half of a surrogate pair counts as wrong, because it cannot be printed."""
    text = _string(value)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise _Wrong from None
    return text


def _mapping(value: Any) -> dict[str, Any]:
    if type(value) is not dict:
        raise _Wrong
    return value


def _numbers(value: Any) -> dict[str, float]:
    return {_text(name): _number(item) for name, item in _mapping(value).items()}


def _integers(value: Any) -> dict[str, int]:
    return {_text(name): _integer(item) for name, item in _mapping(value).items()}


def _texts(value: Any) -> dict[str, str]:
    return {_text(name): _text(item) for name, item in _mapping(value).items()}


def _listed(value: Any) -> tuple[str, ...]:
    if type(value) is not list:
        raise _Wrong
    return tuple(map(_text, value))


def _names(value: Any) -> frozenset[str]:
    return frozenset(_listed(value))


def _process(value: Any) -> tuple[str, int, str]:
    if type(value) is not list or len(value) != 3:
        raise _Wrong
    host, number, token = value
    return _text(host), _integer(number), _text(token)


def _with_nonfinite(value: Any) -> Any:
    """Return logs in which the strings ``NaN``, ``Infinity`` and ``-Infinity`` are replaced by floats."""
    if isinstance(value, dict):
        return {name: _with_nonfinite(item) for name, item in value.items()}
    return NONFINITE.get(value, value) if isinstance(value, str) else value


def _printable(value: Any) -> Any:
    if isinstance(value, dict):
        return {_printable(name): _printable(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_printable(item) for item in value]
    return value.encode(errors="replace").decode() if isinstance(value, str) else value
