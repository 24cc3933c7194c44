from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.event_files import read_scalars
from helpers.failing_sinks import Hanging, threads_of_ours
from helpers.faulty import wait_for
from helpers.journals import as_of_process, write
from mlflow import MlflowClient
from typer.testing import CliRunner

from mtask_sinks import RunInfo, Snapshot, read_journal
from mtask_sinks.cli import app
from mtask_sinks.delivery import replay as replay_module
from mtask_sinks.delivery.cursor import Cursor, cursor_path
from mtask_sinks.delivery.pipeline import Delivery
from mtask_sinks.delivery.replay import replay
from mtask_sinks.delivery.worker import Worker
from mtask_sinks.errors import Forgotten, NoSuchRun, NoTrainingError, StillAtWorkError
from mtask_sinks.journal.records import fingerprint_of
from mtask_sinks.journal.stream import JournalStream
from mtask_sinks.journal.writer import Journal
from mtask_sinks.sinks import MemorySink, MLflowSink, TensorBoardSink


def rows(*steps: int, phase: str = "train", at: float = 100.0) -> list[Snapshot]:
    """Make snapshots with ten times the step as value, and ``at`` plus the step as time."""
    return [Snapshot(step=s, phase=phase, metrics={"a/x": 10.0 * s}, time=at + s, logs={"loss": -s}) for s in steps]


def written(directory: Path, *runs: tuple[RunInfo, list[Snapshot], str | None]) -> Path:
    """Write a journal as another process leaves it. A run without a status was killed."""
    path = write(directory, *runs)
    path.write_text(path.read_text().replace('"process": ["', '"process": ["elsewhere-'))
    return path


def of_mlflow() -> dict[str, tuple[str, list[tuple[int, float]]]]:
    """Return name of the run → status and points."""
    client = MlflowClient()
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    points = {run.info.run_id: client.get_metric_history(run.info.run_id, "a/train/x") for run in runs}
    return {
        run.info.run_name: (run.info.status, sorted((point.step, point.value) for point in points[run.info.run_id]))
        for run in runs
    }


def tens(*steps: int) -> list[tuple[int, float]]:
    return [(s, 10.0 * s) for s in steps]


@pytest.mark.usefixtures("mlflow_store")
def test_a_backend_that_was_not_even_configured_gets_everything_once_however_often(tmp_path) -> None:
    path = written(tmp_path, (RunInfo(id="1", name="r", params={"p": 1}), rows(1, 2, 3), "finished"))
    for what in ("left", "left", "all"):
        sinks = [MLflowSink(), TensorBoardSink()]
        counts = replay(path, sinks, what=what)
        assert {(each.pending, each.is_in_trouble) for each in counts.values()} == {(0, False)}
    assert of_mlflow() == {"r": ("FINISHED", tens(1, 2, 3))}
    scalars = read_scalars(tmp_path / "runs" / "r")
    assert scalars == {"a/train/x": tens(1, 2, 3), "train/loss": [(1, -1.0), (2, -2.0), (3, -3.0)]}


def test_another_choice_of_what_to_deliver_is_refused_and_delivers_nothing(tmp_path) -> None:
    path, sink = written(tmp_path, (RunInfo(id="1"), rows(1, 2), "finished")), MemorySink()
    with pytest.raises(ValueError, match=r"what='everything' is not allowed\. Use 'left', 'all' or 'new'\."):
        replay(path, [sink], what="everything")
    assert sink.snapshots == []


@pytest.mark.usefixtures("mlflow_store")
def test_a_failed_and_a_killed_training_show_as_such(tmp_path) -> None:
    path = written(tmp_path, (RunInfo(id="1", name="f"), rows(1), "failed"), (RunInfo(id="2", name="k"), rows(1), None))
    replay(path, [MLflowSink()])
    assert {name: status for name, (status, _) in of_mlflow().items()} == {"f": "FAILED", "k": "KILLED"}
    assert [run.status for run in read_journal(path)] == ["failed", "killed"]


