from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from helpers.journals import as_of_process, ended_process, losses, write

from mtask_sinks import RunInfo, Snapshot, read_journal
from mtask_sinks.analysis.counted import read_trainings
from mtask_sinks.analysis.export import to_frame
from mtask_sinks.analysis.find import find_journals, journals_below
from mtask_sinks.analysis.selection import open_run
from mtask_sinks.delivery.pipeline import Delivery
from mtask_sinks.delivery.replay import replay
from mtask_sinks.journal.claim import claim
from mtask_sinks.journal.writer import Journal
from mtask_sinks.sinks import MemorySink

N = 200
WRITER = """
import json, logging, sys
from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.delivery import last_wait
from mtask_sinks.delivery.pipeline import Delivery
from mtask_sinks.sinks import MemorySink
last_wait._QUIET_SECONDS = 60.0  # no message because the machine is slow
name, directory, n = sys.argv[1], sys.argv[2], int(sys.argv[3])
sink = MemorySink()
delivery = Delivery([sink])
print("ready", flush=True)
sys.stdin.readline()
delivery.open(RunInfo(id=name, name=name, output_dir=directory))
print("opened", flush=True)
sys.stdin.readline()
for step in range(1, n + 1):
    delivery.write(Snapshot(step, metrics={name + "/x": float(step)}))
delivery.close("finished")
counts = delivery.counts["memory"]
print(json.dumps([counts.pending, [sorted(s.metrics) + [s.step] for s in sink.snapshots]]), flush=True)
"""


