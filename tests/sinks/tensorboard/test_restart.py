from __future__ import annotations

from pathlib import Path

import pytest
from helpers.event_files import read_scalars

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.sinks import TensorBoardSink
from mtask_sinks.sinks.tensorboard.restart import restart_events, write_restart


def test_points_beyond_the_step_that_are_there_are_purged_and_later_ones_stay(tmp_path: Path) -> None:
    def write(*steps: int, value: float) -> None:
        sink = TensorBoardSink(tmp_path)
        sink.open(RunInfo(id="1"))
        for step in steps:
            sink.write(Snapshot(step=step, metrics={"a/x": value}))
        sink.close("finished")

    write(1, 2, 3, 4, value=1.0)
    write_restart(tmp_path, 2)
    write(3, 4, value=2.0)
    assert read_scalars(tmp_path) == {"a/train/x": [(1, 1.0), (2, 1.0), (3, 2.0), (4, 2.0)]}


def test_a_restart_is_the_session_start_twice_one_step_later() -> None:
    from tensorboard.compat.proto.event_pb2 import SessionLog

    events = restart_events(4)
    assert [(event.step, event.session_log.status) for event in events] == [(5, SessionLog.START)] * 2


def test_a_directory_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        write_restart(tmp_path / "file", 2)
