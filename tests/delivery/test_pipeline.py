from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.event_files import read_scalars, run_dirs
from helpers.failing_sinks import Flaky, Hanging, snapshots
from helpers.faulty import wait_for

from mtask_sinks import RunInfo, Snapshot, read_journal
from mtask_sinks.delivery import pipeline
from mtask_sinks.delivery.pipeline import Delivery
from mtask_sinks.delivery.replay import replay
from mtask_sinks.journal.records import Begin, End
from mtask_sinks.journal.writer import Journal
from mtask_sinks.sinks import MemorySink, TensorBoardSink

pytestmark = pytest.mark.usefixtures("impatient")


def test_every_sink_gets_every_snapshot_in_order() -> None:
    first, second = MemorySink(), MemorySink()
    second.name = "second"
    delivery = Delivery([first, second])
    delivery.open(RunInfo(id="1"))
    for snapshot in snapshots(100):
        delivery.write(snapshot)
    delivery.close("finished")
    assert first.series("x") == second.series("x") == [(step, float(step)) for step in range(100)]
    assert (first.closed, delivery.counts["memory"].delivered) == (["finished"], 100)


def test_a_sink_that_stays_away_leaves_its_snapshots_in_the_journal_and_says_how_to_deliver_them(
    tmp_path, caplog, monkeypatch
) -> None:
    monkeypatch.setattr("mtask_sinks.delivery.replay_command.has_sink", lambda name: True)
    away, good = Flaky("write", failures=10**9), MemorySink()
    away.environment = lambda: {"AWAY_URL": "http://a b"}  # type: ignore[method-assign]
    delivery = Delivery([away, good], drain_seconds=0.2)
    delivery.open(RunInfo(id="1", output_dir=str(tmp_path)))
    for snapshot in snapshots(5):
        delivery.write(snapshot)
    wait_for(lambda: len(good.snapshots) == 5 and delivery.counts["flaky"].state == "down", "the good one, the outage")
    delivery.close("finished")
    counts = delivery.counts["flaky"]
    assert (counts.given, counts.pending, counts.rejected, counts.state) == (5, 5, 0, "down")
    assert "sink flaky (down, OSError: no write today) received 0 of 5 snapshots; 5 did not arrive within 0.2 s" in (
        caplog.text
    )
    command = f"AWAY_URL='http://a b' mtask-sinks replay {tmp_path / 'metrics.jsonl'} --to flaky"
    assert caplog.text.rstrip().endswith(command)
    assert replay(tmp_path, [back := Flaky("", failures=0)])["flaky"].delivered == 5
    assert (back.steps, back.closed) == ([0, 1, 2, 3, 4], ["finished"])


def test_opening_for_another_run_closes_the_one_before() -> None:
    sink = MemorySink()
    delivery = Delivery([sink])
    delivery.open(RunInfo(id="1"))
    delivery.write(Snapshot(step=1))
    delivery.open(RunInfo(id="2"))
    delivery.close("failed")
    assert (sink.closed, [run.id for run in sink.runs]) == (["finished", "failed"], ["1", "2"])


def test_closing_twice_or_unopened_does_nothing() -> None:
    sink = MemorySink()
    delivery = Delivery([sink])
    delivery.close("finished")
    delivery.open(RunInfo(id="1"))
    delivery.close("finished")
    delivery.close("failed")
    assert sink.closed == ["finished"]


@pytest.mark.parametrize("name", ["team/tracker", "team\\tracker", "../tracker", "", "x" * 300, None])
def test_a_name_that_no_file_can_have_is_refused_because_the_progress_could_not_be_stored(tmp_path, name) -> None:
    sink = MemorySink()
    sink.name = name
    with pytest.raises(ValueError, match="cannot be a file name"):
        Delivery([sink])
    with pytest.raises(ValueError, match="cannot be a file name"):
        replay(tmp_path, [sink])


def test_two_sinks_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="the same name: memory, memory"):
        Delivery([MemorySink(), MemorySink()])