@pytest.mark.usefixtures("mlflow_store")
def test_a_resumed_training_is_one_run_in_a_new_backend_without_what_was_computed_twice(tmp_path) -> None:
    runs = [
        (RunInfo(id="1", name="r"), rows(2, 4, 6, 8), None),
        (RunInfo(id="2", name="r2", step=4), rows(6, at=200.0), None),
        (RunInfo(id="3", name="r3", step=2), rows(4, 6, 8, at=300.0), "finished"),
        (RunInfo(id="4", name="other"), rows(2, at=400.0), "finished"),
    ]
    path = written(tmp_path, *runs)
    for what in ("left", "all"):
        counts = replay(path, [MLflowSink(), TensorBoardSink()], what=what)
        assert (counts["mlflow"].pending, counts["tensorboard"].pending) == (0, 0)
        assert of_mlflow() == {"r": ("FINISHED", tens(2, 4, 6, 8)), "other": ("FINISHED", tens(2))}
        assert read_scalars(tmp_path / "runs" / "r")["a/train/x"] == tens(2, 4, 6, 8)
        assert read_scalars(tmp_path / "runs" / "other")["a/train/x"] == tens(2)


def replayed(path: Path) -> list[tuple[int, str]]:
    sink = MemorySink()
    counts = replay(path, [sink], what="new")["memory"]
    assert (counts.state, counts.pending, counts.rejected) == ("closed", 0, 0)
    return [(snapshot.step, snapshot.phase) for snapshot in sink.snapshots]


def test_lines_that_cannot_be_read_do_not_end_a_replay(tmp_path, caplog) -> None:
    path = written(tmp_path, (RunInfo(id="1"), rows(*range(1, 41)), "finished"))
    lines = path.read_bytes().splitlines(keepends=True)
    wrong = b'{"record": "snapshot", "step": "x"}\n' * 9_000  # more than is read at a time
    path.write_bytes(b"".join([*lines[:20], wrong, b"\x00" * 300_000 + b"\n", *lines[20:]]))
    assert replayed(path) == [(step, "train") for step in range(1, 41)]
    assert sum("9,001 lines cannot be read" in message for message in caplog.messages) == 1


def test_a_value_with_too_many_brackets_for_the_sinks_is_rejected_and_blocks_nothing(tmp_path) -> None:
    path = written(tmp_path, (RunInfo(id="1"), [Snapshot(1, logs={"x": "deep"}), *rows(2, 3)], "finished"))
    path.write_text(path.read_text().replace('"deep"', "[" * 800 + "]" * 800))
    sink = MemorySink()
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(1_000)  # Python's own; inductor raises it for the whole process
    try:
        counts = replay(path, [sink], patience=5)["memory"]
    finally:
        sys.setrecursionlimit(limit)
    assert (counts.delivered, counts.rejected, counts.pending) == (2, 1, 0)
    assert counts.error.startswith("RecursionError")
    assert [snapshot.step for snapshot in sink.snapshots] == [2, 3]


@pytest.mark.parametrize("content", [b'{"lr": 0.1}', b"\x93NUMPY\x01\x00v", b"one line without an end", b"a\nb"])
def test_a_file_that_is_no_journal_is_refused_and_stays_as_it_is(tmp_path, content: bytes) -> None:
    file = tmp_path / "settings.json"
    file.write_bytes(content)
    with pytest.raises(NoTrainingError, match="holds no training"):
        replay(file, [MemorySink()])
    assert file.read_bytes() == content
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("writer", ["jq -c", "jq -cS", "with a BOM", "kinds of a newer version"])
def test_a_journal_that_another_program_wrote_again_is_replayed_as_it_is_read(tmp_path, writer) -> None:
    runs = (RunInfo(id="1", name="r"), rows(1, 2), None), (RunInfo(id="2", step=2), rows(3), "failed")
    path = written(tmp_path, *runs)
    records = [json.loads(line) for line in path.read_text().splitlines()]
    if writer.startswith("jq"):
        text = [json.dumps(record, separators=(",", ":"), sort_keys=writer.endswith("S")) for record in records]
        path.write_text("".join(f"{line}\n" for line in text))
    elif writer == "with a BOM":
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    else:
        newer = b'{"record": "picture", "step": 1, "phase": "train"}\n'
        path.write_bytes(newer.join(path.read_bytes().splitlines(keepends=True)))
    assert [run.status for run in read_journal(path)] == [None, "failed"]
    assert replayed(path) == [(1, "train"), (2, "train"), (3, "train")]


