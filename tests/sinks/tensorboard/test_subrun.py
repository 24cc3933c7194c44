from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from helpers.event_files import read_scalars

from mtask_sinks import Snapshot
from mtask_sinks.sinks.tensorboard.event_file import EventFile
from mtask_sinks.sinks.tensorboard.scalar_events import ScalarEvents
from mtask_sinks.sinks.tensorboard.subrun import RUN_SUFFIX, SUBRUN_SUFFIX, SubRun


def event(tag: str, step: int = 1, time: float = 1.0):
    return ScalarEvents().make({tag: 1.0}, step, time)


def test_only_the_first_file_begins_with_the_first_events(tmp_path: Path) -> None:
    subrun = SubRun(tmp_path, RUN_SUFFIX)
    for step in (1, 2):
        subrun.open_file([event("first", step)])
        subrun.write(event("x", step))
        subrun.close_file()
    assert read_scalars(tmp_path) == {"first": [(1, 1.0)], "x": [(1, 1.0), (2, 1.0)]}
    assert len(list(tmp_path.iterdir())) == 2


def test_an_open_file_is_not_opened_again(tmp_path: Path) -> None:
    subrun = SubRun(tmp_path, RUN_SUFFIX)
    for _ in range(2):
        subrun.open_file([event("first")])
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_whose_first_events_cannot_be_written_is_damaged_and_the_next_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subrun, first = SubRun(tmp_path, RUN_SUFFIX), event("first")
    add = EventFile.add

    def full(self: EventFile, event) -> None:
        if event is first:
            raise OSError("no space left")
        add(self, event)

    with monkeypatch.context() as patched:
        patched.setattr(EventFile, "add", full)
        with pytest.raises(OSError, match="no space left"):
            subrun.open_file([first])
    assert list(tmp_path.iterdir()) == []
    subrun.open_file([first])
    assert read_scalars(tmp_path) == {"first": [(1, 1.0)]}


def test_writing_needs_an_open_file(tmp_path: Path) -> None:
    subrun = SubRun(tmp_path, RUN_SUFFIX)
    with pytest.raises(RuntimeError, match="no event file is open"):
        subrun.write(event("x"))
    assert not subrun.has_snapshot
    subrun.open_file([])
    subrun.write(event("x"))
    assert subrun.has_snapshot


def test_a_file_is_damaged_only_if_it_was_open(tmp_path: Path) -> None:
    subrun = SubRun(tmp_path / "board", RUN_SUFFIX)
    assert not subrun.is_damaged()
    subrun.open_file([])
    assert not subrun.is_damaged()
    shutil.rmtree(tmp_path / "board")
    assert subrun.is_damaged()
    subrun.close_file()
    assert not subrun.is_damaged()


def test_stored_is_what_earlier_files_of_the_same_kind_hold(tmp_path: Path) -> None:
    for suffix, step in ((RUN_SUFFIX, 1), (SUBRUN_SUFFIX, 2)):
        file = EventFile(tmp_path, suffix)
        file.add(event("x", step, time=10.0 + step))
        file.close()
    subrun = SubRun(tmp_path, SUBRUN_SUFFIX)
    assert subrun.has_stored(Snapshot(step=2, time=12.0))
    assert not subrun.has_stored(Snapshot(step=1, time=11.0))
    assert not subrun.has_stored(Snapshot(step=2, time=13.0))
    subrun.open_file([])
    subrun.write(event("x", 3, time=13.0))
    assert not subrun.has_stored(Snapshot(step=3, time=13.0))


def test_a_file_that_became_shorter_is_damaged(tmp_path: Path) -> None:
    subrun = SubRun(tmp_path, RUN_SUFFIX)
    subrun.open_file([])
    subrun.write(event("x"))
    assert not subrun.is_damaged()
    (path,) = tmp_path.iterdir()
    os.truncate(path, path.stat().st_size - 3)
    assert subrun.is_damaged()
