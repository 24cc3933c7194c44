from __future__ import annotations

import os
from threading import Thread

import pytest
from helpers.journals import losses, write

from mtask_sinks import RunInfo, Snapshot, read_journal
from mtask_sinks.errors import NoJournalError
from mtask_sinks.journal.records import Begin, End, encode


def test_what_is_read_is_what_was_written(tmp_path) -> None:
    full = Snapshot(
        step=7, phase="eval_x", metrics={"a/x": 1 / 3, "b/y": -0.0}, epoch=None, time=1.7e9 + 1 / 7,
        counts={"a/x": 3, "b/y": 1}, nonfinite={"a/x": 2}, logs={"eval_loss": 0.1, "note": "text"},
    )  # fmt: skip
    write(tmp_path, (RunInfo(id="r", name="bert", step=5), [full], "failed"))
    (run,) = read_journal(tmp_path)
    assert (run.id, run.name, run.step, run.status) == ("r", "bert", 5, "failed")
    assert set(run.versions) >= {"mtask-sinks", "torch", "transformers"}
    assert run.snapshots == [full]


def test_a_run_that_goes_on_after_its_training_is_one_run(tmp_path) -> None:
    train, evaluation = Snapshot(1, metrics={"a/x": 1.0}), Snapshot(1, metrics={"a/y": 2.0})
    write(tmp_path, (RunInfo(id="1"), [train], "finished"), (RunInfo(id="1"), [evaluation], None))
    (run,) = read_journal(tmp_path)
    assert [dict(each.metrics) for each in run.snapshots] == [{"a/x": 1.0}, {"a/y": 2.0}]
    assert run.status == "finished"  # an evaluation does not begin it again


def test_lines_without_a_record_are_left_out(tmp_path) -> None:
    path = write(tmp_path, (RunInfo(id="1"), losses(1, 2), None))
    first, second, third = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + b"junk\n" + second + b"\n" + b'{"record": "snapshot"}\n' + third + third[:20])
    (run,) = read_journal(path)
    assert [each.step for each in run.snapshots] == [1, 2]


def test_a_whole_record_without_its_newline_counts(tmp_path) -> None:
    path = write(tmp_path, (RunInfo(id="1"), losses(1, 2), None))
    path.write_bytes(path.read_bytes()[:-1])
    assert [each.step for each in read_journal(path)[0].snapshots] == [1, 2]


def test_an_end_whose_beginning_is_lost_ends_no_other_run(tmp_path) -> None:
    lost = encode(End("2", "failed"))
    (tmp_path / "metrics.jsonl").write_bytes(lost + encode(Begin(RunInfo(id="1"))) + encode(Snapshot(3)) + lost)
    assert [(run.id, run.status) for run in read_journal(tmp_path)] == [("1", None)]


def test_snapshots_before_any_beginning_are_a_run_without_an_id(tmp_path) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(encode(Snapshot(3)) + encode(Begin(RunInfo(id="1"))))
    assert [(run.id, len(run.snapshots)) for run in read_journal(tmp_path)] == [("", 1), ("1", 0)]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_journal_comes_through_a_pipe_too(tmp_path) -> None:
    path, pipe = write(tmp_path, (RunInfo(id="1"), losses(1, 2), None)), tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = Thread(target=lambda: pipe.write_bytes(path.read_bytes()), daemon=True)
    writer.start()
    (run,) = read_journal(pipe)
    assert [each.step for each in run.snapshots] == [1, 2]


def test_a_file_that_is_not_there_is_an_error(tmp_path) -> None:
    with pytest.raises(FileNotFoundError):
        read_journal(tmp_path)


def test_a_path_without_a_journal_says_where_there_is_one(tmp_path) -> None:
    (tmp_path / "out").mkdir()
    write(tmp_path / "out", (RunInfo(id="1"), [Snapshot(1)], "finished"))
    with pytest.raises(NoJournalError, match=r"there is no .*nowhere\. Pass a journal"):
        read_journal(tmp_path / "nowhere")
    with pytest.raises(NoJournalError, match=r"There are journals in .*out\."):
        read_journal(tmp_path)
