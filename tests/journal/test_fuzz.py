"""Damaged journals and cursors never raise in a reader, and never lose a line that is right.

A longer run, by hand: ``pytest tests/journal/test_fuzz.py --fuzz 20000``.
"""

from __future__ import annotations

import io
import json
import logging
import math
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
from helpers.journals import losses, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mtask_sinks import RunInfo, Snapshot, read_journal
from mtask_sinks.analysis.compare import compare
from mtask_sinks.analysis.counted import read_trainings
from mtask_sinks.analysis.export import measurements, write_csv
from mtask_sinks.analysis.progress import Watch
from mtask_sinks.analysis.report import make_report
from mtask_sinks.analysis.selection import LabelledTraining
from mtask_sinks.charts import make_chart
from mtask_sinks.charts.html.payload import payload
from mtask_sinks.delivery.cursor import Cursor, load_cursor
from mtask_sinks.delivery.pipeline import Delivery
from mtask_sinks.delivery.replay import replay
from mtask_sinks.errors import NothingToDrawError, NoTrainingError
from mtask_sinks.journal.decode import Unreadable, decode
from mtask_sinks.journal.lines import lines_without_record
from mtask_sinks.journal.paths import journal_files
from mtask_sinks.journal.records import encode
from mtask_sinks.note import Note
from mtask_sinks.sinks import MemorySink