def test_a_window_that_a_resume_continued_is_delivered_once(tmp_path) -> None:
    cut = Snapshot(6, metrics={"a/x": 1.0}, time=106.0, is_partial=True)
    whole = Snapshot(6, "overall", {"a/x": 2.0}, time=106.0)
    runs = [
        (RunInfo(id="1", name="r"), [*rows(2, 4), cut, whole, *rows(6, phase="eval")], "finished"),
        (RunInfo(id="2", step=6), rows(8, at=200.0), "finished"),
    ]
    sink = MemorySink()
    counts = replay(written(tmp_path, *runs), [sink])["memory"]
    assert [(snapshot.step, snapshot.phase) for snapshot in sink.snapshots] == [
        (2, "train"), (4, "train"), (6, "eval"), (8, "train"),
    ]  # fmt: skip
    assert (counts.given, counts.delivered) == (4, 4)


@pytest.mark.usefixtures("mlflow_store")
def test_what_is_left_goes_into_the_runs_that_the_training_wrote_to(tmp_path) -> None:
    client = MlflowClient()
    theirs = client.create_run("0", run_name="theirs").info.run_id
    run = RunInfo(id="1", output_dir="elsewhere", name="r", continued={"mlflow": theirs})
    path = written(tmp_path, (run, rows(1, 2), None))
    replay(path, [MLflowSink()], trust=True)  # the journal chose the run, and no delivery of this user
    assert of_mlflow() == {"theirs": ("KILLED", tens(1, 2))}
    replay(path, [MLflowSink()], what="new")
    assert of_mlflow() == {"theirs": ("KILLED", tens(1, 2)), "r": ("KILLED", tens(1, 2))}


def test_a_resume_delivers_what_the_killed_process_had_left_and_ends_its_run(tmp_path) -> None:
    first, second = MemorySink(), MemorySink()
    written(tmp_path, (RunInfo(id="1"), [], None))
    replay(tmp_path, [first])
    path = tmp_path / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:1]))  # as if the killed process had gone on after this cursor
    cursor = tmp_path / "metrics.delivery" / "memory.json"
    cursor.write_text(json.dumps({**json.loads(cursor.read_text()), "offset": len(lines[0])}))
    journal = Journal(path)
    for snapshot in rows(2, 4, 6):
        journal.append(snapshot)
    journal.close()
    delivery = Delivery([second])
    delivery.open(RunInfo(id="2", output_dir=str(tmp_path), step=4))
    for snapshot in rows(6, 8, at=200.0):
        delivery.write(snapshot)
    delivery.close("finished")
    assert [(s.step, s.time) for s in second.snapshots] == [(2, 102), (4, 104), (6, 106), (6, 206), (8, 208)]
    assert [run.id for run in second.runs] == ["1", "2"]
    assert second.closed == ["killed", "finished"]
    assert delivery.counts["memory"].pending == 0


def test_a_sink_that_is_new_at_a_resume_does_not_get_the_past(tmp_path) -> None:
    written(tmp_path, (RunInfo(id="1"), rows(2, 4), None))
    sink = MemorySink()
    delivery = Delivery([sink])
    delivery.open(RunInfo(id="2", output_dir=str(tmp_path), step=4))
    delivery.write(rows(6)[0])
    delivery.close("finished")
    assert sink.series("a/x") == tens(6)
    assert [run.status for run in read_journal(tmp_path)] == ["killed", "finished"]