@pytest.mark.parametrize("status", ["finished", "failed"])
@pytest.mark.parametrize("is_kept", [True, False])
def test_what_was_not_closed_is_delivered_when_the_interpreter_exits(tmp_path, status: str, is_kept: bool) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import time\n"
        "from mtask_sinks import Sink, Snapshot, RunInfo\n"
        "from mtask_sinks.delivery.pipeline import Delivery\n"
        "class Slow(Sink):\n"
        "    name = 'slow'\n"
        "    def write(self, snapshot):\n"
        "        time.sleep(0.02)\n"
        "        print('wrote', snapshot.step, flush=True)\n"
        "    def close(self, status):\n"
        "        print('closed', status, flush=True)\n"
        "delivery = Delivery([Slow()])\n"
        f"delivery.exit_status = {status!r}\n"
        "delivery.open(RunInfo(id='1'))\n"
        "for step in range(10):\n"
        "    delivery.write(Snapshot(step=step))\n" + ("" if is_kept else "del delivery\n")
    )
    output = subprocess.run([sys.executable, str(script)], check=True, capture_output=True, text=True).stdout
    assert output.splitlines() == [*(f"wrote {step}" for step in range(10)), f"closed {status}"]


def test_a_forked_child_delivers_nothing_and_does_not_wait() -> None:
    hanging = Hanging()
    delivery = Delivery([hanging], drain_seconds=100)
    delivery.open(RunInfo(id="1"))
    delivery.write(Snapshot(step=0))
    child = os.fork()
    if not child:
        start = time.monotonic()
        delivery.write(Snapshot(step=1))
        delivery.close("finished")
        os._exit(int(time.monotonic() - start > 60))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    hanging.released.set()
    delivery.close("finished")
    assert hanging.steps == [0]


def test_a_forked_child_may_begin_a_delivery_of_its_own(tmp_path) -> None:
    sink = MemorySink()
    delivery = Delivery([sink])
    delivery.open(RunInfo(id="1", output_dir=str(tmp_path / "parent")))
    child = os.fork()
    if not child:
        delivery.open(RunInfo(id="2", output_dir=str(tmp_path / "child")))
        delivery.write(Snapshot(step=1, metrics={"x": 1.0}))
        delivery.close("finished")
        os._exit(int(sink.series("x") != [(1, 1.0)]))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    delivery.close("finished")
    assert sink.series("x") == []