@pytest.fixture(scope="module")
def lines() -> list[bytes]:
    """The lines of a journal with two trainings, of which one was resumed."""
    directory = Path(tempfile.mkdtemp())
    more = [
        Snapshot(4, "eval", {"b/x": math.nan}, nonfinite={"b/x": 2}),
        Snapshot(5, metrics={"a/n": 3.0}, is_partial=True),
    ]
    path = write(
        directory,
        (RunInfo(id="1", name="r", params={"max_steps": 8}), [*losses(2, 4), *more], None),
        (RunInfo(id="2", step=4), losses(6, 8), "finished"),
        (RunInfo(id="3", attached={"wandb": "w"}), losses(2), "failed"),
        (RunInfo(id="1"), losses(8, phase="eval"), "finished"),
    )
    return [*path.read_bytes().splitlines(), encode(Note("alert", 4, "text", {}, 2.0)).rstrip()]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6)
    | st.sampled_from(["NaN", "Infinity", "\ud800", "1", 2**63, -1, 1e30, 10**400, "overall"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        yield from places(inner, (*path, name))


@st.composite
def damaged(draw: st.DrawFn, line: bytes) -> bytes:
    """Return a line with another value somewhere, or with other bytes."""
    kind = draw(st.sampled_from(["value", "value", "value", "cut", "bytes", "gone", "deep", "key"]))
    record = json.loads(line)
    if kind in ("value", "key"):
        path = draw(st.sampled_from(list(places(record))))
        value = draw(JSON)
        if not path:
            record = value
        else:
            inside = record
            for name in path[:-1]:
                inside = inside[name]
            if kind == "key" and isinstance(inside, dict):
                inside[draw(st.text(max_size=3))] = inside.pop(path[-1])
            else:
                inside[path[-1]] = value
        return json.dumps(record).encode()
    if kind == "cut":
        return line[: draw(st.integers(0, len(line)))]
    if kind == "bytes":
        return draw(st.binary(max_size=60)).replace(b"\n", b"")
    return b"" if kind == "gone" else b"[" * draw(st.sampled_from([3, 950, 100_000]))


@st.composite
def journals(draw: st.DrawFn, lines: list[bytes]) -> bytes:
    order = (
        draw(st.lists(st.sampled_from(range(len(lines))), max_size=12)) if draw(st.booleans()) else range(len(lines))
    )
    some = [draw(damaged(lines[at])) if draw(st.integers(0, 3)) == 0 else lines[at] for at in order]
    return draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) + b"\n".join(some) + draw(st.sampled_from([b"", b"\n"]))


def examples(request: pytest.FixtureRequest, usual: int) -> settings:
    asked = request.config.getoption("--fuzz")
    return settings(max_examples=asked or usual, derandomize=not asked, suppress_health_check=list(HealthCheck))


def right_snapshots(data: bytes) -> Counter[tuple[int, str]]:
    """Return the snapshots of all whole lines that hold one, as step and phase."""
    items = [decode(line) for line in data.split(b"\n")[:-1]]
    return Counter((item.step, item.phase) for item in items if isinstance(item, Snapshot))


def read_everything(path: Path) -> None:
    """Use every reader of the analysis. What they return must be printable and drawable."""
    trainings = read_trainings(path)
    list(map(str, read_journal(path)))
    json.dumps(repr(Watch(path).progress())).encode()
    with nullcontext() if trainings else suppress(NoTrainingError):  # it refuses a file of which it can read no line
        write_csv(measurements(path), io.StringIO())
    if trainings:
        json.dumps(repr(compare(trainings[0], trainings[-1]))).encode()
        labelled = [LabelledTraining(str(each.number), path, each) for each in trainings]
        str(make_report(labelled)).encode()
        with suppress(NothingToDrawError):
            json.dumps(payload(make_chart(labelled, weight=0.5)), allow_nan=False).encode()


def test_no_line_makes_the_decoder_raise(lines, request) -> None:
    @examples(request, 150)
    @given(st.sampled_from(lines).flatmap(damaged))
    def check(line: bytes) -> None:
        found = decode(line)
        assert str(found.reason if isinstance(found, Unreadable) else found) is not None

    check()


def test_no_journal_makes_a_reader_raise_or_loses_a_right_line(lines, request, tmp_path, caplog) -> None:
    caplog.set_level(logging.CRITICAL)
    path = tmp_path / "metrics.jsonl"

    @examples(request, 40)
    @given(journals(lines))
    def check(data: bytes) -> None:
        path.write_bytes(data)
        read_everything(path)
        read = Counter((each.step, each.phase) for run in read_journal(path) for each in run.snapshots)
        assert not right_snapshots(data) - read

    check()


def test_no_journal_with_a_record_and_no_cursor_stops_a_replay_or_a_training(lines, request, tmp_path, caplog) -> None:
    caplog.set_level(logging.CRITICAL)
    path = tmp_path / "metrics.jsonl"
    saved = tmp_path / "metrics.delivery" / "memory.json"
    Cursor("f", 200, {"1": "there"}, 3, 1, [{"step": 1, "phase": "train", "error": "e"}]).save(saved)
    cursor = saved.read_bytes()

    @examples(request, 15)
    @given(journals(lines), st.just(cursor) | damaged(cursor))
    def check(data: bytes, damaged_cursor: bytes) -> None:
        for earlier in journal_files(path):
            earlier.unlink()
        path.write_bytes(data)
        saved.write_bytes(damaged_cursor)
        load_cursor(saved, "f")
        sink = MemorySink()
        lost = lines_without_record(path)
        if lost is not None and lost.count:
            with pytest.raises(NoTrainingError, match="cannot be read"):
                replay(path, [sink], what="new", trust=True, force=True)
        else:
            counts = replay(path, [sink], what="new", trust=True, force=True)["memory"]
            assert (counts.is_in_trouble, counts.pending) == (False, 0)
        replayed = path.read_bytes()  # without a torn last line
        delivery = Delivery([MemorySink()])
        delivery.open(RunInfo(id="9", output_dir=str(tmp_path)))
        delivery.write(Snapshot(1, metrics={"a/loss": 2.0}))
        delivery.close("finished")
        assert delivery.counts["memory"].pending == 0
        used = journal_files(path)[-1]
        assert read_trainings(used)[-1].id == "9"
        if used != path:  # nothing in the file was a record, so it stayed as it was
            assert path.read_bytes() == replayed and not right_snapshots(replayed)

    check()