def test_another_journal_of_the_same_name_is_not_taken_for_the_one_of_the_cursor(tmp_path) -> None:
    replay(written(tmp_path, (RunInfo(id="1"), rows(1, 2, 3), "finished")), [MemorySink()])
    (tmp_path / "metrics.jsonl").unlink()
    sink = MemorySink()
    replay(written(tmp_path, (RunInfo(id="2"), rows(1, 2, 3), "finished")), [sink])
    assert sink.series("a/x") == tens(1, 2, 3)


def test_a_journal_that_cannot_be_written_can_be_replayed(tmp_path, monkeypatch, caplog) -> None:
    path = written(tmp_path, (RunInfo(id="1"), rows(1, 2), None))
    before = path.read_bytes()
    monkeypatch.setattr("os.open", lambda *args: (_ for _ in ()).throw(PermissionError("read-only")))
    sink = MemorySink()
    counts = replay(path, [sink])["memory"]
    assert (sink.series("a/x"), sink.closed, counts.pending) == (tens(1, 2), ["killed"], 0)
    assert path.read_bytes() == before
    assert sum("cannot be written" in record.getMessage() for record in caplog.records) == 1


def test_a_training_that_is_at_work_is_left_alone(tmp_path) -> None:
    delivery = Delivery([MemorySink()])
    delivery.open(RunInfo(id="1", output_dir=str(tmp_path)))
    delivery.write(rows(1)[0])
    with pytest.raises(StillAtWorkError, match=r"metrics\.jsonl is still running \(process \d+\)"):
        replay(tmp_path, [MemorySink()])
    delivery.close("finished")
    replay(tmp_path, [MemorySink()])


def test_a_number_that_another_process_has_now_does_not_block_a_replay(tmp_path) -> None:
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    path = write(tmp_path, (RunInfo(id="1"), rows(1), None))
    begin, *others = path.read_text().splitlines(keepends=True)
    record = json.loads(begin)
    record["process"][1:] = [other.pid, "token of the training"]
    path.write_text("".join([json.dumps(record) + "\n", *others]))  # its start is that of this process
    sink = MemorySink()
    assert replay(path, [sink])["memory"].delivered == 1
    assert sink.closed == ["killed"]
    other.communicate(b"\n", timeout=30)


@pytest.mark.parametrize("number", [0, -1])
def test_a_number_that_is_none_does_not_block_a_replay(tmp_path, number) -> None:
    path = write(tmp_path, (RunInfo(id="1"), rows(1), None))
    as_of_process(path, socket.gethostname(), number)
    sink = MemorySink()
    assert replay(path, [sink])["memory"].delivered == 1
    assert sink.closed == ["killed"]


def test_force_takes_a_process_for_ended_whose_start_is_not_known(tmp_path, caplog) -> None:
    path = write(tmp_path, (RunInfo(id="1"), rows(1), None))
    as_of_process(path, socket.gethostname(), os.getppid())
    with pytest.raises(StillAtWorkError, match=r"is still running .* with --force"):
        replay(path, [MemorySink()])
    sink = MemorySink()
    assert replay(path, [sink], force=True)["memory"].delivered == 1
    assert (sink.closed, [run.status for run in read_journal(path)]) == (["killed"], ["killed"])
    (message,) = [message for message in caplog.messages if "treats the training as killed" in message]
    assert message.startswith(f"process {os.getppid()} is running")


@pytest.fixture
def after(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[list[Worker]], bool]], None]:
    """Return a function that lets replays lose patience only after something has happened."""
    wait = replay_module._wait

    def set_condition(has_happened: Callable[[list[Worker]], bool]) -> None:
        def wait_after(stream: JournalStream, workers: list[Worker], patience: float) -> None:
            wait_for(lambda: has_happened(workers), "what the replay has to wait for")
            wait(stream, workers, patience)

        monkeypatch.setattr(replay_module, "_wait", wait_after)

    return set_condition


