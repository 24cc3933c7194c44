from __future__ import annotations

import logging
import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from helpers.toy import InOrder, Silent, arguments, numbers, rows
from torch.utils.data import DataLoader, Dataset

from mtask_sinks import HfMultiTaskTrainer, MetricRegistry, report_metrics
from mtask_sinks._util.warn_once import WarnOnce
from mtask_sinks.reporting import api, forked


def test_without_anybody_at_work_the_function_does_nothing() -> None:
    registry = MetricRegistry()
    with registry.activate():
        pass
    report_metrics("a b", x=object())  # an active registry would refuse this
    assert dict(registry.snapshot(step=1).metrics) == {}


class Reporting(Dataset):
    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> int:
        report_metrics("samples", n=1)
        return index


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no process is forked here")
def test_the_workers_of_all_epochs_say_once_that_nobody_gets_their_reports(monkeypatch, capfd) -> None:
    monkeypatch.setattr(api, "_warn_once", WarnOnce(logging.getLogger("mtask_sinks.reporting.api")))
    forked._is_said[0] = 0  # as in a process in which no worker has warned
    handler = logging.StreamHandler()  # the workers' messages go to the standard error that they share with us
    logging.getLogger("mtask_sinks").addHandler(handler)
    try:
        for _ in range(3):
            assert len([*DataLoader(Reporting(), num_workers=1, multiprocessing_context="fork")]) == 2
    finally:
        logging.getLogger("mtask_sinks").removeHandler(handler)
    assert capfd.readouterr().err.count(forked.WHY_LOST) == 1


def test_the_innermost_registry_gets_the_reports() -> None:
    outer, inner = MetricRegistry(), MetricRegistry()
    with outer.activate():
        report_metrics(x=1.0)
        with inner.activate():
            report_metrics(x=2.0)
        report_metrics(x=3.0)
    report_metrics(x=100.0)
    assert outer.snapshot(step=1).metrics["x"] == 2.0
    assert inner.snapshot(step=1).metrics["x"] == 2.0
    assert outer.snapshot(step=2).counts == {}


def test_an_exception_ends_the_activity() -> None:
    registry = MetricRegistry()
    with pytest.raises(RuntimeError), registry.activate():
        raise RuntimeError
    report_metrics(x=1.0)
    assert dict(registry.snapshot(step=1).metrics) == {}


# Two trainers in two threads.


class Ordered(InOrder, HfMultiTaskTrainer):
    pass


class ByFunction(Silent):
    def forward(self, x):
        loss = (self.weight * x).mean()
        report_metrics("a", loss=loss)
        return (loss,)


def train_in_threads(tmp_path, model: type[torch.nn.Module]) -> list[Ordered]:
    """Two trainers whose steps take turns: the second one begins first and ends last."""
    barrier = threading.Barrier(2, timeout=60)

    class InTurn(Ordered):
        def training_step(self, *args, **kwargs):
            barrier.wait()
            return super().training_step(*args, **kwargs)

    def make(name: str, *values: float) -> InTurn:
        return InTurn(model(), arguments(tmp_path / name), train_dataset=numbers(*values))

    trainers = [make("a", 1, 2), make("b", 10, 20)]
    threads = [threading.Thread(target=trainer.train) for trainer in trainers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return trainers


def test_two_trainers_in_two_threads_are_right_with_the_function_too(tmp_path, caplog) -> None:
    first, second = train_in_threads(tmp_path, ByFunction)
    assert rows(first, "a/loss") == [(2, 1.5)]
    assert rows(second, "a/loss") == [(2, 15.0)]
    assert not caplog.records


def test_a_thread_that_belongs_to_no_trainer_is_said_once_with_the_right_form(monkeypatch, caplog) -> None:
    monkeypatch.setattr(api, "_warn_once", WarnOnce(logging.getLogger("mtask_sinks.reporting.api")))
    begun, reported = threading.Barrier(3, timeout=60), threading.Event()
    registries = [MetricRegistry(), MetricRegistry()]

    def work(registry: MetricRegistry, value: float) -> None:
        with registry.activate():
            begun.wait()
            report_metrics(x=value)
            reported.wait(60)

    threads = [threading.Thread(target=work, args=pair) for pair in zip(registries, (1.0, 3.0), strict=True)]
    for thread in threads:
        thread.start()
    begun.wait()
    for _ in range(2):
        report_metrics(y=5.0)
    reported.set()
    for thread in threads:
        thread.join()
    found = [dict(registry.snapshot(step=1).metrics) for registry in registries]
    assert [metrics["x"] for metrics in found] == [1.0, 3.0]
    assert sum("y" in metrics for metrics in found) == 1  # the one that began last
    (message,) = [record.getMessage() for record in caplog.records]
    assert "self.report_metrics" in message
    assert "test_api.py" in message


def test_activities_that_end_in_another_order_than_they_began() -> None:
    first, second = MetricRegistry(), MetricRegistry()
    of_first, of_second = first.activate(), second.activate()
    of_first.__enter__()
    of_second.__enter__()
    of_first.__exit__(None, None, None)
    report_metrics(x=3.0)
    of_second.__exit__(None, None, None)
    assert second.snapshot(step=1).metrics["x"] == 3.0


def test_a_registry_that_is_active_twice_ends_its_inner_activity_first() -> None:
    outer, between = MetricRegistry(), MetricRegistry()
    with outer.activate(), between.activate():
        with outer.activate():
            report_metrics(x=1.0)
        report_metrics(x=2.0)
        with MetricRegistry().activate():
            pass
        report_metrics(x=2.0)
    assert (outer.snapshot(step=1).metrics, between.snapshot(step=1).metrics) == ({"x": 1.0}, {"x": 2.0})


def test_a_registry_that_is_active_in_two_threads_gets_the_reports_of_a_third_without_a_warning(caplog) -> None:
    registry = MetricRegistry()
    with registry.activate(), ThreadPoolExecutor(1) as other, ThreadPoolExecutor(1) as third:
        block = registry.activate()
        other.submit(block.__enter__).result()
        third.submit(report_metrics, x=2.0).result()
        other.submit(block.__exit__, None, None, None).result()
        assert registry.snapshot(step=1).metrics == {"x": 2.0}
    assert not caplog.records


def test_the_function_in_a_forward_without_a_trainer_says_nothing(caplog, monkeypatch) -> None:
    monkeypatch.setattr(api, "_warn_once", WarnOnce(logging.getLogger("mtask_sinks.reporting.api")))
    ByFunction()(torch.ones(1))
    assert not caplog.records
    report_metrics("a", loss=1.0)
    assert "the values are lost, because no trainer is training or evaluating now" in caplog.text
