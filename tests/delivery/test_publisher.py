from __future__ import annotations

import math
import signal
import threading
import time
from pathlib import Path

import fsspec
import pytest
from helpers.disk import small_disk
from helpers.faulty import wait_for

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.analysis.counted import read_trainings
from mtask_sinks.analysis.merge import merge
from mtask_sinks.delivery import publisher
from mtask_sinks.delivery.pipeline import Delivery
from mtask_sinks.journal.stream import JournalStream
from mtask_sinks.sinks import MemorySink


@pytest.fixture(autouse=True)
def _empty_memory() -> None:
    fsspec.filesystem("memory").store.clear()


def deliver(directory: Path, url: str, run: RunInfo, *steps: int, seconds: float = 30.0) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    delivery = Delivery([MemorySink()], seconds, url)
    delivery.open(RunInfo(id=run.id, name=run.name, step=run.step, output_dir=str(directory)))
    for step in steps:
        delivery.write(Snapshot(step, metrics={"a/loss": 10.0 * step}))
    delivery.close("finished")
    return directory / "metrics.jsonl"


def copying() -> set[threading.Thread]:
    """Return the threads that copy journals."""
    return {thread for thread in threading.enumerate() if thread.name == "mtask-sinks-publish"}


@pytest.mark.parametrize("scheme", ["file", "memory"])
def test_the_whole_journal_is_there_at_the_end(tmp_path, scheme) -> None:
    url = f"file://{tmp_path}/there/run" if scheme == "file" else "memory://there/run"
    path = deliver(tmp_path / "out", url, RunInfo(id="1"), 2, 4)
    with fsspec.open(f"{url}/metrics.jsonl", "rb") as copy:
        assert copy.read() == path.read_bytes()
    path = deliver(tmp_path / "out", url, RunInfo(id="2", step=4), 6)  # goes on in the same directory
    with fsspec.open(f"{url}/metrics.jsonl", "rb") as copy:
        assert copy.read() == path.read_bytes()


def test_a_trainer_copies_its_journal(tmp_path) -> None:
    from helpers.toy import Toy, arguments, numbers

    from mtask_sinks import HfMultiTaskTrainer, SinkArguments

    sink_args = SinkArguments(journal_publish=f"file://{tmp_path}/there")
    args = arguments(tmp_path / "out", run_name="r")
    HfMultiTaskTrainer(Toy(), args, train_dataset=numbers(1, 2), sink_args=sink_args).train()
    assert [training.name for training in read_trainings(tmp_path / "there")] == ["r"]


def test_a_training_that_changed_machines_has_its_journals_beside_each_other(tmp_path) -> None:
    url = f"file://{tmp_path}/there"
    deliver(tmp_path / "node-1", url, RunInfo(id="1", name="r"), 2, 4)
    deliver(tmp_path / "node-2", url, RunInfo(id="2", name="r", step=4), 6)
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == ["metrics-2.jsonl", "metrics.jsonl"]
    merge([tmp_path / "there"], tmp_path / "joined.jsonl")
    (training,) = read_trainings(tmp_path / "joined.jsonl")
    assert ([*training.steps], training.resumed_at) == ([2, 4, 6], (4,))