def test_a_backend_that_does_not_come_back_is_given_up(tmp_path, after) -> None:
    class Away(MemorySink):
        def open(self, run: RunInfo) -> None:
            raise ConnectionError("no route")

    path = written(tmp_path, (RunInfo(id="1"), rows(1, 2), "finished"))
    after(lambda workers: workers[0].counts.error is not None)
    counts = replay(path, [Away()], patience=0.1)["memory"]
    assert (counts.pending, counts.state, counts.error) == (2, "down", "ConnectionError: no route")
    after(lambda workers: True)
    assert replay(path, [MemorySink()])["memory"].delivered == 2


@pytest.mark.usefixtures("mlflow_store")
def test_the_command_says_what_became_of_it_and_exits_with_it(tmp_path) -> None:
    path = written(tmp_path, (RunInfo(id="1", name="r"), rows(1, 2, 3), "finished"))
    done = CliRunner().invoke(app, ["replay", str(path), "--to", "mlflow,tensorboard"])
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [  # MLflow 3.1 writes of its tables on the other stream
        "mlflow: 3 delivered, 0 rejected, 0 left", "tensorboard: 3 delivered, 0 rejected, 0 left"
    ]  # fmt: skip
    again = CliRunner().invoke(app, ["replay", str(tmp_path), "--to", "mlflow"])
    assert again.stdout == "mlflow: 0 delivered, 0 rejected, 0 left\n"
    shutil.rmtree(tmp_path / "runs")
    (tmp_path / "runs").write_text("in the way")
    left = CliRunner().invoke(app, ["replay", str(tmp_path), "--to", "tensorboard", "--all", "--patience", "1"])
    assert left.exit_code == 1
    assert "tensorboard: 0 delivered, 0 rejected, 3 left (" in left.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere", "--to", "mlflow"], "there is no nowhere. Pass a journal"),
        (["metrics.jsonl", "--to", "tensorbord"], "there is no sink 'tensorbord'"),
        (["metrics.jsonl", "--to", "mlflow", "--all", "--new"], "choose one"),
        (["metrics.jsonl"], "Missing option '--to'"),
        (["metrics.jsonl", "--to", "tensorboard", "--tensorboard_layout", "stacked"], "'stacked' is not allowed. Use"),
        (["metrics.jsonl", "--to", "mlflow", "--tensorboard-layout", ""], "'' is not allowed. Use flat or overlay"),
    ],
)
def test_a_command_that_cannot_be_meant_is_refused(tmp_path, arguments: list[str], said: str) -> None:
    written(tmp_path, (RunInfo(id="1"), rows(1), "finished"))
    refused = CliRunner().invoke(app, ["replay", *arguments], env={"COLUMNS": "200"})
    assert refused.exit_code == 2
    assert said in refused.output


def test_the_command_does_not_need_torch(tmp_path) -> None:
    path = written(tmp_path, (RunInfo(id="1", name="r"), rows(1), "finished"))
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom mtask_sinks.cli import app\n"
        f"done = CliRunner().invoke(app, ['replay', {str(path)!r}, '--to', 'tensorboard'])\n"
        "print(done.output, 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=100)
    assert done.stdout == "tensorboard: 1 delivered, 0 rejected, 0 left\n False\n"


def test_what_a_process_still_tries_to_deliver_after_its_training_is_not_replayed(tmp_path) -> None:
    journal = write(tmp_path, (RunInfo(id="1"), rows(1, 2), "finished"))
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        as_of_process(journal, socket.gethostname(), other.pid)
        first_line = journal.read_bytes().splitlines(keepends=True)[0]
        Cursor(fingerprint_of(first_line), len(first_line)).save(cursor_path(journal, "memory"))
        sink = MemorySink()
        with pytest.raises(StillAtWorkError, match=rf"process {other.pid} is still running.*to sink memory"):
            replay(tmp_path, [sink])
        assert sink.snapshots == []
        other.communicate(b"\n")
    replay(tmp_path, [sink])
    assert sink.series("a/x") == [(1, 10.0), (2, 20.0)]


