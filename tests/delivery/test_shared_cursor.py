"""Two deliveries of one process to one journal: each snapshot arrives once, and the cursor passes none that waits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.failing_sinks import Hanging
from helpers.faulty import wait_for

from mtask_sinks import RunInfo, Sink, Snapshot
from mtask_sinks.delivery.cursor import cursor_path, load_cursor
from mtask_sinks.delivery.pipeline import Delivery
from mtask_sinks.delivery.replay import replay
from mtask_sinks.journal.stream import JournalStream
from mtask_sinks.sinks import MemorySink


class Store(Sink):
    """A sink of several trainers that write to one store, which is down until ``is_up``."""

    name = "store"

    def __init__(self, rows: list[tuple[str, int]]) -> None:
        self.rows = rows
        self.is_up = False
        self.run = ""

    def open(self, run: RunInfo) -> None:
        self._answer()
        self.run = run.id

    def write(self, snapshot: Snapshot) -> None:
        self._answer()
        self.rows.append((self.run, snapshot.step))

    def _answer(self) -> None:
        if not self.is_up:
            raise ConnectionError("down")

    def target(self) -> str:
        return f"place of {self.run}"


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    """Provide two deliveries, and let them deliver everything in the end, so that no worker lives on."""
    made = Two(tmp_path)
    yield made
    for name in made.deliveries:
        made.let_deliver(name)


class Two:
    """Deliveries ``a`` and ``b`` of two trainers with one output directory, and the steps that arrived."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "metrics.jsonl"
        self.rows: list[tuple[str, int]] = []
        self.sinks = {name: Store(self.rows) for name in ("a", "b")}
        self.deliveries = {name: Delivery([sink], drain_seconds=0.0) for name, sink in self.sinks.items()}

    def train(self, name: str, *steps: int) -> None:
        delivery = self.deliveries[name]
        delivery.open(RunInfo(id=name, output_dir=str(self.directory)))
        for step in steps:
            delivery.write(Snapshot(step=step, metrics={"x": float(step)}))
        delivery.close("finished")

    def let_deliver(self, name: str) -> None:
        self.sinks[name].is_up = True
        workers = self.deliveries[name]._workers
        wait_for(lambda: not any(each.is_alive() for each in workers), f"{name} to deliver and save its cursor")

    def end_of(self, name: str, step: int) -> int:
        """The offset before the line of a snapshot."""
        run, offset = "", 0
        for line in self.path.read_bytes().splitlines(keepends=True):
            run = next((each for each in "ab" if b'"id":"%s"' % each.encode() in line.replace(b" ", b"")), run)
            if b'"step":%d,' % step in line.replace(b" ", b"") and run == name and b'"x"' in line:
                return offset
            offset += len(line)
        raise AssertionError(f"no step {step} of {name}")

    def cursor(self) -> int:
        found = load_cursor(cursor_path(self.path, "store"), JournalStream(self.path).fingerprint)
        assert found is not None
        assert found.targets.items() <= {"a": "place of a", "b": "place of b"}.items()
        return found.offset


def test_each_snapshot_arrives_once_when_the_backend_is_back_after_both(two: Two) -> None:
    two.train("a", 1, 2)
    two.train("b", 1, 2, 3)
    assert {name: each.counts["store"].given for name, each in two.deliveries.items()} == {"a": 2, "b": 3}
    for name in ("b", "a"):
        two.let_deliver(name)
    two.train("a", 4)
    two.let_deliver("a")
    assert sorted(two.rows) == [("a", 1), ("a", 2), ("a", 4), ("b", 1), ("b", 2), ("b", 3)]


