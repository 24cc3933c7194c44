"""Several trainers have the same sink object: each run gets its own values, one call at a time."""

from __future__ import annotations

import gc
import itertools
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from helpers.event_files import read_scalars
from helpers.faulty import wait_for
from mlflow import MlflowClient

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.delivery import shared_sink
from mtask_sinks.delivery.pipeline import Delivery
from mtask_sinks.delivery.shared_sink import SharedSink
from mtask_sinks.sinks import MemorySink, MLflowSink, Sink, TensorBoardSink

pytestmark = pytest.mark.usefixtures("impatient")


class Tracker(Sink):
    """A backend with one open run: a value goes to the run that is open."""

    name = "tracker"

    def __init__(self, *, is_up: bool = True) -> None:
        self.is_up = is_up
        self.runs: dict[str, list[tuple[int, float]]] = {}
        self.ended: list[tuple[str, str]] = []
        self.open_run: str | None = None
        self.at_once = self.opened_while_open = 0
        self._call = threading.Lock()

    def open(self, run: RunInfo) -> None:
        if not self.is_up:
            raise ConnectionError("down")
        self.opened_while_open += self.open_run is not None
        self.open_run = run.id
        self.runs.setdefault(run.id, [])

    def write(self, snapshot: Snapshot) -> None:
        is_alone = self._call.acquire(blocking=False)
        self.at_once += not is_alone
        assert self.open_run is not None
        self.runs[self.open_run].append((snapshot.step, snapshot.metrics["a/x"]))
        if is_alone:
            self._call.release()

    def close(self, status: Any) -> None:
        self.ended.append((str(self.open_run), status))
        self.open_run = None

    def target(self) -> str | None:
        return self.open_run


def begun(sink: Sink, run: str, directory: Path, **facts: Any) -> Delivery:
    delivery = Delivery([sink])
    delivery.open(RunInfo(id=run, name=run, output_dir=str(directory / run), **facts))
    return delivery


def report(delivery: Delivery, step: int, value: float, phase: str = "train") -> None:
    delivery.write(Snapshot(step, phase, {"a/x": value}, time=value))


def test_trainers_that_evaluate_in_turn_write_to_their_own_runs(tmp_path) -> None:
    sink = Tracker()
    first, second = begun(sink, "1", tmp_path), begun(sink, "2", tmp_path)
    for step in (1, 2, 3):
        for delivery, factor in ((first, 1.0), (second, 100.0)):
            report(delivery, step, factor * step, "eval")
            delivery.flush()
    first.close("failed")
    second.close("finished")
    assert sink.runs == {"1": [(1, 1.0), (2, 2.0), (3, 3.0)], "2": [(1, 100.0), (2, 200.0), (3, 300.0)]}
    assert dict(sink.ended) == {"1": "failed", "2": "finished"}


def test_what_an_outage_has_left_of_one_training_goes_to_its_run_while_the_next_one_writes(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr("mtask_sinks.delivery.worker._LONGEST_WAIT", 0.05)
    sink = Tracker(is_up=False)
    first = begun(sink, "1", tmp_path)
    for step in range(100):
        report(first, step, 1.0)
    first.close("finished", 0.5)
    second = begun(sink, "2", tmp_path)
    report(second, 0, 2.0)
    sink.is_up = True
    steps = itertools.count(1)
    while not first.counts["tracker"].delivered:
        report(second, next(steps), 2.0)
        time.sleep(0.001)
    last = next(steps) + 50
    for step in range(last - 50, last):
        report(second, step, 2.0)
    second.close("finished")
    wait_for(lambda: first.counts["tracker"].pending == 0, "the rest of the first training")
    wait_for(lambda: second.counts["tracker"].pending == 0, "the rest of the second training")
    assert sink.runs == {"1": [(step, 1.0) for step in range(100)], "2": [(step, 2.0) for step in range(last)]}
    assert (sink.at_once, sink.opened_while_open) == (0, 0)


@pytest.mark.parametrize("is_training", [True, False])
def test_backends_get_one_run_per_training(is_training, tmp_path) -> None:
    uri = f"sqlite:///{tmp_path}/store.db"
    for sink in (MLflowSink(uri), TensorBoardSink()):
        first, second = (begun(sink, run, tmp_path / sink.name, is_training=is_training) for run in "ab")
        for step in (1, 2):
            for delivery, factor in ((first, 1.0), (second, 100.0)):
                report(delivery, step, factor * step, "eval")
                delivery.flush()
                wait_for(lambda: delivery.counts[sink.name].pending == 0, "the evaluation")  # noqa: B023
        for delivery in (first, second):
            delivery.close("finished")
            wait_for(lambda: not delivery._workers[0].is_alive(), "the end")  # noqa: B023
    expected = {"a": [(1, 1.0), (2, 2.0)], "b": [(1, 100.0), (2, 200.0)]}
    client = MlflowClient(uri)
    runs = {run.info.run_name: run for run in client.search_runs(["0"])}
    histories = {name: client.get_metric_history(run.info.run_id, "a/eval/x") for name, run in runs.items()}
    assert {name: [(each.step, each.value) for each in found] for name, found in histories.items()} == expected
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    boards = {name: tmp_path / "tensorboard" / name / "runs" / name for name in expected}
    assert {name: read_scalars(board)["a/eval/x"] for name, board in boards.items()} == expected


def test_nothing_stays_of_a_sink_that_nobody_has_and_a_forked_process_has_its_own_lock() -> None:
    sink = MemorySink()
    own = SharedSink.of(sink)
    with own.lock:
        child = os.fork()
        if not child:
            os._exit(SharedSink.of(sink) is own)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    before = len(shared_sink._shared)
    del sink
    gc.collect()
    assert len(shared_sink._shared) < before