def test_a_sink_that_only_earlier_trainings_had_is_replayed_beside_a_process_that_runs(tmp_path) -> None:
    path = tmp_path / "metrics.jsonl"
    journal = Journal(path)
    for name, sinks in ("1", ["memory"]), ("2", ["other"]):
        journal.begin(RunInfo(id=name), sinks=sinks)
        journal.append(rows(int(name))[0])
        journal.end(name, "finished")
    journal.close()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        as_of_process(path, socket.gethostname(), other.pid)
        first_line = path.read_bytes().splitlines(keepends=True)[0]
        Cursor(fingerprint_of(first_line), len(first_line)).save(cursor_path(path, "memory"))
        sink = MemorySink()
        assert replay(tmp_path, [sink])["memory"].delivered == 1
        other.communicate(b"\n")
    assert sink.series("a/x") == [(1, 10.0)]


def test_a_journal_that_another_replay_has_locked_is_left_alone(tmp_path) -> None:
    path = written(tmp_path, (RunInfo(id="1"), rows(1, 2), "finished"))
    first, second = Hanging(), MemorySink()
    replaying = threading.Thread(target=replay, args=(path, [first]))
    replaying.start()
    assert first.is_called.wait(100)
    with pytest.raises(StillAtWorkError, match="has locked .*another replay"):
        replay(path, [second])
    assert second.snapshots == []
    first.released.set()
    replaying.join(100)
    assert replay(path, [second])["memory"].delivered == 2


class Away(MemorySink):
    """Cannot be reached until ``is_back``. Tells how many threads have called it, and the run of each row."""

    def __init__(self) -> None:
        super().__init__()
        self.is_back = False
        self.threads: set[int] = set()
        self.rows: list[tuple[str, int]] = []

    def open(self, run: RunInfo) -> None:
        self.threads.add(threading.get_ident())
        if not self.is_back:
            raise ConnectionError("no route")
        self.run = run.name

    def write(self, snapshot: Snapshot) -> None:
        self.rows.append((self.run, snapshot.step))


@pytest.mark.usefixtures("impatient")
def test_a_replay_that_gave_up_does_not_go_on_in_the_background(tmp_path) -> None:
    path = written(tmp_path, (RunInfo(id="1", name="one"), rows(1, 2), "finished"))
    path.with_name("metrics-2.jsonl").write_bytes(path.read_bytes().replace(b'"one"', b'"two"'))
    sink = Away()
    before = threads_of_ours()
    for _ in range(3):
        assert replay(tmp_path, [sink], patience=0.1)["memory"].pending == 4
    wait_for(lambda: threads_of_ours() <= before, "the end of the threads")
    sink.is_back = True
    assert replay(tmp_path, [sink])["memory"].delivered == 4
    assert sink.rows == [("one", 1), ("one", 2), ("two", 1), ("two", 2)]


def test_a_sink_with_a_call_that_does_not_return_gets_no_second_journal_at_the_same_time(
    tmp_path, monkeypatch, after
) -> None:
    monkeypatch.setattr("mtask_sinks.delivery.worker.ABANDON_SECONDS", 0.1)
    path = written(tmp_path, (RunInfo(id="1"), rows(1, 2), "finished"))
    path.with_name("metrics-2.jsonl").write_bytes(path.read_bytes())
    sink, before = Hanging(), threads_of_ours()
    after(lambda workers: sink.is_called.is_set())
    counts = replay(tmp_path, [sink], patience=0.2)["hanging"]
    assert (counts.pending, counts.state) == (4, "down")
    assert len(threads_of_ours() - before) == 1  # that of the first journal
    sink.released.set()
    wait_for(lambda: not any("mtask-sinks-hanging" in thread.name for thread in threading.enumerate()), "the end")
    assert sink.steps == [1]


