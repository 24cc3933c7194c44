"""Which window a thread reports to."""

from __future__ import annotations

import threading
from contextlib import ExitStack

from mtask_sinks import MetricRegistry


def value_of(registry: MetricRegistry, phase: str) -> float | None:
    return registry.snapshot(step=1, phase=phase).metrics.get("x")


def test_a_phase_holds_for_the_thread_that_enters_it() -> None:
    registry = MetricRegistry()
    entered, reported = threading.Event(), threading.Event()

    def probe() -> None:
        with registry.phase("probe"):
            entered.set()
            reported.wait(60)
            registry.report_metrics(x=100.0)

    thread = threading.Thread(target=probe)
    thread.start()
    entered.wait(60)
    registry.report_metrics(x=1.0)  # while the other thread is inside its phase
    reported.set()
    thread.join()
    registry.report_metrics(x=3.0)
    assert (value_of(registry, "train"), value_of(registry, "probe")) == (2.0, 100.0)


def test_a_thread_that_entered_no_phase_reports_to_that_of_the_training() -> None:
    """nn.DataParallel's threads do."""
    registry = MetricRegistry()
    with registry.phase("eval"):
        thread = threading.Thread(target=registry.report_metrics, kwargs={"x": 5.0})
        thread.start()
        thread.join()
    assert (value_of(registry, "train"), value_of(registry, "eval")) == (None, 5.0)


def test_the_thread_that_runs_the_training_may_be_any() -> None:
    registry = MetricRegistry()
    seen = []

    def train() -> None:
        with registry.activate(), registry.phase("eval"):
            worker = threading.Thread(target=registry.report_metrics, kwargs={"x": 7.0})
            worker.start()
            worker.join()
        seen.append(value_of(registry, "eval"))

    with registry.phase("outside"):
        thread = threading.Thread(target=train)
        thread.start()
        thread.join()
        registry.report_metrics(x=1.0)
    assert seen == [7.0]
    assert value_of(registry, "outside") == 1.0


def test_threads_that_activate_a_registry_may_end_in_any_order() -> None:
    registry = MetricRegistry()
    first_is_in, second_is_in, first_is_out = threading.Event(), threading.Event(), threading.Event()

    def first() -> None:
        with registry.activate():
            first_is_in.set()
            assert second_is_in.wait(60)
        first_is_out.set()

    def second() -> None:
        assert first_is_in.wait(60)
        with registry.activate():
            second_is_in.set()
            assert first_is_out.wait(60)

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with registry.phase("eval"):
        worker = threading.Thread(target=registry.report_metrics, kwargs={"x": 5.0})
        worker.start()
        worker.join()
    assert (value_of(registry, "train"), value_of(registry, "eval")) == (None, 5.0)


def test_phases_that_end_in_another_order_than_they_began_are_right() -> None:
    registry = MetricRegistry()
    first, second = ExitStack(), ExitStack()
    first.enter_context(registry.phase("a"))
    second.enter_context(registry.phase("b"))
    first.close()
    registry.report_metrics(x=2.0)
    second.close()
    registry.report_metrics(x=1.0)
    assert [value_of(registry, phase) for phase in ("train", "a", "b")] == [1.0, None, 2.0]


def test_the_same_phase_entered_twice_is_left_twice() -> None:
    registry = MetricRegistry()
    with registry.phase("a"):
        with registry.phase("b"), registry.phase("a"):
            registry.report_metrics(x=1.0)
        registry.report_metrics(x=3.0)
    registry.report_metrics(x=9.0)
    assert [value_of(registry, phase) for phase in ("train", "a", "b")] == [9.0, 2.0, None]


def test_many_threads_in_phases_of_their_own_lose_nothing() -> None:
    registry = MetricRegistry({"x": "sum"})

    def work(number: int) -> None:
        for _ in range(300):
            with registry.phase(f"p{number}"):
                registry.report_metrics(x=float(number))

    threads = [threading.Thread(target=work, args=[number]) for number in range(1, 6)]
    for thread in threads:
        thread.start()
    for _ in range(300):
        registry.report_metrics(x=1.0)
    for thread in threads:
        thread.join()
    assert value_of(registry, "train") == 300.0
    assert [value_of(registry, f"p{number}") for number in range(1, 6)] == [300.0 * n for n in range(1, 6)]