class Writer:
    """A process that writes a journal when it is told to."""

    def __init__(self, name: str, directory: Path) -> None:
        script = [sys.executable, "-c", WRITER, name, str(directory), str(N)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(script, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        self.name, self.number = name, self._process.pid
        assert self._process.stdout is not None and self._process.stdin is not None
        self._said, self._told = self._process.stdout, self._process.stdin
        assert self._said.readline() == "ready\n"

    def open(self) -> None:
        self._told.write("open\n")
        self._told.flush()
        assert self._said.readline() == "opened\n"

    def write(self) -> None:
        self._told.write("write\n")
        self._told.flush()

    def result(self) -> tuple[list, list[str]]:
        import json

        out, err = self._process.communicate(timeout=120)
        assert self._process.returncode == 0, err
        return json.loads(out), [line for line in err.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> tuple[Path, list[list], list[list[str]], list[int]]:
    """Let two processes write to one directory; return what their sinks got, what they said, and their numbers."""
    directory = tmp_path_factory.mktemp("shared")
    writers = [Writer("a", directory), Writer("b", directory)]
    for each in writers:
        each.open()
    for each in writers:
        each.write()
    results = [each.result() for each in writers]
    return directory, [got for got, _ in results], [said for _, said in results], [each.number for each in writers]


def test_each_of_two_processes_delivers_its_own_snapshots_and_no_others(two) -> None:
    _, got, _, _ = two
    for name, (pending, snapshots) in zip("ab", got, strict=True):
        assert pending == 0
        assert snapshots == [[f"{name}/x", step] for step in range(1, N + 1)]


def test_the_second_says_once_who_writes_and_takes_a_file_of_its_own(two) -> None:
    directory, _, said, numbers = two
    assert said[0] == []
    (message,) = said[1]
    assert message.startswith(f"process {numbers[0]} on ") and f"writes to {directory}/metrics.jsonl now" in message
    assert sorted(path.name for path in directory.glob("*.jsonl")) == ["metrics-2.jsonl", "metrics.jsonl"]
    assert sorted(path.parent.name for path in directory.glob("*/memory.json")) == [
        "metrics-2.delivery",
        "metrics.delivery",
    ]


def test_all_readers_read_both(two) -> None:
    directory, _, _, _ = two
    assert [(run.name, run.status, len(run.snapshots)) for run in read_journal(directory)] == [
        ("a", "finished", N), ("b", "finished", N),
    ]  # fmt: skip
    assert [(each.number, each.name, len(each.steps)) for each in read_trainings(directory)] == [
        (1, "a", N),
        (2, "b", N),
    ]
    assert {path.name for path, name in find_journals(directory) if name} == {"metrics.jsonl", "metrics-2.jsonl"}
    assert {found.name for found in journals_below(directory.parent) if found.path.parent == directory} == {
        directory.name, f"{directory.name}/metrics-2",
    }  # fmt: skip
    for run, file in ((f"{directory}:1", "metrics.jsonl"), (f"{directory}:b", "metrics-2.jsonl")):
        training = open_run(run)
        assert (training.journal.name, len(training.steps)) == (file, N)
    assert len(to_frame(directory)) == 2 * N
    sink = MemorySink()
    assert replay(directory, [sink], what="new", trust=True)["memory"].delivered == 2 * N
    assert sorted(run.name for run in sink.runs) == ["a", "b"]


def test_trainings_that_follow_one_another_share_the_file(tmp_path, caplog) -> None:
    from helpers.toy import Toy, arguments, numbers

    from mtask_sinks import HfMultiTaskTrainer

    for name in "ab":
        HfMultiTaskTrainer(Toy(), arguments(tmp_path, run_name=name), train_dataset=numbers(1, 2)).train()
    assert [path.name for path in tmp_path.glob("*.jsonl")] == ["metrics.jsonl"]
    assert [each.name for each in read_trainings(tmp_path)] == ["a", "b"]
    assert not [message for message in caplog.messages if "its own journal" in message]


def test_trainings_in_threads_have_a_file_each(tmp_path, caplog) -> None:
    first, second = (Delivery([MemorySink()]) for _ in range(2))
    first.open(RunInfo(id="1", name="first", output_dir=str(tmp_path)))

    def other() -> None:
        second.open(RunInfo(id="2", name="second", output_dir=str(tmp_path)))
        second.write(Snapshot(1, metrics={"b/x": 2.0}))
        second.close("failed")

    thread = threading.Thread(target=other)
    thread.start()
    thread.join(30)
    first.write(Snapshot(1, metrics={"a/x": 1.0}))
    first.close("finished")
    assert [(each.name, each.status, each.journal.name) for each in read_trainings(tmp_path)] == [
        ("first", "finished", "metrics.jsonl"), ("second", "failed", "metrics-2.jsonl"),
    ]  # fmt: skip
    assert [delivery.counts["memory"].pending for delivery in (first, second)] == [0, 0]
    (message,) = caplog.messages
    assert message.startswith(f"another training in this process writes to {tmp_path}/metrics.jsonl now")


def test_who_finds_the_file_taken_at_its_first_line_takes_another_one(tmp_path) -> None:
    early, late = (Journal(tmp_path / "metrics.jsonl", own_file=True) for _ in range(2))  # there is no file yet
    for name, journal in (("early", early), ("late", late)):
        journal.begin(RunInfo(id=name, name=name))
        journal.append(Snapshot(1, metrics={f"{name}/x": 1.0}))
    assert (early.path.name, late.path.name) == ("metrics.jsonl", "metrics-2.jsonl")
    late.append(Snapshot(2, metrics={"late/x": 2.0}))
    assert [getattr(item, "step", None) for _, item in late.stream.read(0)] == [None, 1, 2]
    for journal in (early, late):
        journal.close()
    assert [(run.name, len(run.snapshots)) for run in read_journal(tmp_path)] == [("early", 1), ("late", 2)]


def test_an_evaluation_after_another_process_took_the_file_goes_to_a_file_of_its_own(tmp_path) -> None:
    first = Delivery([MemorySink()])
    run = RunInfo(id="1", name="first", output_dir=str(tmp_path))
    first.open(run)
    first.write(Snapshot(1, metrics={"a/x": 1.0}))
    first.close("finished")
    other = Journal(tmp_path / "metrics.jsonl", own_file=True)
    other.begin(RunInfo(id="2", name="other"))
    other.append(Snapshot(1, metrics={"b/x": 1.0}))
    first.open(run)
    first.write(Snapshot(1, "eval", {"a/x": 2.0}))
    first.close("finished")
    other.append(Snapshot(2, metrics={"b/x": 2.0}))
    other.end("2", "finished")
    other.close()
    assert first.counts["memory"].pending == 0
    assert [len(run.snapshots) for run in read_journal(tmp_path / "metrics.jsonl")] == [1, 2]
    assert [(run.name, run.status, len(run.snapshots)) for run in read_journal(tmp_path / "metrics-2.jsonl")] == [
        ("first", "finished", 1)
    ]


def test_the_lock_that_a_killed_training_left_to_its_workers_does_not_count(tmp_path) -> None:
    reader, writer = os.pipe()
    training = os.fork()
    if not training:
        path, file = claim(tmp_path / "metrics.jsonl", create=True)
        journal = Journal(path, eager=True)
        journal.begin(RunInfo(id="1"))
        if not os.fork():  # a worker of a data loader, which outlives the training
            os.close(writer)
            os.read(reader, 1)
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(training, 0)
    os.close(reader)
    path, file = claim(tmp_path / "metrics.jsonl", create=True)
    assert path.name == "metrics.jsonl"
    file.close()
    os.close(writer)


def test_a_process_that_was_forked_keeps_no_lock(tmp_path) -> None:
    path, file = claim(tmp_path / "metrics.jsonl", create=True)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    file.close()
    again, other = claim(path, create=True)
    assert again == path
    other.close()
    os.close(reader)
    os.close(writer)
    os.waitpid(child, 0)


@pytest.mark.parametrize(
    ("process", "statuses", "taken"),
    [
        ("other", [None], True),
        ("here", [None], False),  # no journal of this process has the file open
        ("ended", [None], False),
        ("here", ["finished"], False),
        ("other", ["finished", None], True),  # it evaluates after its training
        ("here", ["finished", None], False),
        ("ended", ["finished", None], False),
        ("here", ["finished", "finished"], False),
    ],
)
def test_without_locks_the_last_run_decides(tmp_path, monkeypatch, process, statuses, taken) -> None:
    path = write(tmp_path, *((RunInfo(id="1"), losses(1), status) for status in statuses))
    if process == "ended":
        import socket

        as_of_process(path, socket.gethostname(), ended_process())
    elif process == "other":
        import socket

        as_of_process(path, socket.gethostname(), os.getppid())
    forbid_locks(monkeypatch)
    used, file = claim(path, create=True)
    assert used.name == ("metrics-2.jsonl" if taken else "metrics.jsonl")
    file.close()


def forbid_locks(monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)


def test_without_locks_a_process_writes_again_to_the_file_that_it_closed(tmp_path, monkeypatch) -> None:
    forbid_locks(monkeypatch)
    first, second = (Journal(tmp_path / "metrics.jsonl", own_file=True) for _ in range(2))
    first.begin(RunInfo(id="1"))
    for step in (1, 2, 3):
        first.append(Snapshot(step, "eval", metrics={"a/x": 1.0}))
        first.close()  # as after each evaluation outside of a training
    second.begin(RunInfo(id="2"))
    second.append(Snapshot(4, metrics={"a/x": 1.0}))
    first.append(Snapshot(5, "eval", metrics={"a/x": 1.0}))
    assert (first.path.name, second.path.name) == ("metrics-2.jsonl", "metrics.jsonl")
    assert [[each.step for each in run.snapshots] for run in read_journal(second.path)] == [[1, 2, 3], [4]]
    first.close()
    second.close()


def test_every_journal_of_a_directory_has_a_name_that_the_commands_find(tmp_path) -> None:
    path = tmp_path / "metrics.jsonl"
    first, second, third = (Journal(path, own_file=True) for _ in range(3))
    first.begin(RunInfo(id="1"))
    first.append(Snapshot(1, metrics={"a/x": 1.0}))
    second.begin(RunInfo(id="2"))
    second.append(Snapshot(1, metrics={"a/x": 1.0}))
    second.close()
    third.begin(RunInfo(id="3"))
    third.append(Snapshot(1, metrics={"a/x": 1.0}))  # takes the file that the second one has left
    second.append(Snapshot(2, metrics={"a/x": 1.0}))
    for journal in (first, second, third):
        journal.close()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["metrics-2.jsonl", "metrics-3.jsonl", "metrics.jsonl"]
    found = [(run.id, [each.step for each in run.snapshots]) for run in read_journal(path.parent)]
    assert sorted(found) == [("1", [1]), ("2", [1]), ("2", [2]), ("3", [1])]


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to(os.devnull)])
def test_a_training_writes_beside_a_directory_a_pipe_or_a_device_with_that_name(make, tmp_path) -> None:
    make(tmp_path / "metrics.jsonl")
    used, file = claim(tmp_path / "metrics.jsonl", create=True)
    file.close()
    assert used.name == "metrics-2.jsonl"
