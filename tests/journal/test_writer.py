from __future__ import annotations

import errno
import json
import math
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from mtask_sinks import RunInfo, Snapshot, read_journal
from mtask_sinks.journal.records import fingerprint_of
from mtask_sinks.journal.writer import Journal


def snapshot(step: int, **metrics: float) -> Snapshot:
    return Snapshot(step, "train", {f"a/{name}": value for name, value in metrics.items()}, 0.5, 1000.25 + step)


def written(path: Path, *snapshots: Snapshot, run: RunInfo | None = None) -> Journal:
    journal = Journal(path)
    journal.begin(run or RunInfo(id="1"))
    for each in snapshots:
        journal.append(each)
    return journal


def test_nan_and_infinity_are_exact_and_every_line_is_valid_json(tmp_path) -> None:
    path = tmp_path / "metrics.jsonl"
    written(path, Snapshot(1, metrics={"n": math.nan, "p": math.inf, "m": -math.inf}, logs={"loss": math.nan})).close()

    def refuse(text):
        raise AssertionError(text)

    lines = [json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines()]
    assert lines[1]["metrics"] == {"n": "NaN", "p": "Infinity", "m": "-Infinity"}
    values = read_journal(path)[0].snapshots[0]
    assert math.isnan(values.metrics["n"])
    assert (values.metrics["p"], values.metrics["m"]) == (math.inf, -math.inf)
    assert math.isnan(values.logs["loss"])


def test_pandas_reads_it(tmp_path) -> None:
    path = tmp_path / "metrics.jsonl"
    written(path, snapshot(1, x=1.5), snapshot(2, x=2.5)).close()
    frame = pd.read_json(path, lines=True)
    rows = frame[frame.record == "snapshot"]
    assert rows.step.tolist() == [1, 2]
    assert [metrics["a/x"] for metrics in rows.metrics] == [1.5, 2.5]


def test_nothing_is_written_before_there_is_a_metric_and_nothing_is_lost(tmp_path) -> None:
    path = tmp_path / "metrics.jsonl"
    journal = written(path, Snapshot(1, logs={"loss": 3.0}))
    assert not path.exists()
    journal.append(snapshot(2, x=1.0))
    assert [each.step for each in read_journal(path)[0].snapshots] == [1, 2]
    written(tmp_path / "silent.jsonl", Snapshot(1, logs={"loss": 3.0})).close()
    assert not (tmp_path / "silent.jsonl").exists()


def test_an_earlier_runs_file_is_continued(tmp_path) -> None:
    path = tmp_path / "metrics.jsonl"
    written(path, snapshot(1, x=1.0)).close()
    written(path, snapshot(2, x=2.0), run=RunInfo(id="2", step=1)).close()
    assert [(run.id, run.step, [each.step for each in run.snapshots]) for run in read_journal(path)] == [
        ("1", 0, [1]),
        ("2", 1, [2]),
    ]


@pytest.mark.parametrize("kept", [1, 5, 40, -1])
def test_a_torn_last_line_is_no_data_and_is_cut_off_by_the_next_run(tmp_path, kept) -> None:
    path = tmp_path / "metrics.jsonl"
    written(path, snapshot(1, x=1.0), snapshot(2, x=2.0)).close()
    lines = path.read_bytes().splitlines(keepends=True)
    whole = b"".join(lines[:-1])
    path.write_bytes(whole + lines[-1].rstrip(b"\n")[:kept])
    assert [each.step for each in read_journal(path)[0].snapshots] == [1]
    written(path, snapshot(3, x=3.0), run=RunInfo(id="2")).close()
    assert path.read_bytes().startswith(whole)
    assert [each.step for run in read_journal(path) for each in run.snapshots] == [1, 3]


def test_a_torn_last_line_is_cut_off_also_in_a_file_that_is_not_shared(tmp_path) -> None:
    path = tmp_path / "metrics.jsonl"
    written(path, snapshot(1, x=1.0)).close()
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"record": "snap')
    journal = Journal(path, own_file=True)
    assert path.read_bytes() == whole
    journal.begin(RunInfo(id="2"))
    journal.append(snapshot(3, x=3.0))
    journal.close()
    assert path.read_bytes().startswith(whole)
    assert [(run.id, [each.step for each in run.snapshots]) for run in read_journal(path)] == [("1", [1]), ("2", [3])]


def test_permissions_follow_the_umask(tmp_path) -> None:
    before = os.umask(0o027)
    try:
        written(tmp_path / "metrics.jsonl", snapshot(1, x=1.0)).close()
    finally:
        os.umask(before)
    assert (tmp_path / "metrics.jsonl").stat().st_mode & 0o777 == 0o640