def test_tensorboard_keeps_each_point_once_even_if_the_cursor_is_lost(tmp_path) -> None:
    path = written(tmp_path, (RunInfo(id="1", name="r"), rows(1, 2), "finished"))
    for what in ("left", "new", "all", "left"):
        shutil.rmtree(path.with_suffix(".delivery"), ignore_errors=True)
        replay(path, [TensorBoardSink()], what=what)
    assert read_scalars(tmp_path / "runs" / "r")["a/train/x"] == tens(1, 2)


@pytest.mark.usefixtures("mlflow_store")
def test_a_replay_into_new_runs_makes_new_runs(tmp_path) -> None:
    path = written(tmp_path, (RunInfo(id="1", name="r"), rows(1, 2), "finished"))
    for _ in range(2):
        replay(path, [MLflowSink()], what="new")
    client = MlflowClient()
    runs = client.search_runs([each.experiment_id for each in client.search_experiments()])
    points = [client.get_metric_history(run.info.run_id, "a/train/x") for run in runs]
    assert [sorted((point.step, point.value) for point in each) for each in points] == [tens(1, 2)] * 2


def test_a_replay_that_was_interrupted_goes_on_where_it_stopped(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("mtask_sinks.delivery.worker.ABANDON_SECONDS", 100.0)
    steps: list[int] = []

    class Interrupting(MemorySink):
        def write(self, snapshot: Snapshot) -> None:
            steps.append(snapshot.step)
            if snapshot.step == 7:
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
                time.sleep(0.2)

    path = written(tmp_path, (RunInfo(id="1"), rows(*range(1, 21)), "finished"))
    sink = Interrupting()
    with pytest.raises(KeyboardInterrupt):
        replay(path, [sink])
    assert replay(path, [sink])["memory"].pending == 0
    assert steps == [*range(1, 21)]


def test_a_replay_that_was_interrupted_as_it_began_does_not_go_on_in_the_background(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("mtask_sinks.delivery.worker.ABANDON_SECONDS", 100.0)
    finish, hurry = Worker.finish, Worker.hurry
    is_called, is_released, steps = threading.Event(), threading.Event(), []

    def interrupt(worker: Worker) -> None:
        finish(worker)
        assert is_called.wait(100)
        signal.raise_signal(signal.SIGINT)

    class Held(MemorySink):
        def write(self, snapshot: Snapshot) -> None:
            is_called.set()
            assert is_released.wait(100)
            steps.append(snapshot.step)

    path = written(tmp_path, (RunInfo(id="1"), rows(*range(1, 21)), "finished"))
    before = threads_of_ours()
    with monkeypatch.context() as interrupted:
        interrupted.setattr(Worker, "finish", interrupt)
        # The call returns when the worker has been told to end.
        interrupted.setattr(Worker, "hurry", lambda worker: is_released.set() or hurry(worker))
        with pytest.raises(KeyboardInterrupt):
            replay(path, [Held()])
    is_released.set()
    wait_for(lambda: threads_of_ours() <= before, "the end of the thread")
    assert steps == [1]
    assert replay(path, [Held()])["memory"].pending == 0
    assert steps == [*range(1, 21)]


def test_a_run_that_the_backend_lacks_holds_up_no_later_run_and_is_asked_for_once(tmp_path) -> None:
    class Lacking(MemorySink):
        def open(self, run: RunInfo) -> None:
            opened.append(run.id)
            if run.id == "lost":
                raise NoSuchRun("somebody deleted it")
            super().open(run)

    opened: list[str] = []
    lost, later = RunInfo(id="lost"), RunInfo(id="later")
    evaluation = [Snapshot(step=3, phase="eval", metrics={"a/x": 30.0})]
    runs = [(lost, rows(1, 2, 3), "finished"), (later, rows(1, 2), "finished"), (lost, evaluation, "finished")]
    written(tmp_path, *runs)
    sink = Lacking()
    counts = replay(tmp_path, [sink], trust=True)["memory"]
    assert sink.series("a/x") == tens(1, 2)
    assert (counts.delivered, counts.rejected, counts.pending) == (2, 4, 0)
    assert opened == ["lost", "later", "lost"]


def test_a_replay_waits_for_a_run_that_the_backend_lacks_if_later_ones_are_for_other_sinks(tmp_path) -> None:
    class Lacking(MemorySink):
        def write(self, snapshot: Snapshot) -> None:
            raise NoSuchRun("somebody deleted it")

    journal = Journal(tmp_path / "metrics.jsonl", eager=True)
    for run_id, sink in (("lost", "memory"), ("later", "mlflow")):
        journal.begin(RunInfo(id=run_id), sinks=[sink])
        journal.append(Snapshot(step=1, metrics={"a/x": 10.0}))
        journal.end(run_id, "finished")
    journal.close()
    Cursor(fingerprint=journal.stream.fingerprint).save(cursor_path(tmp_path / "metrics.jsonl", "memory"))
    counts = replay(tmp_path, [Lacking()], patience=1.0, trust=True, force=True)["memory"]
    assert (counts.delivered, counts.rejected, counts.state) == (0, 0, "down")


def test_a_replay_of_a_journal_that_was_removed_meanwhile_does_not_count_as_complete(tmp_path) -> None:
    class Removing(MemorySink):
        def write(self, snapshot: Snapshot) -> None:
            path.unlink(missing_ok=True)
            super().write(snapshot)

    wide = {f"a/x{number}": 1.0 for number in range(500)}
    path = written(tmp_path, (RunInfo(id="1"), [Snapshot(step, metrics=wide) for step in range(100)], "finished"))
    counts = replay(path, [sink := Removing()])["memory"]
    assert 0 < counts.delivered == len(sink.snapshots) < 100
    assert (counts.pending, counts.is_in_trouble) == (100 - counts.delivered, True)


def test_a_run_that_the_backend_forgot_gets_no_rows_of_the_run_before_it(tmp_path) -> None:
    """The run before it has no end: its training was at work in the same journal."""

    class Forgetful(MemorySink):
        def write(self, snapshot: Snapshot) -> None:
            super().write(snapshot)
            if snapshot.step == 4:
                self.snapshots.clear()
                self.write = super().write
                raise Forgotten

    first, second = [Snapshot(1), Snapshot(2)], [Snapshot(3), Snapshot(4), Snapshot(5)]
    written(tmp_path, (RunInfo(id="1"), first, None), (RunInfo(id="2"), second, "finished"))
    counts = replay(tmp_path, [sink := Forgetful()])["memory"]
    assert [snapshot.step for snapshot in sink.snapshots] == [3, 4, 5]
    assert (counts.given, counts.delivered, counts.is_in_trouble) == (5, 5, False)


def test_a_replay_that_delivers_the_run_between_the_parts_of_another_twice_is_complete(tmp_path) -> None:
    class Forgetful(MemorySink):
        def write(self, snapshot: Snapshot) -> None:
            if snapshot.step == 4 and self.snapshots[-1].step == 3 and len(self.snapshots) == 3:
                raise Forgotten
            super().write(snapshot)

    run = RunInfo(id="1")
    written(tmp_path, (run, [Snapshot(1)], None), (RunInfo(id="2"), [Snapshot(2)], "finished"))
    written(tmp_path, (run, [Snapshot(3), Snapshot(4)], "finished"))
    counts = replay(tmp_path, [sink := Forgetful()], force=True)["memory"]
    assert [snapshot.step for snapshot in sink.snapshots] == [1, 2, 3, 1, 2, 3, 4]
    assert (counts.given, counts.delivered, counts.pending, counts.state) == (5, 5, 0, "closed")
