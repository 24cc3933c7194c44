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


def test_a_restart_is_the_session_start_twice_one_step_later(tmp_path: Path) -> None:
    from tensorboard.compat.proto.event_pb2 import SessionLog

    events = restart_events(4, tmp_path)
    assert [(event.step, event.session_log.status) for event in events] == [(5, SessionLog.START)] * 2


def test_a_directory_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        write_restart(tmp_path / "file", 2)


@pytest.mark.parametrize("layout", ["flat", "overlay"])
@pytest.mark.parametrize("is_attached", [False, True])
def test_a_window_that_the_resume_goes_on_with_is_purged_and_other_points_of_its_step_stay(
    tmp_path: Path, layout, is_attached
) -> None:
    from torch.utils.tensorboard import SummaryWriter

    def write(run: RunInfo, *snapshots: Snapshot) -> None:
        sink = TensorBoardSink(tmp_path, layout=layout)
        sink.open(run)
        for snapshot in snapshots:
            sink.write(snapshot)
        sink.close("finished")

    def tokens(step: int, n: float, phase: str = "train", is_partial: bool = False) -> Snapshot:
        return Snapshot(step, phase, {"a/n": n}, time=100.0 + step, is_partial=is_partial)

    first = [tokens(8, 40.0), tokens(10, 20.0, is_partial=True), tokens(10, 7.0, "eval"), tokens(10, 60.0, "overall")]
    write(RunInfo(id="1"), *first)
    writer = SummaryWriter(tmp_path)  # somebody else, in the same directory
    writer.add_scalar("mine", 3.0, 10)
    writer.close()
    if is_attached and layout == "flat":
        write_restart(tmp_path, 10)
        attached = {"tensorboard": str(tmp_path)}
        write(RunInfo(id="2", step=10, attached=attached), tokens(12, 40.0), tokens(12, 100.0, "overall"))
    else:
        write(RunInfo(id="2", step=10), tokens(12, 40.0), tokens(12, 100.0, "overall"))
    found = read_scalars(tmp_path if layout == "flat" else tmp_path / "a")
    name = "a/{}/n" if layout == "flat" else "{}/n"
    assert {tag: found[name.format(tag)] for tag in ("train", "eval", "overall")} == {
        "train": [(8, 40.0), (12, 40.0)], "eval": [(10, 7.0)], "overall": [(12, 100.0)],
    }  # fmt: skip
    assert read_scalars(tmp_path)["mine"] == [(10, 3.0)]


def test_without_such_a_window_nothing_of_the_step_is_purged(tmp_path: Path) -> None:
    sink = TensorBoardSink(tmp_path)
    sink.open(RunInfo(id="1"))
    sink.write(Snapshot(4, metrics={"a/x": 1.0}))
    sink.close("finished")
    assert [event.step for event in restart_events(4, tmp_path)] == [5, 5]