def test_the_cursor_passes_no_snapshot_that_waits(two: Two) -> None:
    """So a replay delivers them if the process is killed now."""
    two.train("a", 1, 2)
    two.train("b", 1, 2, 3)
    two.let_deliver("b")
    assert ("b", 3) in two.rows
    assert two.cursor() <= two.end_of("a", 1)
    two.let_deliver("a")
    two.train("b", 4)
    two.let_deliver("b")
    assert two.cursor() == two.path.stat().st_size
    # A trainer that continues after the other one: all lines before its own are delivered.
    two.sinks["a"].is_up = False
    two.train("a", 5)
    assert two.end_of("b", 4) < two.cursor() <= two.end_of("a", 5)
    sink = MemorySink()
    sink.name = "store"  # as another process does after a kill
    replay(two.directory, [sink])
    assert [snapshot.step for snapshot in sink.snapshots] == [5]


def test_a_cursor_of_another_journal_with_this_path_does_not_count(two: Two) -> None:
    two.train("a", 1, 2)
    two.path.unlink()
    two.train("b", 1)
    two.let_deliver("b")
    assert two.cursor() == two.path.stat().st_size


def test_the_cursor_waits_for_a_worker_whose_call_does_not_return(tmp_path: Path) -> None:
    rows: list[tuple[str, int]] = []
    hanging, good = Hanging(), Store(rows)
    hanging.name, good.is_up = "store", True
    hanging.released.set()
    deliveries = [Delivery([hanging], drain_seconds=0.2), Delivery([good])]
    path, steps = tmp_path / "metrics.jsonl", iter(range(1, 9))

    def write(delivery: Delivery, count: int) -> None:
        for _ in range(count):
            step = next(steps)
            delivery.write(Snapshot(step, metrics={"x": float(step)}))

    deliveries[0].open(RunInfo(id="a", output_dir=str(tmp_path)))
    write(deliveries[0], 1)
    (worker,) = deliveries[0]._workers
    wait_for(lambda: worker.is_done(deliveries[0]._journal.stream.end_position), "the first to save its cursor")
    hanging.released.clear()
    size = path.stat().st_size
    write(deliveries[0], 3)
    deliveries[0].close("finished")
    deliveries[1].open(RunInfo(id="b", output_dir=str(tmp_path)))
    write(deliveries[1], 2)
    deliveries[1].close("finished")
    assert rows == [("b", 5), ("b", 6)]
    cursor = load_cursor(cursor_path(path, "store"), JournalStream(path).fingerprint)
    assert cursor is not None and cursor.offset == size
    sink = MemorySink()
    sink.name = "store"
    replay(tmp_path, [sink])  # as another process does later
    assert [snapshot.step for snapshot in sink.snapshots] == [2, 3, 4, 5, 6]
    hanging.released.set()
    wait_for(lambda: not worker.is_alive(), "the first to end")


def test_a_worker_whose_journal_has_moved_leaves_the_cursor_of_the_first_file_alone(tmp_path: Path) -> None:
    rows: list[tuple[str, int]] = []
    sinks = [Store(rows), Store(rows)]
    first, second = (Delivery([sink]) for sink in sinks)
    for sink in sinks:
        sink.is_up = True

    def evaluate(delivery: Delivery, run: str, *steps: int) -> None:
        delivery.open(RunInfo(id=run, output_dir=str(tmp_path)))
        for step in steps:
            delivery.write(Snapshot(step, "eval", metrics={"x": 1.0}))
        delivery.flush()

    evaluate(first, "a", 1)
    evaluate(second, "b", 1)
    second.write(Snapshot(2, metrics={"x": 2.0}))  # it has locked the file now
    (worker,) = second._workers
    wait_for(lambda: worker.is_done(second._journal.stream.end_position), "the second to save its cursor")
    evaluate(first, "a", *range(2, 40))
    second.write(Snapshot(3, metrics={"x": 3.0}))
    wait_for(lambda: worker.is_done(second._journal.stream.end_position), "the second to save its cursor")
    path = tmp_path / "metrics.jsonl"
    cursor = load_cursor(cursor_path(path, "store"), JournalStream(path).fingerprint)
    assert cursor is not None and cursor.offset == path.stat().st_size
    second.close("finished")
    first.close("finished")
    assert sorted(path.name for path in tmp_path.glob("*.jsonl")) == ["metrics-2.jsonl", "metrics.jsonl"]