def test_it_is_copied_now_and_then(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(publisher, "_EVERY_SECONDS", 0.02)
    delivery = Delivery([MemorySink()], 30.0, "memory://often")
    delivery.open(RunInfo(id="1", output_dir=str(tmp_path)))
    delivery.write(Snapshot(1, metrics={"a/loss": 1.0}))
    memory = fsspec.filesystem("memory")

    def is_copied() -> bool:
        return memory.exists("/often/metrics.jsonl") and memory.cat("/often/metrics.jsonl").count(b"\n") == 2

    wait_for(is_copied, "the copy")
    delivery.close("finished")
    assert memory.cat("/often/metrics.jsonl") == (tmp_path / "metrics.jsonl").read_bytes()


def test_what_fails_is_tried_again(tmp_path, monkeypatch, caplog) -> None:
    failures = iter([OSError("no route"), OSError("no route")])
    copy = publisher.Publisher._copy

    def fail_twice(self: publisher.Publisher) -> None:
        if (error := next(failures, None)) is not None:
            raise error
        copy(self)

    monkeypatch.setattr(publisher.Publisher, "_copy", fail_twice)
    monkeypatch.setattr(publisher, "_FIRST_WAIT", 0.01)
    path = deliver(tmp_path / "out", "memory://again", RunInfo(id="1"), 2)
    assert fsspec.filesystem("memory").cat("/again/metrics.jsonl") == path.read_bytes()
    assert [m for m in caplog.messages if "journal" in m] == [
        "the journal cannot be copied to memory://again (OSError: no route). Training goes on, and other tries follow."
    ]


def test_an_error_that_is_no_exception_does_not_end_the_copies(tmp_path, monkeypatch, caplog) -> None:
    """A file system written in Rust may panic: that error is a `BaseException`, as `SystemExit` is."""
    copy, errors = publisher.Publisher._copy, [SystemExit("panic")]

    def fail_once(self: publisher.Publisher) -> None:
        if errors:
            raise errors.pop()
        copy(self)

    monkeypatch.setattr(publisher.Publisher, "_copy", fail_once)
    monkeypatch.setattr(publisher, "_FIRST_WAIT", 0.01)
    path = deliver(tmp_path / "out", "memory://panic", RunInfo(id="1"), 2, seconds=10.0)
    assert fsspec.filesystem("memory").cat("/panic/metrics.jsonl") == path.read_bytes()
    assert [message for message in caplog.messages if "was not copied" in message] == []
    assert "the journal cannot be copied to memory://panic (SystemExit: panic)." in caplog.text


@pytest.mark.parametrize(("seconds", "limit"), [(3599.7, "up to 3600 s "), (math.inf, "")])
def test_a_long_wait_for_the_last_copy_is_told(tmp_path, monkeypatch, caplog, seconds, limit) -> None:
    monkeypatch.setattr("mtask_sinks.delivery.last_wait._QUIET_SECONDS", 0.01)
    is_told = threading.Event()
    monkeypatch.setattr(publisher.Publisher, "_copy", lambda self: is_told.wait(100))
    published = publisher.Publisher(JournalStream(tmp_path / "metrics.jsonl"), "memory://slow")
    published.start()
    published.finish()
    waits = threading.Thread(target=published.wait, args=(seconds,))
    waits.start()
    wait_for(lambda: "waits" in caplog.text, "the message")
    is_told.set()
    waits.join(100)
    assert caplog.messages == [
        f"the training has ended and waits {limit}for the copy of its journal to memory://slow. Ctrl-C ends the wait."
    ]


def test_a_long_outage_does_not_delay_the_tries_at_the_end(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(publisher, "_EVERY_SECONDS", 0.01)
    monkeypatch.setattr(publisher, "_FIRST_WAIT", 100.0)  # as if it had failed for long
    failures, seen = iter([OSError("no route"), OSError("no route")]), threading.Event()
    copy = publisher.Publisher._copy

    def fail_twice(self: publisher.Publisher) -> None:
        if (error := next(failures, None)) is not None:
            seen.set()
            raise error
        copy(self)

    monkeypatch.setattr(publisher.Publisher, "_copy", fail_twice)
    delivery = Delivery([], 60.0, "memory://outage")
    delivery.open(RunInfo(id="1", output_dir=str(tmp_path)))
    delivery.write(Snapshot(1, metrics={"a/loss": 1.0}))
    assert seen.wait(100)
    monkeypatch.setattr(publisher, "_FIRST_WAIT", 0.01)
    delivery.close("finished")
    assert fsspec.filesystem("memory").cat("/outage/metrics.jsonl") == (tmp_path / "metrics.jsonl").read_bytes()


def test_a_full_disk_keeps_the_earlier_copy(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(publisher, "_FIRST_WAIT", 0.05)
    monkeypatch.setattr(publisher, "_LONGEST_WAIT", 0.05)
    before_this_test = copying()
    with small_disk(tmp_path / "mounted") as disk:
        url = f"file://{disk.path}/run"
        path = deliver(tmp_path / "out", url, RunInfo(id="1"), 2, 4)
        before = path.read_bytes()
        disk.fill()
        path = deliver(tmp_path / "out", url, RunInfo(id="2", step=4), *range(6, 400), seconds=1.0)
        assert (disk.path / "run" / "metrics.jsonl").read_bytes() == before
        disk.free()
        wait_for(lambda: copying() <= before_this_test, "the copy that the disk did not accept before")
        path = deliver(tmp_path / "out", url, RunInfo(id="3", step=400), 401)
        assert (disk.path / "run" / "metrics.jsonl").read_bytes() == path.read_bytes()
        assert [each.name for each in (disk.path / "run").iterdir()] == ["metrics.jsonl"]


def test_what_was_not_copied_in_time_is_named(tmp_path, monkeypatch, caplog) -> None:
    monkeypatch.setattr(publisher, "_EVERY_SECONDS", 0.05)
    (tmp_path / "in-the-way").write_text("")
    path = tmp_path / "out" / "metrics.jsonl"
    delivery = Delivery([MemorySink()], 0.3, f"file://{tmp_path}/in-the-way/run")
    delivery.open(RunInfo(id="1", output_dir=str(path.parent)))
    delivery.write(Snapshot(2, metrics={"a/loss": 20.0}))
    wait_for(lambda: "cannot be copied" in caplog.text, "the first try")
    delivery.close("finished")
    (message,) = [m for m in caplog.messages if "was not copied" in m]
    assert message.startswith(f"the journal {path} was not copied to file://{tmp_path}/in-the-way/run before")
    assert "NotADirectoryError" in message or "FileExistsError" in message


def test_a_url_without_a_scheme_is_refused() -> None:
    with pytest.raises(ValueError, match=r"journal_publish='bucket/run' has no scheme: pass a URL, such as s3://"):
        Delivery([], publish="bucket/run")


def test_a_missing_package_is_named_with_the_extra(monkeypatch) -> None:
    monkeypatch.setattr(publisher, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"fsspec, which is not installed. Run: pip install 'mtask-sinks\[publish\]'"):
        Delivery([], publish="memory://x")


@pytest.mark.parametrize("output_dir", ["s3://bucket/run", "gs:/bucket/run"])
def test_an_output_directory_in_an_object_store_is_one_warning(tmp_path, monkeypatch, caplog, output_dir) -> None:
    monkeypatch.chdir(tmp_path)
    delivery = Delivery([MemorySink()])
    for step in (1, 2):
        delivery.open(RunInfo(id="1", step=step, output_dir=output_dir))
        delivery.write(Snapshot(step, metrics={"a/loss": 1.0}))
    delivery.close("finished")
    (message,) = [m for m in caplog.messages if "object store" in m]
    scheme = output_dir[:2]
    assert message == (
        f"output_dir={output_dir} looks like a place in an object store, but the Trainer and the journal write to the "
        f"local directory {tmp_path}/{scheme}:/bucket/run. Choose a local directory, and let "
        f"SinkArguments(journal_publish='{scheme}://bucket/run') copy the journal."
    )


def test_a_journal_without_a_line_replaces_no_copy(tmp_path) -> None:
    url = f"file://{tmp_path}/there"
    deliver(tmp_path / "node-1", url, RunInfo(id="1"), 2, 4)
    copy = (tmp_path / "there" / "metrics.jsonl").read_bytes()
    empty = tmp_path / "node-2" / "metrics.jsonl"
    empty.parent.mkdir()
    empty.touch()  # as a full disk leaves it
    published = publisher.Publisher(JournalStream(empty), url)
    published.start()
    published.finish()
    published.wait(100)
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["metrics.jsonl"]
    assert (tmp_path / "there" / "metrics.jsonl").read_bytes() == copy


def test_a_journal_that_was_removed_and_begun_again_does_not_replace_its_copy(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(publisher, "_EVERY_SECONDS", 0.05)
    there, out = tmp_path / "there", tmp_path / "out"
    delivery = Delivery([MemorySink()], 30.0, f"file://{there}")
    delivery.open(RunInfo(id="1", output_dir=str(out)))
    for step in range(1, 21):
        delivery.write(Snapshot(step, metrics={"a/loss": 1.0}))
    whole = (out / "metrics.jsonl").read_bytes()
    copy = there / "metrics.jsonl"
    wait_for(lambda: copy.exists() and copy.read_bytes() == whole, "the copy")
    (out / "metrics.jsonl").unlink()
    delivery.write(Snapshot(21, metrics={"a/loss": 1.0}))
    delivery.close("finished")
    assert (there / "metrics.jsonl").read_bytes() == whole
    assert (there / "metrics-2.jsonl").read_bytes() == (out / "metrics.jsonl").read_bytes()


def test_a_copy_that_has_more_than_this_machine_stays(tmp_path) -> None:
    url = f"file://{tmp_path}/there"
    first = deliver(tmp_path / "node-1", url, RunInfo(id="1", name="r"), 1, 2, 3, 4, 5)
    whole = first.read_bytes()
    second = tmp_path / "node-2" / "metrics.jsonl"  # copied beside the checkpoint of step 3, before the end
    second.parent.mkdir()
    second.write_bytes(b"".join(whole.splitlines(keepends=True)[:4]))
    deliver(second.parent, url, RunInfo(id="2", name="r", step=3), 4)
    assert (tmp_path / "there" / "metrics.jsonl").read_bytes() == whole
    assert (tmp_path / "there" / "metrics-2.jsonl").read_bytes() == second.read_bytes()
    merge([tmp_path / "there"], tmp_path / "joined.jsonl")
    (training,) = read_trainings(tmp_path / "joined.jsonl")
    assert ([*training.steps], training.resumed_at) == ([1, 2, 3, 4], (3,))


def test_ctrl_c_ends_the_wait_for_the_copy_alone(tmp_path, monkeypatch, caplog) -> None:
    class Slow(publisher.Publisher):
        def _copy(self) -> None:
            assert is_awaited.wait(100)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            is_over.wait(100)

    is_awaited, is_over = threading.Event(), threading.Event()
    wait = publisher.wait_for
    monkeypatch.setattr(publisher, "wait_for", lambda *arguments: is_awaited.set() or wait(*arguments))
    published = Slow(JournalStream(tmp_path / "metrics.jsonl"), f"file://{tmp_path}/there")
    published.start()
    published.finish()
    published.wait(100)
    is_over.set()
    assert "was not copied to" in caplog.text


def test_an_outage_just_after_the_journal_was_removed_and_begun_again_is_tried_again(tmp_path, monkeypatch) -> None:
    there, out = tmp_path / "there", tmp_path / "out"
    whole = deliver(out, f"file://{there}", RunInfo(id="1"), *range(1, 21)).read_bytes()
    published = publisher.Publisher(JournalStream(out / "metrics.jsonl"), f"file://{there}")
    published._copy()
    (out / "metrics.jsonl").write_bytes(b"".join(whole.splitlines(keepends=True)[:2]))
    with monkeypatch.context() as away:
        away.setattr("fsspec.implementations.local.LocalFileSystem.makedirs", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            published._copy()
    published._copy()
    assert (there / "metrics.jsonl").read_bytes() == whole
    assert (there / "metrics-2.jsonl").read_bytes() == (out / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize(("seconds", "is_copied"), [(60.0, True), (0.2, False)])
def test_the_end_of_a_training_waits_for_the_copy_as_long_as_for_the_sinks(
    tmp_path, monkeypatch, caplog, seconds: float, is_copied: bool
) -> None:
    before, released, copy = copying(), threading.Event(), publisher.Publisher._copy

    def copy_late(self: publisher.Publisher) -> None:
        released.wait(60.0)
        copy(self)

    monkeypatch.setattr(publisher.Publisher, "_copy", copy_late)
    timer = threading.Timer(1.0 if is_copied else 30.0, released.set)
    timer.start()
    delivery = Delivery([MemorySink()], 60.0, f"file://{tmp_path}/there")
    delivery.open(RunInfo(id="1", output_dir=str(tmp_path / "out")))
    delivery.write(Snapshot(1, metrics={"a/loss": 1.0}))
    begun = time.monotonic()
    delivery.close("finished", seconds)
    assert time.monotonic() - begun < 20.0
    assert (tmp_path / "there" / "metrics.jsonl").exists() == is_copied
    assert ("was not copied" in caplog.text) == (not is_copied)
    timer.cancel()
    released.set()
    wait_for(lambda: not copying() - before, "the end of the copy")
