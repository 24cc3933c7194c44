"""Compares records of event files with those of TensorBoard's own writer."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter

from mtask_sinks.sinks.tensorboard import event_file
from mtask_sinks.sinks.tensorboard.event_file import EventFile, read_events


def theirs(data: bytes) -> bytes:
    buffer = io.BytesIO()
    RecordWriter(buffer).write(data)
    return buffer.getvalue()


@pytest.fixture(params=["compiled", "in Python"])
def _checksum(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if request.param == "in Python":
        monkeypatch.setitem(sys.modules, "google_crc32c", None)
    event_file._crc32c.cache_clear()
    yield
    event_file._crc32c.cache_clear()


@pytest.mark.usefixtures("_checksum")
class TestARecord:
    @pytest.mark.parametrize("data", [b"", b"\0", b"mlm/train/loss" * 600, bytes(range(256))])
    def test_is_that_of_tensorboards_own_writer(self, data: bytes) -> None:
        assert event_file._record(data) == theirs(data)

    def test_that_was_changed_on_disk_is_refused(self, tmp_path: Path) -> None:
        from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

        file = EventFile(tmp_path, ".mtask")
        file.add(Event(step=7, wall_time=1.0))
        file.close()
        assert [event.step for event in EventFileLoader(str(file.path)).Load()] == [0, 7]
        whole = bytearray(file.path.read_bytes())
        whole[-6] ^= 1  # inside the data of the last event
        file.path.write_bytes(whole)
        assert [event.step for event in EventFileLoader(str(file.path)).Load()] == [0]


@given(st.binary(max_size=300))
def test_any_bytes_make_the_record_of_tensorboards_own_writer(data: bytes) -> None:
    assert event_file._record(data) == theirs(data)


@pytest.mark.usefixtures("_checksum")
def test_the_events_up_to_a_torn_or_damaged_record_are_those_of_tensorboards_own_reader(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    file = EventFile(tmp_path, ".mtask")
    for step in (7, 8):
        file.add(Event(step=step, wall_time=1.0))
    file.close()
    whole = file.path.read_bytes()
    assert [event.step for event in read_events(tmp_path, ".mtask")] == [0, 7, 8]
    for at in range(len(whole)):
        for content in (whole[:at], whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]):
            file.path.write_bytes(content)
            found = list(read_events(tmp_path, ".mtask"))
            assert found == list(LegacyEventFileLoader(str(file.path)).Load())
            assert len(found) < 3
