from __future__ import annotations

import json
import math
import time

import pytest

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks._util.formatting import moment
from mtask_sinks.journal.decode import Unreadable, decode
from mtask_sinks.journal.records import Begin, End, encode
from mtask_sinks.note import Note

SNAPSHOT = json.loads(encode(Snapshot(7, "eval", {"a/x": 0.5}, 0.5, 1.5, {"a/x": 2}, {"a/x": 1}, {"loss": 1.0})))
RUN = json.loads(
    encode(Begin(RunInfo(id="1", name="r", params={"lr": 0.1}, step=5), 2.5, {"torch": "2"}, ("h", 1, "t")))
)
END = json.loads(encode(End("1", "failed", 13.5)))
NOTE = json.loads(encode(Note("alert", 4, "text", {"key": "a/x"}, 2.0)))


def line(record: dict, **changes: object) -> bytes:
    return json.dumps({**record, **changes}).encode()


@pytest.mark.parametrize("nothing", [b"", b"\n", b" \r\n", b'{"record": "of a newer version", "step": "x"}\n'])
def test_an_empty_line_and_a_newer_kind_of_record_are_passed_over(nothing) -> None:
    assert decode(nothing) is None


@pytest.mark.parametrize(
    "text", [b"{", b"[]", b"1", b"null", b'"record"', b'{"record": 1}', b'{"record": null}', b"{}", b"\xff\n", b"NaN"]
)
def test_what_is_no_record_is_unreadable(text) -> None:
    assert isinstance(decode(text), Unreadable)


@pytest.mark.parametrize("deep", [b"[" * 200_000, b'{"record": "snapshot", "logs": ' + b'{"a":' * 200_000, b"[" * 900])
def test_brackets_without_end_are_unreadable(deep) -> None:
    assert isinstance(decode(deep), Unreadable)


@pytest.mark.parametrize(
    "changes",
    [
        {"step": "7"}, {"step": 7.0}, {"step": True}, {"step": None}, {"step": 2**63}, {"step": [7]},
        {"time": 1e30}, {"time": -1.0}, {"time": None}, {"time": "now"}, {"time": "NaN"}, {"time": 10**400},
        {"phase": None}, {"phase": 1}, {"phase": "\ud800"},
        {"metrics": None}, {"metrics": []}, {"metrics": {"a/x": None}}, {"metrics": {"a/x": "high"}},
        {"metrics": {"a/x": [1]}}, {"metrics": {"a/x": True}}, {"metrics": {"\udfff": 1.0}},
        {"metrics": {"a": 10**400}},
        {"counts": {"a/x": 1.5}}, {"counts": {"a/x": 2**70}}, {"nonfinite": {"a/x": "1"}}, {"counts": 3},
        {"logs": None}, {"logs": []}, {"epoch": "half"}, {"epoch": {}}, {"sequence": "1"},
    ],
)  # fmt: skip
def test_a_snapshot_with_a_wrong_type_is_unreadable_and_the_reason_names_the_field(changes) -> None:
    found = decode(line(SNAPSHOT, **changes))
    assert isinstance(found, Unreadable)
    assert found.reason.startswith(f"{next(iter(changes))}: ") and found.reason.isascii()


@pytest.mark.parametrize("missing", ["step", "phase", "metrics", "time", "counts", "nonfinite", "logs"])
def test_a_snapshot_that_lacks_a_field_is_unreadable(missing) -> None:
    without = {name: value for name, value in SNAPSHOT.items() if name != missing}
    assert decode(line(without)) == Unreadable(f"no {missing}")


def test_whole_numbers_and_numbers_that_json_lacks_are_values() -> None:
    found = decode(line(SNAPSHOT, metrics={"a": 1, "b": "NaN", "c": "-Infinity", "d": 1e300}, epoch="NaN", more=[1]))
    assert isinstance(found, Snapshot)
    assert [found.metrics["a"], found.metrics["c"], found.metrics["d"]] == [1.0, -math.inf, 1e300]
    assert type(found.metrics["a"]) is float and math.isnan(found.metrics["b"])


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"id": 5}, ("id",)), ({"id": None}, ("id",)), ({"step": "5"}, ("step",)), ({"name": 3}, ("name",)),
        ({"params": []}, ("params",)), ({"time": 1e30}, ("time",)), ({"versions": {"torch": 2}}, ("versions",)),
        ({"process": ["h", "1", "t"]}, ("process",)), ({"process": {}}, ("process",)), ({"started": 3}, ("started",)),
        ({"attached": {"wandb": None}, "logged": "wandb"}, ("attached", "logged")),
        ({"directions": 3}, ("directions",)),
        ({"output_dir": 3, "continued": []}, ("output_dir", "continued")),
    ],
)  # fmt: skip
def test_a_beginning_with_wrong_fields_begins_a_run_with_their_defaults(changes, wrong) -> None:
    found = decode(line(RUN, **changes))
    assert isinstance(found, Begin)
    assert found.wrong == wrong
    right = decode(line(RUN))
    kept = [name for name in ("id", "name", "step") if name not in changes]
    assert [getattr(found.run, name) for name in kept] == [getattr(right.run, name) for name in kept]
    assert found.run.id and (found.process == ("", 0, "")) == ("process" in changes)


def test_two_beginnings_without_an_id_are_two_runs() -> None:
    first, second = (decode(line(RUN, id=None, time=at)) for at in (1.0, 2.0))
    assert first.run.id != second.run.id


def test_texts_of_a_beginning_can_be_printed_and_its_directory_stays_as_it_is() -> None:
    directory = b"/tmp/\xff".decode(errors="surrogateescape")
    found = decode(encode(Begin(RunInfo(id="1", name="r\ud800", output_dir=directory, params={"dir": [directory]}))))
    assert (found.run.name, found.run.output_dir, found.run.params) == ("r?", directory, {"dir": ["/tmp/?"]})
    assert found.wrong == ()


@pytest.mark.parametrize("changes", [{"id": 1}, {"status": None}, {"time": "late"}])
def test_an_end_with_a_wrong_type_is_unreadable(changes) -> None:
    assert isinstance(decode(line(END, **changes)), Unreadable)


def test_a_status_of_a_newer_version_is_passed_over() -> None:
    assert decode(line(END, status="paused")) is None


@pytest.mark.parametrize("changes", [{"kind": 1}, {"step": "4"}, {"text": None}, {"data": [1]}, {"time": math.inf}])
def test_a_note_with_a_wrong_type_is_unreadable(changes) -> None:
    assert isinstance(decode(line(NOTE, **changes)), Unreadable)


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Pacific/Midway"])
@pytest.mark.parametrize("seconds", [0, 253_402_127_999])
def test_the_first_and_the_last_second_that_count_can_be_shown(zone, seconds, monkeypatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert moment(decode(line(SNAPSHOT, time=seconds)).time)[:4] in ("1969", "1970", "9999")
    finally:
        monkeypatch.undo()
        time.tzset()
    assert isinstance(decode(line(SNAPSHOT, time=253_402_128_000)), Unreadable)
