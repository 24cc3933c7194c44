from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.event_files import layouts, read_scalars, run_dirs

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.errors import Forgotten
from mtask_sinks.sinks import TensorBoardSink
from mtask_sinks.sinks.tensorboard.event_file import EventFile

LOGGED = frozenset({"tensorboard"})


def write(sink: TensorBoardSink, run: RunInfo, *snapshots: Snapshot) -> None:
    sink.open(run)
    for snapshot in snapshots:
        sink.write(snapshot)
    sink.close("finished")


def make_older(directory: Path) -> None:
    """Make the files so far look older than any new file: TensorBoard reads files in the order of their names."""
    for path in [*directory.rglob("*tfevents*")]:
        path.rename(path.with_name(re.sub(r"tfevents\.\d+", "tfevents.0000000001", path.name)))


def test_values_steps_and_times_are_read_back(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    snapshots = [Snapshot(step=s, metrics={"mlm/loss": s / 3, "lr": 0.5}, time=1e9 + s) for s in (1, 2, 5)]
    write(TensorBoardSink(tmp_path), RunInfo(id="1"), *snapshots)
    assert read_scalars(tmp_path) == {
        "mlm/train/loss": [(s, float(np.float32(s / 3))) for s in (1, 2, 5)],
        "train/lr": [(s, 0.5) for s in (1, 2, 5)],
    }
    accumulator = EventAccumulator(str(tmp_path))
    accumulator.Reload()
    assert [event.wall_time for event in accumulator.Scalars("train/lr")] == [1e9 + 1, 1e9 + 2, 1e9 + 5]


def test_a_snapshot_is_one_event(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    write(
        TensorBoardSink(tmp_path, custom_scalars=False),
        RunInfo(id="1"),
        Snapshot(step=1, metrics={f"t/k{i}": 1.0 for i in range(100)}),
    )
    (path,) = tmp_path.glob("*tfevents*")
    events = [event for event in EventFileLoader(str(path)).Load() if event.HasField("summary")]
    assert [len(event.summary.value) for event in events] == [100]


def test_each_write_is_on_disk_at_once(tmp_path: Path) -> None:
    sink = TensorBoardSink(tmp_path)
    sink.open(RunInfo(id="1"))
    sink.write(Snapshot(step=1, metrics={"a/x": 1.0}))
    assert read_scalars(tmp_path) == {"a/train/x": [(1, 1.0)]}
    sink.close("finished")


def test_nan_and_infinity_are_kept(tmp_path: Path) -> None:
    write(
        TensorBoardSink(tmp_path),
        RunInfo(id="1"),
        Snapshot(step=1, metrics={"a/n": float("nan"), "a/i": float("inf"), "a/h": 1e300}),
    )
    values = {tag: points[0][1] for tag, points in read_scalars(tmp_path).items()}
    assert np.isnan(values["a/train/n"])
    assert values["a/train/i"] == values["a/train/h"] == np.inf


def test_without_anything_to_write_there_is_no_file(tmp_path: Path) -> None:
    write(
        TensorBoardSink(),
        RunInfo(id="1", attached={"tensorboard": str(tmp_path)}, logged=LOGGED),
        Snapshot(step=1, logs={"loss": 1.0}),
    )
    assert list(tmp_path.iterdir()) == []


def test_attached_it_writes_beside_the_others_file_and_leaves_to_them_what_they_log(tmp_path: Path) -> None:
    (tmp_path / "events.out.tfevents.1.other").touch()
    attached = {"tensorboard": str(tmp_path)}
    write(
        TensorBoardSink(),
        RunInfo(id="1", output_dir=str(tmp_path / "out"), attached=attached, logged=LOGGED),
        Snapshot(step=1, metrics={"a/x": 1.0}, logs={"loss": 2.0}),
    )
    assert read_scalars(tmp_path) == {"a/train/x": [(1, 1.0)]}
    assert not (tmp_path / "out").exists()


def test_alone_it_writes_the_trainers_logs_and_parameters_too(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    write(
        TensorBoardSink(),
        RunInfo(id="1", output_dir=str(tmp_path), name="bert", params={"learning_rate": 0.1}),
        Snapshot(step=1, metrics={"a/x": 1.0}, logs={"loss": 2.0, "epoch": 0.5, "note": "text"}),
        Snapshot(step=1, phase="eval", metrics={"a/x": 3.0}, logs={"eval_loss": 4.0}),
    )
    directory = tmp_path / "runs" / "bert"
    assert {tag: points[0][1] for tag, points in read_scalars(directory).items()} == {
        "a/train/x": 1.0, "train/loss": 2.0, "train/epoch": 0.5, "a/eval/x": 3.0, "eval/loss": 4.0,
    }  # fmt: skip
    accumulator = EventAccumulator(str(directory))
    accumulator.Reload()
    (text,) = accumulator.Tensors("params/text_summary")
    assert b'"learning_rate": 0.1' in text.tensor_proto.string_val[0]


def test_the_directory_can_be_configured_as_users_know_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "env"))
    write(TensorBoardSink(), RunInfo(id="1", output_dir=str(tmp_path)), Snapshot(step=1, metrics={"a/x": 1.0}))
    assert run_dirs(tmp_path) == [tmp_path / "env"]


def test_overlay_gives_each_task_a_sub_run_with_the_same_tags(tmp_path: Path) -> None:
    write(
        TensorBoardSink(tmp_path, layout="overlay"),
        RunInfo(id="1"),
        Snapshot(step=1, metrics={"mlm/loss": 1.0, "nsp/loss": 2.0, "lr": 3.0, "det/box/l1": 4.0}),
        Snapshot(step=1, phase="eval", metrics={"mlm/loss": 5.0}),
    )
    assert read_scalars(tmp_path / "mlm") == {"train/loss": [(1, 1.0)], "eval/loss": [(1, 5.0)]}
    assert read_scalars(tmp_path / "nsp") == {"train/loss": [(1, 2.0)]}
    assert read_scalars(tmp_path / "det") == {"train/box.l1": [(1, 4.0)]}
    assert read_scalars(tmp_path) == {"train/lr": [(1, 3.0)]}


def test_on_windows_no_folder_has_a_name_that_it_does_not_allow(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("mtask_sinks.sinks.tensorboard.sink._IS_WINDOWS", True)
    snapshot = Snapshot(step=1, metrics={"aux/loss": 1.0, "auxiliary/loss": 2.0, "NUL.1/loss": 3.0, "end./loss": 4.0})
    write(TensorBoardSink(tmp_path / "overlay", layout="overlay", custom_scalars=False), RunInfo(id="1"), snapshot)
    assert run_dirs(tmp_path) == [tmp_path / "overlay", tmp_path / "overlay" / "auxiliary"]
    values = {"aux/train/loss": [(1, 1.0)], "NUL.1/train/loss": [(1, 3.0)], "end./train/loss": [(1, 4.0)]}
    assert read_scalars(tmp_path / "overlay") == values
    write(TensorBoardSink(), RunInfo(id="2", output_dir=str(tmp_path), name="con/lr<1: a*b? "), snapshot)
    assert run_dirs(tmp_path / "runs") == [tmp_path / "runs" / "con_" / "lr_1" / " a_b__"]


def test_overlay_opens_a_bounded_number_of_sub_runs(tmp_path: Path) -> None:
    metrics = {f"task{i:02}/loss": float(i) for i in range(40)}
    write(
        TensorBoardSink(tmp_path, layout="overlay", custom_scalars=False),
        RunInfo(id="1"),
        Snapshot(step=1, metrics=metrics),
    )
    assert run_dirs(tmp_path) == [tmp_path, *(tmp_path / f"task{i:02}" for i in range(32))]
    assert read_scalars(tmp_path) == {f"task{i}/train/loss": [(1, float(i))] for i in range(32, 40)}


def test_an_unknown_layout_is_refused() -> None:
    with pytest.raises(ValueError, match="'grid'.*'flat' or 'overlay'"):
        TensorBoardSink(layout="grid")  # type: ignore[arg-type]


def test_opened_again_for_the_same_run_it_goes_on_in_the_same_directory(tmp_path: Path) -> None:
    sink, run = TensorBoardSink(), RunInfo(id="1", output_dir=str(tmp_path))
    write(sink, run, Snapshot(step=1, metrics={"a/x": 1.0}))
    write(sink, run, Snapshot(step=1, phase="eval", metrics={"a/x": 2.0}))
    write(sink, RunInfo(id="2", output_dir=str(tmp_path)), Snapshot(step=1, metrics={"a/x": 3.0}))
    assert read_scalars(tmp_path / "runs" / "1") == {"a/train/x": [(1, 1.0)], "a/eval/x": [(1, 2.0)]}
    assert read_scalars(tmp_path / "runs" / "2") == {"a/train/x": [(1, 3.0)]}


def test_a_resumed_run_drops_the_points_of_the_lost_tail(tmp_path: Path) -> None:
    lost = [Snapshot(step=s, metrics={"a/x": float(s)}) for s in range(1, 7)]
    again = [Snapshot(step=s, metrics={"a/x": 10.0 * s}) for s in range(5, 8)]
    write(TensorBoardSink(tmp_path), RunInfo(id="1"), *lost)
    make_older(tmp_path)
    write(TensorBoardSink(tmp_path), RunInfo(id="2", step=4), *again)
    assert read_scalars(tmp_path)["a/train/x"] == [
        (1, 1.0),
        (2, 2.0),
        (3, 3.0),
        (4, 4.0),
        (5, 50.0),
        (6, 60.0),
        (7, 70.0),
    ]


def plugin_series(directory: Path, tag: str) -> list[tuple[int, float]]:
    """Return what `tensorboard --load_fast=false` shows."""
    from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    accumulator = EventAccumulator(str(directory))
    accumulator.Reload()
    return [(event.step, make_ndarray(event.tensor_proto).item()) for event in accumulator.Tensors(tag)]


def test_a_resumed_run_drops_the_points_of_the_lost_tail_for_tensorboards_other_reader_too(tmp_path: Path) -> None:
    write(TensorBoardSink(tmp_path), RunInfo(id="1"), *[Snapshot(step=s, metrics={"a/x": 1.0}) for s in (4, 5, 6)])
    make_older(tmp_path)
    write(TensorBoardSink(tmp_path), RunInfo(id="2", step=4), Snapshot(step=5, metrics={"a/x": 2.0}))
    assert plugin_series(tmp_path, "a/train/x") == [(4, 1.0), (5, 2.0)]


def test_an_evaluation_after_a_resumed_training_drops_nothing(tmp_path: Path) -> None:
    sink, run = TensorBoardSink(tmp_path), RunInfo(id="1", step=4, params={"p": 1})
    write(sink, run, Snapshot(step=6, metrics={"a/x": 1.0}))
    make_older(tmp_path)
    write(sink, run, Snapshot(step=6, phase="eval", metrics={"a/x": 2.0}))
    assert read_scalars(tmp_path) == {"a/train/x": [(6, 1.0)], "a/eval/x": [(6, 2.0)]}


def test_a_training_resumed_after_an_evaluation_drops_the_points_of_the_lost_tail(tmp_path: Path) -> None:
    write(TensorBoardSink(tmp_path), RunInfo(id="1"), Snapshot(step=6, metrics={"a/x": 1.0}))
    sink = TensorBoardSink(tmp_path)
    write(sink, RunInfo(id="2"), Snapshot(step=0, phase="eval", metrics={"a/x": 2.0}))
    make_older(tmp_path)
    write(sink, RunInfo(id="2", step=4), Snapshot(step=6, metrics={"a/x": 3.0}))
    assert read_scalars(tmp_path) == {"a/eval/x": [(0, 2.0)], "a/train/x": [(6, 3.0)]}


def test_attached_it_leaves_what_another_has_written_since_the_resume(tmp_path: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path)) as theirs:
        theirs.add_scalar("train/loss", 9.0, 6)
    make_older(tmp_path)
    run = RunInfo(id="1", step=4, attached={"tensorboard": str(tmp_path)})
    write(TensorBoardSink(), run, Snapshot(step=6, metrics={"a/x": 1.0}))
    assert read_scalars(tmp_path) == {"train/loss": [(6, 9.0)], "a/train/x": [(6, 1.0)]}


@pytest.mark.parametrize("layout", ["flat", "overlay"])
def test_a_resumed_run_holds_each_point_once_after_its_directory_was_moved_behind_a_link(tmp_path, layout) -> None:
    board, moved = tmp_path / "board", tmp_path / "larger disk"
    rows = [Snapshot(step=s, metrics={"a/x": float(s)}, logs={"loss": 1.0}, time=100.0 + s) for s in range(5, 9)]
    run = RunInfo(id="1", step=4, attached={"tensorboard": str(board)})
    sink = TensorBoardSink(layout=layout)
    write(sink, run, *rows[:2])
    sink.write(rows[2])
    shutil.copytree(board, moved)
    shutil.rmtree(board)
    board.symlink_to(moved)
    with pytest.raises(Forgotten):
        sink.write(rows[3])
    write(sink, run, *rows)
    found = read_scalars(board)
    assert found["train/loss"] == [(s, 1.0) for s in range(5, 9)]
    of_task = found["a/train/x"] if layout == "flat" else read_scalars(board / "a")["train/x"]
    assert of_task == [(s, float(s)) for s in range(5, 9)]


def test_attached_elsewhere_it_purges_the_directory_that_it_was_given(tmp_path: Path) -> None:
    mine, run = tmp_path / "mine", RunInfo(id="2", step=4, attached={"tensorboard": str(tmp_path / "theirs")})
    write(TensorBoardSink(mine), RunInfo(id="1"), Snapshot(step=6, metrics={"a/x": 1.0}))
    make_older(mine)
    write(TensorBoardSink(mine), run, Snapshot(step=6, metrics={"a/x": 2.0}))
    assert read_scalars(mine) == {"a/train/x": [(6, 2.0)]}


def test_a_resumed_overlay_drops_the_lost_tail_of_every_task_also_of_one_that_is_silent_now(tmp_path: Path) -> None:
    lost = [Snapshot(step=s, metrics={"a/x": 1.0, "b/x": 1.0, "free": 1.0}) for s in (4, 6)]
    write(TensorBoardSink(tmp_path, layout="overlay"), RunInfo(id="1"), *lost)
    make_older(tmp_path)
    again = Snapshot(step=6, metrics={"a/x": 2.0, "free": 2.0})
    write(TensorBoardSink(tmp_path, layout="overlay"), RunInfo(id="2", step=4), again)
    assert read_scalars(tmp_path / "a") == {"train/x": [(4, 1.0), (6, 2.0)]}
    assert read_scalars(tmp_path / "b") == {"train/x": [(4, 1.0)]}
    assert read_scalars(tmp_path) == {"train/free": [(4, 1.0), (6, 2.0)]}


def test_a_resumed_overlay_drops_the_lost_tail_also_after_a_full_disk(tmp_path: Path, monkeypatch) -> None:
    lost = [Snapshot(step=s, metrics={"a/x": 1.0, "b/x": 1.0}) for s in (4, 6)]
    write(TensorBoardSink(tmp_path, layout="overlay"), RunInfo(id="1"), *lost)
    make_older(tmp_path)
    sink, run = TensorBoardSink(tmp_path, layout="overlay"), RunInfo(id="2", step=4)
    with monkeypatch.context() as patch:
        real = EventFile.add

        def full(file: EventFile, event: object) -> None:
            if file.path.parent.name == "b":
                raise OSError(28, "No space left on device")
            real(file, event)

        patch.setattr(EventFile, "add", full)
        with pytest.raises(OSError, match="No space"):
            sink.open(run)
    write(sink, run, Snapshot(step=6, metrics={"a/x": 2.0}))
    assert read_scalars(tmp_path / "a") == {"train/x": [(4, 1.0), (6, 2.0)]}
    assert read_scalars(tmp_path / "b") == {"train/x": [(4, 1.0)]}


def test_a_resumed_overlay_leaves_other_runs_below_its_directory_alone(tmp_path: Path) -> None:
    write(TensorBoardSink(tmp_path / "other"), RunInfo(id="1"), Snapshot(step=6, metrics={"a/x": 1.0}))
    make_older(tmp_path)
    run = RunInfo(id="2", step=4)
    write(TensorBoardSink(tmp_path, layout="overlay"), run, Snapshot(step=6, metrics={"a/x": 2.0}))
    assert read_scalars(tmp_path / "other") == {"a/train/x": [(6, 1.0)]}


def test_a_resumed_overlay_keeps_each_task_where_it_was(tmp_path: Path) -> None:
    tasks = [f"task{i:02}/loss" for i in range(33)]
    write(
        TensorBoardSink(tmp_path, layout="overlay"),
        RunInfo(id="1"),
        Snapshot(step=1, metrics=dict.fromkeys(tasks, 1.0)),
    )
    make_older(tmp_path)
    again = Snapshot(step=2, metrics=dict.fromkeys(reversed(tasks), 2.0))
    write(TensorBoardSink(tmp_path, layout="overlay"), RunInfo(id="2", step=1), again)
    assert read_scalars(tmp_path) == {"task32/train/loss": [(1, 1.0), (2, 2.0)]}
    assert read_scalars(tmp_path / "task00") == {"train/loss": [(1, 1.0), (2, 2.0)]}


def test_a_directory_that_cannot_be_made_is_an_error_of_the_write(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    sink = TensorBoardSink(tmp_path / "file" / "runs")
    sink.open(RunInfo(id="1"))
    with pytest.raises(OSError, match="file"):
        sink.write(Snapshot(step=1, metrics={"a/x": 1.0}))


def test_a_snapshot_that_one_sub_run_could_not_take_is_written_once_to_the_others(tmp_path: Path) -> None:
    (tmp_path / "b").touch()
    sink, run = TensorBoardSink(tmp_path, layout="overlay"), RunInfo(id="1")
    sink.open(run)
    with pytest.raises(OSError, match="b"):
        sink.write(Snapshot(step=1, metrics={"a/x": 1.0, "b/x": 2.0}))
    (tmp_path / "b").unlink()
    sink.close("failed")
    write(sink, run, *[Snapshot(step=s, metrics={"a/x": 1.0, "b/x": 2.0}) for s in (1, 2)])
    assert read_scalars(tmp_path / "a") == {"train/x": [(1, 1.0), (2, 1.0)]}
    assert read_scalars(tmp_path / "b") == {"train/x": [(1, 2.0), (2, 2.0)]}


def test_a_removed_directory_is_made_again_and_what_was_in_it_asked_for(tmp_path: Path) -> None:
    sink = TensorBoardSink(tmp_path / "board")
    sink.open(RunInfo(id="1"))
    sink.write(Snapshot(step=1, metrics={"a/x": 1.0}))
    shutil.rmtree(tmp_path / "board")
    with pytest.raises(Forgotten, match="somebody removed or changed event files in .*board"):
        sink.write(Snapshot(step=2, metrics={"a/x": 2.0}))
    write(sink, RunInfo(id="1"), *[Snapshot(step=s, metrics={"a/x": float(s)}) for s in (1, 2)])
    assert read_scalars(tmp_path / "board") == {"a/train/x": [(1, 1.0), (2, 2.0)]}


def test_a_run_that_is_continued_holds_each_point_once(tmp_path: Path) -> None:
    rows = [Snapshot(step=s, metrics={"a/x": float(s), "b/x": 1.0}, time=100.0 + s) for s in range(1, 9)]
    for layout in ("flat", "overlay"):
        directory = tmp_path / layout
        write(TensorBoardSink(directory, layout=layout), RunInfo(id="1"), *rows[:5])
        continued = RunInfo(id="1", continued={"tensorboard": str(directory)})
        for _ in range(2):
            write(TensorBoardSink(directory, layout=layout), continued, *rows)
    expected = [(s, float(s)) for s in range(1, 9)]
    assert read_scalars(tmp_path / "flat")["a/train/x"] == expected
    assert read_scalars(tmp_path / "overlay" / "a")["train/x"] == expected


def test_a_resumed_run_that_is_continued_keeps_what_it_had_beyond_the_checkpoint(tmp_path: Path) -> None:
    rows = [Snapshot(step=s, metrics={"a/x": float(s)}, time=100.0 + s) for s in range(1, 9)]
    write(TensorBoardSink(tmp_path), RunInfo(id="1"), *rows[:6])
    continued = RunInfo(id="1", step=4, continued={"tensorboard": str(tmp_path)})
    write(TensorBoardSink(), continued, *rows[4:])
    assert read_scalars(tmp_path) == {"a/train/x": [(s, float(s)) for s in range(1, 9)]}


def test_a_write_that_the_disk_takes_half_of_leaves_whole_events(tmp_path: Path) -> None:
    code = f"""
import resource, signal
from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.sinks import TensorBoardSink
from mtask_sinks.sinks.tensorboard.event_file import EventFile
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
sink = TensorBoardSink({str(tmp_path)!r})
sink.open(RunInfo(id="1"))
failures = 0
for step in range(1, 31):
    resource.setrlimit(resource.RLIMIT_FSIZE, (400 if step < 20 else soft, hard))
    try:
        sink.write(Snapshot(step, metrics={{"a/x": float(step)}}))
    except OSError:
        failures += 1
print(failures)
"""
    # -B: with such a limit, Python would also leave half of the bytecode of each module that it imports.
    command = [sys.executable, "-B", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    points = read_scalars(tmp_path)["a/train/x"]
    assert int(done.stdout) == 30 - len(points) > 5
    assert points[-11:] == [(s, float(s)) for s in range(20, 31)]


def test_in_sub_runs_names_that_come_to_the_same_are_kept_apart(tmp_path: Path) -> None:
    metrics = {"a/x/y": 1.0, "a/x.y": 2.0, "b/x.y": 3.0}
    write(TensorBoardSink(tmp_path, layout="overlay"), RunInfo(id="1"), Snapshot(step=1, metrics=metrics))
    found = {path.relative_to(tmp_path).as_posix(): read_scalars(path) for path in run_dirs(tmp_path)}
    assert found == {
        ".": {"a/train/x.y": [(1, 2.0)]},
        "a": {"train/x.y": [(1, 1.0)]},
        "b": {"train/x.y": [(1, 3.0)]},
    }


def test_a_run_whose_rest_is_delivered_later_keeps_its_charts_and_first_values(tmp_path: Path) -> None:
    rows = [Snapshot(s, metrics={"a/loss": 8.0 / s, "b/loss": 0.8 / s}, time=100.0 + s) for s in range(1, 7)]
    evaluation = Snapshot(3, "eval", metrics={"a/acc": 0.5, "b/acc": 0.25}, time=110.0)
    for layout in ("flat", "overlay"):
        directory = tmp_path / layout
        write(TensorBoardSink(directory, layout=layout), RunInfo(id="1"), *rows[:3], evaluation)
        before = layouts(directory)[-1]
        make_older(directory)
        continued = RunInfo(id="1", continued={"tensorboard": str(directory)})
        write(TensorBoardSink(directory, layout=layout), continued, *rows[3:])
        last = layouts(directory)[-1]
        assert {category.title for category in last.category} >= {category.title for category in before.category}
        assert "tasks side by side: eval" in {category.title for category in last.category}
    expected = [(s, pytest.approx(1 / s)) for s in range(1, 7)]
    assert read_scalars(tmp_path / "flat")["relative_to_first/train/loss/a"] == expected
    assert read_scalars(tmp_path / "overlay" / "b")["relative_to_first/train/loss"] == expected


def test_trainings_of_one_name_in_one_directory_have_a_run_each(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)

    def run(number: int, step: int = 0, **kwargs) -> RunInfo:
        return RunInfo(id=str(number), name="bert", output_dir=str(tmp_path), step=step, **kwargs)

    for number in (1, 2, 3):
        rows = [Snapshot(step, metrics={"a/loss": 10.0 * number + step}, time=100.0 * number + step) for step in (1, 2)]
        write(TensorBoardSink(), run(number), *rows)
    # A resume continues the last one, an evaluation of an earlier training that one.
    write(TensorBoardSink(), run(4, step=2), Snapshot(3, metrics={"a/loss": 33.0}, time=403.0))
    first = str(tmp_path / "runs" / "bert")
    late = Snapshot(2, "eval", {"a/loss": 1.0}, time=500.0)
    write(TensorBoardSink(), run(1, continued={"tensorboard": first}), late)
    found = {each.name: read_scalars(each) for each in (tmp_path / "runs").iterdir()}
    assert {name: tags["a/train/loss"] for name, tags in found.items()} == {
        "bert": [(1, 11.0), (2, 12.0)],
        "bert-2": [(1, 21.0), (2, 22.0)],
        "bert-3": [(1, 31.0), (2, 32.0), (3, 33.0)],
    }
    assert [name for name, tags in found.items() if "a/eval/loss" in tags] == ["bert"]


def test_an_evaluation_alone_makes_no_directory_that_a_resume_would_take(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    settings = {"name": "bert", "output_dir": str(tmp_path)}
    write(TensorBoardSink(), RunInfo(id="1", **settings), Snapshot(2, metrics={"a/loss": 1.0}, time=1.0))
    evaluated = RunInfo(id="2", is_training=False, **settings)
    write(TensorBoardSink(), evaluated, Snapshot(0, "eval", {"a/loss": 2.0}, time=2.0))
    write(TensorBoardSink(), RunInfo(id="3", step=2, **settings), Snapshot(3, metrics={"a/loss": 3.0}, time=3.0))
    assert [each.name for each in (tmp_path / "runs").iterdir()] == ["bert"]
    assert read_scalars(tmp_path / "runs" / "bert")["a/train/loss"] == [(2, 1.0), (3, 3.0)]


def test_a_new_training_passes_over_a_link_with_the_next_number(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "runs").mkdir(parents=True)
    (tmp_path / "out" / "runs" / "bert-2").symlink_to(tmp_path / "elsewhere")
    for number in (1, 2):
        run = RunInfo(id=str(number), name="bert", output_dir=str(tmp_path / "out"))
        write(TensorBoardSink(), run, Snapshot(1, metrics={"a/loss": 1.0}, time=1.0 * number))
    assert not list((tmp_path / "elsewhere").iterdir())
    assert sorted(each.name for each in (tmp_path / "out" / "runs").iterdir()) == ["bert", "bert-2", "bert-3"]


@pytest.mark.parametrize("given", [{"custom_scalars": "no"}, {"log_dir": 3}])
def test_settings_of_a_wrong_type_are_named(given) -> None:
    [(name, value)] = given.items()
    with pytest.raises(TypeError, match=f"{name}={value!r}: pass "):
        TensorBoardSink(**given)