def test_a_removed_directory_is_made_again(tmp_path, caplog) -> None:
    path = tmp_path / "out" / "metrics.jsonl"
    journal = written(path, snapshot(1, x=1.0))
    path.unlink()
    path.parent.rmdir()
    journal.append(snapshot(2, x=2.0))
    journal.close()
    assert [each.step for run in read_journal(path) for each in run.snapshots] == [2]
    assert journal.failures == 0
    (message,) = caplog.messages
    assert message.startswith(f"somebody removed, replaced or shortened the journal {path} while this process wrote")


def test_a_journal_that_is_removed_between_two_trainings_is_no_reason_to_warn(tmp_path, caplog) -> None:
    path = tmp_path / "metrics.jsonl"
    journal = written(path, snapshot(1, x=1.0))
    journal.close()
    path.unlink()
    journal.append(snapshot(2, x=2.0))
    journal.close()
    assert not caplog.messages


def emptied(path: Path, whole: bytes) -> None:
    os.truncate(path, 0)


def cut(path: Path, whole: bytes) -> None:
    os.truncate(path, len(whole) - 5)


def shortened(path: Path, whole: bytes) -> None:
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[:5]))


def replaced(path: Path, whole: bytes) -> None:
    new = path.with_name("new")
    new.write_bytes(b"".join(whole.splitlines(keepends=True)[3:]))
    new.replace(path)


@pytest.mark.parametrize("own_file", [False, True])
@pytest.mark.parametrize("is_closed", [False, True])
@pytest.mark.parametrize("change", [emptied, cut, shortened, replaced])
def test_what_is_written_after_somebody_changed_the_file_has_its_run_and_is_found(
    tmp_path, monkeypatch, caplog, change, is_closed, own_file
) -> None:
    monkeypatch.setattr("mtask_sinks.journal.writer._MAX_RECENT", (2, 1 << 20))  # so that readers need the file
    path = tmp_path / "metrics.jsonl"
    journal = Journal(path, own_file=own_file)
    journal.begin(RunInfo(id="1"))
    for step in range(1, 21):
        journal.append(snapshot(step, x=1.0))
    position = journal.stream.end_position
    if is_closed:
        journal.close()
    change(path, path.read_bytes())
    kept = [each.step for run in read_journal(path) for each in run.snapshots]
    for step in range(21, 31):
        journal.append(snapshot(step, x=1.0))
    journal.close()
    assert [each.step for run in read_journal(path) for each in run.snapshots] == [*kept, *range(21, 31)]
    assert read_journal(path)[-1].id == "1"
    assert ["it lacks earlier lines" in message for message in caplog.messages] == [True] * (not is_closed)
    seen = []
    while items := journal.stream.read(position):
        seen += [item.step for _, item in items if isinstance(item, Snapshot)]
        position = items[-1][0]
    assert seen == list(range(21, 31))
    assert journal.stream.offset_of(position) == path.stat().st_size
    assert journal.stream.fingerprint == fingerprint_of(path.read_bytes().splitlines(keepends=True)[0])


def test_a_file_that_another_training_made_after_this_one_began_is_continued_and_known(tmp_path) -> None:
    path = tmp_path / "metrics.jsonl"
    journal = Journal(path, own_file=True)
    journal.begin(RunInfo(id="1"))
    written(path, snapshot(1, x=1.0), run=RunInfo(id="2")).close()
    journal.append(snapshot(5, x=1.0))
    journal.close()
    assert lines_of(path) == ["run 2", "snapshot 1", "run 1", "snapshot 5"]
    assert journal.stream.fingerprint == fingerprint_of(path.read_bytes().splitlines(keepends=True)[0])
    assert [item.step for _, item in journal.stream.read(0) if isinstance(item, Snapshot)] == [5]
    assert journal.stream.offset_of(journal.stream.end_position) == path.stat().st_size


def test_what_the_disk_does_not_take_is_written_when_it_does(tmp_path, caplog) -> None:
    path = tmp_path / "out" / "metrics.jsonl"
    (tmp_path / "out").write_text("in the way")
    journal = written(path, snapshot(1, x=1.0), snapshot(2, x=2.0))
    assert journal.failures == 2
    assert sum("cannot be written" in record.getMessage() for record in caplog.records) == 1
    (tmp_path / "out").unlink()
    journal.append(snapshot(3, x=3.0))
    assert [each.step for each in read_journal(path)[0].snapshots] == [1, 2, 3]


def test_a_snapshot_costs_one_write_and_one_look_at_the_file(tmp_path, monkeypatch) -> None:
    journal = written(tmp_path / "metrics.jsonl", snapshot(1, x=1.0))
    calls: Counter[str] = Counter()

    def counted(name: str) -> None:
        call = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, **kwargs: calls.update([name]) or call(*args, **kwargs))

    for name in ("write", "fstat", "stat", "open", "close", "fsync", "ftruncate", "pread"):
        counted(name)
    for step in range(2, 12):
        journal.append(snapshot(step, x=1.0))
    monkeypatch.undo()
    assert calls == {"write": 10, "stat": 10}