def test_the_last_lines_go_to_the_journal_that_was_begun_wherever_the_process_works_by_then(
    tmp_path, monkeypatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    delivery = Delivery([MemorySink()])
    delivery.open(RunInfo(id="1", output_dir="out"))
    monkeypatch.chdir(tmp_path / "elsewhere")
    delivery.write(Snapshot(1, metrics={"mlm/loss": 1.0}))
    delivery.close("finished")
    assert not list((tmp_path / "elsewhere").iterdir())
    lines = (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["record"] for line in lines] == ["run", "snapshot", "end"]


class Owner:
    """Stands for the session of a trainer."""


@pytest.mark.parametrize("sink", [MemorySink(), Flaky("write", failures=10**9)])
def test_the_next_run_ends_those_of_deleted_owners_unless_a_sink_lacks_something(sink, monkeypatch) -> None:
    monkeypatch.setattr(pipeline, "FLUSH_SECONDS", 100.0)
    left, kept = Delivery([sink], 100.0), Delivery([MemorySink()], 100.0)
    owner, deleted = Owner(), Owner()
    kept.belong_to(owner)
    left.belong_to(deleted)
    for number, delivery in enumerate((left, kept)):
        delivery.open(RunInfo(id=str(number)))
        delivery.write(Snapshot(step=1, metrics={"x": 1.0}))
        delivery.flush()
    del deleted
    following = Delivery([])
    following.open(RunInfo(id="2"))
    assert (left.is_open, kept.is_open) == (isinstance(sink, Flaky), True)
    for delivery in (left, kept, following):
        delivery.close("finished", 0.0 if delivery is left else None)


def test_the_end_of_a_deleted_owners_run_waits_for_the_training_that_writes_to_its_journal(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(pipeline, "FLUSH_SECONDS", 100.0)
    left, training, other, last = (Delivery([MemorySink()], 100.0) for _ in range(4))
    deleted = Owner()
    left.belong_to(deleted)
    for delivery, run in ((left, "1"), (training, "2")):
        delivery.open(RunInfo(id=run, output_dir=str(tmp_path)))
        delivery.write(Snapshot(step=1, metrics={"x": 1.0}))
        if delivery is left:
            delivery.flush()
    del deleted
    other.open(RunInfo(id="3"))
    assert (left.is_open, [each.name for each in tmp_path.glob("*.jsonl")]) == (True, ["metrics.jsonl"])
    training.close("finished")
    last.open(RunInfo(id="4"))
    assert (left.is_open, [each.name for each in tmp_path.glob("*.jsonl")]) == (False, ["metrics.jsonl"])
    for delivery in (other, last):
        delivery.close("finished")


def test_the_end_of_a_run_does_not_create_a_removed_output_directory_again(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(pipeline, "FLUSH_SECONDS", 100.0)
    sink, out = MemorySink(), tmp_path / "out"
    delivery = Delivery([sink], 100.0)
    delivery.open(RunInfo(id="1", output_dir=str(out)))
    delivery.write(Snapshot(step=1, metrics={"x": 1.0}))
    delivery.flush()
    shutil.rmtree(out)
    delivery.close("finished")
    assert (sink.closed, sink.series("x"), out.exists()) == (["finished"], [(1, 1.0)], False)


def test_a_new_output_directory_ends_the_run_that_an_evaluation_has_opened_again(tmp_path) -> None:
    calls: list[str] = []

    class Noting(MemorySink):
        def open(self, run: RunInfo) -> None:
            calls.append(f"open {run.id}")

        def write(self, snapshot: Snapshot) -> None:
            calls.append(f"write {snapshot.step}")

        def close(self, status: str) -> None:
            calls.append(f"close {status}")

    delivery = Delivery([Noting()])
    for fold in ("1", "2"):
        run = RunInfo(id=fold, output_dir=str(tmp_path / fold))
        delivery.open(run)
        delivery.write(Snapshot(step=1, metrics={"x": 1.0}))
        delivery.close("failed" if fold == "1" else "finished")
        delivery.open(run)  # by an evaluation
        delivery.write(Snapshot(step=2, phase="eval", metrics={"x": 2.0}))
    delivery.close("finished")
    of_first = ["open 1", "write 1", "close failed", "open 1", "write 2", "close failed"]
    assert calls[:6] == of_first
    assert calls[6:] == [each.replace("1", "2", 1) if "open" in each else each for each in of_first[:2]] + [
        "close finished", "open 2", "write 2", "close finished",
    ]  # fmt: skip
    assert [run.status for run in read_journal(tmp_path / "1")] == ["failed"]


def test_a_sink_has_one_worker_at_a_time_and_each_run_gets_its_own_rows(tmp_path) -> None:
    class Away(MemorySink):
        def __init__(self) -> None:
            super().__init__()
            self.is_back = False
            self.rows: list[tuple[str, int]] = []
            self.ended: list[str] = []

        def open(self, run: RunInfo) -> None:
            if not self.is_back:
                raise ConnectionError("no route")
            self.run = run.id

        def write(self, snapshot: Snapshot) -> None:
            self.rows.append((self.run, snapshot.step))

        def close(self, status: str) -> None:
            self.ended.append(f"{self.run} {status}")

    sink = Away()
    delivery = Delivery([sink], drain_seconds=0.1)
    for run in ("1", "2"):
        delivery.open(RunInfo(id=run, output_dir=str(tmp_path / run)))
        for step in (1, 2, 3):
            delivery.write(Snapshot(step=step, metrics={"x": 1.0}))
        delivery.close("finished")
    assert sink.rows == []
    sink.is_back = True
    (worker,) = delivery._workers
    wait_for(lambda: not worker.is_alive(), "the second to end")
    assert sink.rows == [(run, step) for run in ("1", "2") for step in (1, 2, 3)]
    assert sink.ended == ["1 finished", "2 finished"]


class InterruptedAt(Journal):
    """A journal in which Ctrl-C comes while a line of one kind is written."""

    kind: type = Begin

    def _add_uninterrupted(self, item) -> None:
        super()._add_uninterrupted(item)
        if isinstance(item, self.kind):
            type(self).kind = int  # only once
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("kind", [Begin, End])
def test_ctrl_c_at_the_first_or_last_line_leaves_a_whole_delivery(tmp_path, monkeypatch, kind) -> None:
    monkeypatch.setattr(InterruptedAt, "kind", kind)
    monkeypatch.setattr(pipeline, "Journal", InterruptedAt)
    sink = MemorySink()
    delivery = Delivery([sink])
    if kind is Begin:
        with pytest.raises(KeyboardInterrupt):
            delivery.open(RunInfo(id="1", output_dir=str(tmp_path)))
    else:
        delivery.open(RunInfo(id="1", output_dir=str(tmp_path)))
        delivery.write(Snapshot(step=1, metrics={"x": 1.0}))
    delivery.close("failed")  # Ctrl-C ends the wait alone
    (worker,) = delivery._workers
    wait_for(lambda: not worker.is_alive(), "the sink")
    assert sink.closed == ["failed"]
    assert [run.status for run in read_journal(tmp_path)] == ["failed"]
    other = Delivery([MemorySink()])
    other.open(RunInfo(id="2", output_dir=str(tmp_path)))
    other.close("finished")
    assert [path.name for path in tmp_path.glob("*.jsonl")] == ["metrics.jsonl"]  # the lock was given back


def board_of(directory: Path, run: str, name: str, *values: float, step: int = 0, **facts: object) -> Delivery:
    """Begin a training that writes its values to TensorBoard, one per step."""
    delivery = Delivery([TensorBoardSink()])
    delivery.open(RunInfo(id=run, name=name, output_dir=str(directory), step=step, **facts))
    for at, value in enumerate(values, step + 1):
        delivery.write(Snapshot(at, metrics={"a/x": value}, time=1000.0 * int(run) + at))
    return delivery


def boards(directory: Path) -> dict[str, list[tuple[int, float]]]:
    return {path.name: read_scalars(path)["a/train/x"] for path in run_dirs(directory)}


def test_a_resume_leaves_the_directory_of_a_training_of_another_name_alone(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    board_of(tmp_path, "1", "exp", 1, 2, 3).close("failed")
    board_of(tmp_path, "2", "exp-2", 10, 20, 30).close("finished")
    board_of(tmp_path, "3", "exp", 3.5, 4.5, step=2).close("finished")
    board_of(tmp_path, "4", "exp", 5.5, is_training=False).close("finished")  # it writes the step 1 again
    own = [(1, 1.0), (2, 2.0), (3, 3.5), (4, 4.5), (1, 5.5)]
    assert boards(tmp_path) == {"exp": own, "exp-2": [(1, 10.0), (2, 20.0), (3, 30.0)]}


def test_a_resume_leaves_the_directory_of_a_training_that_runs_at_the_same_time_alone(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    first = board_of(tmp_path, "1", "exp", 1, 2, 3)
    first.flush()
    first.write(Snapshot(4, metrics={"a/x": 4.0}, time=1.0))  # so that it has its journal again
    second = board_of(tmp_path, "2", "exp", 10, 20, 30)
    second.flush()
    second.write(Snapshot(4, metrics={"a/x": 40.0}, time=2.0))
    first.close("failed")
    board_of(tmp_path, "3", "exp", 3.5, 4.5, step=2).close("finished")
    second.close("finished")
    assert boards(tmp_path) == {
        "exp": [(1, 1.0), (2, 2.0), (3, 3.5), (4, 4.5)],
        "exp-2": [(1, 10.0), (2, 20.0), (3, 30.0), (4, 40.0)],
    }


@pytest.mark.parametrize("given", [MemorySink(), ["memory"], [MemorySink], "memory"])
def test_anything_but_a_list_of_sinks_is_refused(given, tmp_path) -> None:
    for call in (lambda: Delivery(given), lambda: replay(tmp_path, given)):
        with pytest.raises(TypeError, match=r"pass a list of objects such as TensorBoardSink\(\)"):
            call()


@pytest.mark.parametrize("seconds", [-1, float("nan")])
def test_a_wait_below_zero_is_refused(seconds) -> None:
    with pytest.raises(ValueError, match="drain_seconds=.*: pass a number of seconds, 0 or more"):
        Delivery([MemorySink()], seconds)


def test_calls_in_a_wrong_order_or_with_wrong_arguments_say_what_to_do(tmp_path) -> None:
    delivery = Delivery([sink := MemorySink()])
    with pytest.raises(RuntimeError, match=r"no run was opened, .*: call open\(RunInfo"):
        delivery.write(Snapshot(1))
    with pytest.raises(TypeError, match=r"open\('out'\): pass RunInfo"):
        delivery.open("out")
    delivery.open(RunInfo(id="1", output_dir=str(tmp_path)))
    with pytest.raises(TypeError, match="pass a Snapshot"):
        delivery.write({"mlm/loss": 1.0})
    with pytest.raises(ValueError, match="one of 'finished', 'failed', 'killed'"):
        delivery.close("done")
    delivery.close("finished")
    assert sink.closed == ["finished"]


def test_a_loss_that_a_loop_logs_as_a_tensor_is_a_number_in_the_journal_and_in_every_sink(tmp_path) -> None:
    loss = torch.nn.Parameter(torch.tensor(1.23456789)) * 1
    logs = {"loss": loss, "rate": np.float32(0.5), "count": torch.tensor([3]), "note": "text", "each": [1, 2]}
    plain = {"loss": loss.item(), "rate": 0.5, "count": 3, "note": "text", "each": [1, 2]}
    sink = MemorySink()
    delivery = Delivery([sink, TensorBoardSink(tmp_path / "runs")])
    delivery.open(RunInfo(id="1", output_dir=str(tmp_path)))
    delivery.write(Snapshot(step=1, logs=logs))
    delivery.close("finished")
    assert [dict(each.logs) for each in sink.snapshots] == [plain]
    assert [dict(each.logs) for run in read_journal(tmp_path) for each in run.snapshots] == [plain]
    [directory] = run_dirs(tmp_path / "runs")
    scalars = read_scalars(directory)
    assert {name: scalars[f"train/{name}"][0][1] for name in ("loss", "rate", "count")} == {
        "loss": loss.item(), "rate": 0.5, "count": 3.0
    }  # fmt: skip


def test_a_snapshot_after_the_end_is_refused_until_the_run_is_open_again(tmp_path) -> None:
    sink, run = MemorySink(), RunInfo(id="1", output_dir=str(tmp_path))
    delivery = Delivery([sink])
    delivery.open(run)
    delivery.write(Snapshot(step=1, metrics={"x": 1.0}))
    delivery.close("finished")
    with pytest.raises(RuntimeError, match=r"was closed, so no sink would get this: write before close\(\)"):
        delivery.write(Snapshot(step=1, phase="test", metrics={"x": 2.0}))
    delivery.open(run)
    delivery.write(Snapshot(step=1, phase="test", metrics={"x": 2.0}))
    delivery.close("finished")
    assert (sink.series("x"), sink.series("x", "test")) == ([(1, 1.0)], [(1, 2.0)])