def test_what_waits_for_the_disk_is_bounded_and_readers_skip_what_is_lost(tmp_path, monkeypatch, caplog) -> None:
    monkeypatch.setattr("mtask_sinks.journal.writer._MAX_WAITING", (5, 1 << 20))
    monkeypatch.setattr("mtask_sinks.journal.writer._MAX_RECENT", (2, 1 << 20))
    path = tmp_path / "out" / "metrics.jsonl"
    journal = written(path, snapshot(1, x=1.0), snapshot(2, x=2.0))
    path.unlink()
    path.mkdir()  # so that the file cannot be written
    for step in range(3, 13):
        journal.append(snapshot(step, x=float(step)))
    assert "lines get lost" in caplog.text
    path.rmdir()
    journal.append(snapshot(13, x=13.0))
    journal.close()
    kept = [each.step for run in read_journal(path) for each in run.snapshots]
    assert kept == [8, 9, 10, 11, 12, 13]
    position, seen = 0, []
    while items := journal.stream.read(position):
        seen += [item.step for _, item in items if isinstance(item, Snapshot)]
        position = items[-1][0]
    assert (seen, position) == (kept, journal.stream.end_position)


def lines_of(path: Path) -> list[str]:
    """What each line is: the run that begins or ends, or the step of a snapshot."""
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return [f"{each['record']} {each.get('id', each.get('step'))}" for each in found]


def test_a_run_without_metrics_stays_before_the_next_one(tmp_path) -> None:
    journal = written(tmp_path / "metrics.jsonl", Snapshot(1, logs={"loss": 2.0}))
    journal.end("1", "finished")
    journal.begin(RunInfo(id="2"))
    journal.append(snapshot(5, x=1.0))
    journal.close()
    assert lines_of(journal.path) == ["run 1", "snapshot 1", "end 1", "run 2", "snapshot 5"]


def test_lines_of_two_runs_that_waited_for_the_disk_have_their_own_runs(tmp_path) -> None:
    path = tmp_path / "out" / "metrics.jsonl"
    journal = written(path, snapshot(1, x=1.0))
    path.unlink()
    path.parent.rmdir()
    path.parent.write_text("in the way")
    journal.append(snapshot(2, x=1.0))
    journal.end("1", "finished")
    journal.begin(RunInfo(id="2"))
    journal.append(snapshot(5, x=1.0))
    path.parent.unlink()
    journal.append(snapshot(6, x=1.0))
    journal.close()
    assert lines_of(path) == ["run 1", "snapshot 2", "end 1", "run 2", "snapshot 5", "snapshot 6"]


def test_rows_before_the_first_metric_are_bounded_and_the_warning_does_not_blame_the_disk(
    tmp_path, monkeypatch, caplog
) -> None:
    monkeypatch.setattr("mtask_sinks.journal.writer._MAX_WAITING", (3, 1 << 20))
    journal = written(tmp_path / "metrics.jsonl", *(Snapshot(step, logs={"loss": 1.0}) for step in range(1, 6)))
    assert ["begins with the first row that has a metric" in message for message in caplog.messages] == [True]
    journal.append(snapshot(6, x=1.0))
    journal.close()
    assert lines_of(journal.path) == ["run 1", "snapshot 3", "snapshot 4", "snapshot 5", "snapshot 6"]


def test_lines_that_the_disk_never_took_are_counted_at_the_end(tmp_path, caplog) -> None:
    (tmp_path / "out").write_text("in the way")
    written(tmp_path / "out" / "metrics.jsonl", snapshot(1, x=1.0), snapshot(2, x=2.0)).close()
    assert "lacks its last 3 lines" in caplog.text


def test_a_full_disk_leaves_whole_lines(tmp_path) -> None:
    code = f"""
import resource, signal, sys
from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.journal.writer import Journal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = Journal({str(tmp_path / "metrics.jsonl")!r})
journal.begin(RunInfo(id="1"))
journal.append(Snapshot(0, metrics={{"x": 0.0}}))
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (1500, hard))
for step in range(1, 20):
    journal.append(Snapshot(step, metrics={{"x": 1.0 * step}}))
print(journal.failures, sum(len(run.snapshots) for run in __import__("mtask_sinks").read_journal(journal.path)))
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
journal.append(Snapshot(20, metrics={{"x": 20.0}}))
"""
    # -B: with such a limit, Python would also leave half of the bytecode of each module that it imports.
    command = [sys.executable, "-B", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    failures, before = map(int, done.stdout.split())
    assert failures > 5
    assert 0 < before < 15
    (run,) = read_journal(tmp_path)
    assert [each.step for each in run.snapshots] == list(range(21))


def test_killing_the_process_loses_nothing_that_was_appended(tmp_path) -> None:
    code = f"""
from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.journal.writer import Journal
journal = Journal({str(tmp_path / "metrics.jsonl")!r})
journal.begin(RunInfo(id="1"))
step = 0
while True:
    journal.append(Snapshot(step, metrics={{"a/x": step + 0.5}}))
    print(step, flush=True)
    step += 1
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(50)]
    finally:
        process.send_signal(signal.SIGKILL)
        said += process.stdout.readlines()
        process.wait(30)
    steps = [each.step for each in read_journal(tmp_path)[0].snapshots]
    assert steps == list(range(len(steps)))
    printed = [int(line) for line in said if line.endswith("\n")]
    assert printed == steps[: len(printed)]
    assert len(steps) - len(printed) in (0, 1)  # one more may be written but not printed


def test_a_run_whose_record_was_dropped_is_not_booked_to_the_training_before(tmp_path, monkeypatch) -> None:
    path = tmp_path / "metrics.jsonl"
    earlier = written(path, snapshot(1, x=1.0))
    earlier.end("1", "finished")
    earlier.close()
    monkeypatch.setattr("mtask_sinks.journal.writer._MAX_WAITING", (3, 1 << 20))
    journal = Journal(path, own_file=True)
    journal.begin(RunInfo(id="2"))
    for step in range(1, 6):
        journal.append(Snapshot(step, logs={"loss": 1.0}))
    journal.append(snapshot(6, x=1.0))
    journal.end("2", "failed")
    journal.close()
    rest = ["run 2", "snapshot 3", "snapshot 4", "snapshot 5", "snapshot 6", "end 2"]
    assert lines_of(path) == ["run 1", "snapshot 1", "end 1", *rest]


INTERRUPTED = """\
import random, signal, sys, threading
from pathlib import Path
from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.journal.writer import Journal

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets jobs in the background ignore it
journal = Journal(Path(sys.argv[1]))
journal.begin(RunInfo(id="1"))
moments, main, is_over = random.Random(0), threading.main_thread().ident, threading.Event()
# One signal at a time: a second one leaves the block at once, because the disk may hang.
is_raised = threading.Event()

def interrupt():
    while not is_over.wait(moments.uniform(2e-5, 2e-4)):
        is_raised.clear()
        signal.pthread_kill(main, signal.SIGINT)
        is_raised.wait(1)

step = interrupts = 0
thread = threading.Thread(target=interrupt, daemon=True)
thread.start()
while interrupts < 500:
    try:
        step += 1
        journal.append(Snapshot(step, metrics={"a/x": 1.0}))
    except KeyboardInterrupt:
        interrupts += 1
        is_raised.set()
signal.signal(signal.SIGINT, signal.SIG_IGN)
is_over.set()
is_raised.set()
thread.join()
journal.close()
steps, position = [], 0
while items := journal.stream.read(position):
    steps += [item.step for _, item in items if isinstance(item, Snapshot)]
    position = items[-1][0]
print(*steps)
print(journal.stream.offset_of(position), file=sys.stderr)
"""


def test_ctrl_c_at_any_moment_leaves_each_line_once_in_the_file_and_in_the_stream(tmp_path) -> None:
    path = tmp_path / "metrics.jsonl"
    for _ in range(5):  # an interrupt between the statements of the script ends it
        path.unlink(missing_ok=True)
        done = subprocess.run([sys.executable, "-c", INTERRUPTED, path], capture_output=True, text=True, timeout=100)
        if not done.returncode:
            break
    assert not done.returncode, done.stderr
    in_stream = [int(step) for step in done.stdout.split()]
    in_file = [each.step for each in read_journal(path)[0].snapshots]
    assert in_file == in_stream == sorted({*in_file})
    assert len(in_file) > 100
    assert int(done.stderr) == path.stat().st_size


def test_an_error_at_the_close_is_no_error_of_the_training(tmp_path, monkeypatch, caplog) -> None:
    journal = written(tmp_path / "metrics.jsonl", snapshot(1, x=1.0))
    close = os.close

    def over_quota(descriptor: int) -> None:
        close(descriptor)
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    with monkeypatch.context() as patch:
        patch.setattr(os, "close", over_quota)
        journal.close()
    assert "may lack its last lines" in caplog.text and "Disk quota exceeded" in caplog.text
    other = (tmp_path / "checkpoint.bin").open("wb")  # it gets the number of the closed file
    journal.append(snapshot(2, x=2.0))
    journal.close()
    other.close()
    assert (tmp_path / "checkpoint.bin").read_bytes() == b""
    assert [each.step for each in read_journal(journal.path)[0].snapshots] == [1, 2]
