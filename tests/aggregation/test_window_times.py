"""What derived metrics know about the row and its time."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack, nullcontext

import pytest

from mtask_sinks import MetricRegistry, Snapshot
from mtask_sinks.aggregation import window_times
from mtask_sinks.testing.simulated_ranks import Job

RATES = {
    "a/steps": lambda m: m["window.steps"],
    "a/rate": lambda m: m["a/n"] / m["window.seconds"],
    "a/part": lambda m: m["a/loss"] / m["loss"],
    "a/lr": lambda m: m["learning_rate"],
    "a/mine": lambda m: m["mine"],
    "all/n": lambda m: sum(value for name, value in m.items() if name.endswith("/n")),
}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(window_times.time, "perf_counter", lambda: now[0])
    return now


def reported(registry: MetricRegistry, step: int, **logs: float) -> Snapshot:
    registry.report_metrics("a", n=60, loss=1.0)
    registry.tick()
    return registry.snapshot(step, logs=logs)


def test_rows_and_times_are_inputs_of_derived_metrics(clock) -> None:
    registry = MetricRegistry({"*/n": "sum"}, RATES)
    clock[0] += 5.0
    found = reported(registry, 10, loss=4.0, learning_rate=0.5, mine=7.0, note="text")
    assert dict(found.metrics) == {
        "a/n": 60.0, "a/loss": 1.0, "a/steps": 10.0, "a/rate": 12.0, "a/part": 0.25, "a/lr": 0.5, "a/mine": 7.0,
        "all/n": 60.0,
    }  # fmt: skip
    assert found.counts["a/part"] == 1  # that of the metric, not of the row
    # A row without these values has no such metric, and that is no mistake.
    clock[0] += 3.0
    found = reported(registry, 14)
    assert dict(found.metrics) == {
        "a/n": 60.0, "a/loss": 1.0, "a/steps": 4.0, "a/rate": 20.0, "all/n": 60.0
    }  # fmt: skip


def test_the_time_of_an_evaluation_counts_for_it_alone(clock) -> None:
    registry = MetricRegistry({"*/n": "sum"}, RATES)
    clock[0] += 5.0
    with registry.phase("eval_books"):
        registry.discard("eval_books")
        clock[0] += 20.0
        registry.report_metrics("a", n=60, loss=1.0)
        registry.tick()
        registry.tick()
        found = registry.snapshot(10, "eval_books", logs={"eval_books_loss": 8.0, "loss": 5.0, "epoch": 1.0})
        clock[0] += 1.0
    assert found.metrics["a/rate"] == 3.0
    assert found.metrics["a/steps"] == 2  # batches
    assert found.metrics["a/part"] == 0.125
    clock[0] += 1.0
    assert reported(registry, 10).metrics["a/rate"] == 10.0  # of 6 seconds


def test_the_time_of_phases_that_end_in_another_order_than_they_began_is_right(clock) -> None:
    """As in two coroutines, or in a generator that is not exhausted."""
    registry = MetricRegistry(derived={"a/seconds": lambda m: m["window.seconds"]})
    first, second = ExitStack(), ExitStack()
    clock[0] += 1.0  # of the training
    first.enter_context(registry.phase("one"))
    clock[0] += 2.0
    second.enter_context(registry.phase("two"))
    clock[0] += 4.0
    first.close()
    clock[0] += 8.0  # still inside of the second phase
    second.close()
    clock[0] += 16.0
    found = {}
    for phase in ("train", "one", "two"):
        with registry.phase(phase):
            registry.report_metrics("a", loss=1.0)
        found[phase] = registry.snapshot(1, phase).metrics["a/seconds"]
    assert found == {"train": 17.0, "one": 2.0, "two": 12.0}


def test_times_go_on_after_a_resume(clock) -> None:
    registry = MetricRegistry({"*/n": "sum"}, RATES)
    clock[0] += 5.0
    reported(registry, 10)
    clock[0] += 2.0
    registry.report_metrics("a", n=60, loss=1.0)
    saved = json.loads(json.dumps(registry.state_dict()))
    clock[0] += 1000.0
    other = MetricRegistry({"*/n": "sum"}, RATES)
    other.load_state_dict(saved)
    clock[0] += 4.0
    found = reported(other, 16)
    assert (found.metrics["a/rate"], found.metrics["a/steps"]) == (20.0, 6)
    overall = other.overall(16, logs={"train_loss": 2.0, "train_runtime": 11.0})
    assert (overall.metrics["a/n"], overall.metrics["a/rate"], overall.metrics["a/steps"]) == (180.0, 180 / 11, 16)
    assert overall.metrics["a/part"] == 0.5


def test_the_steps_of_a_phase_go_on_after_a_resume() -> None:
    def report(registry: MetricRegistry, micro_batches: int) -> None:
        for _ in range(micro_batches):
            with registry.phase("rollout"):
                registry.report_metrics("a", n=1, loss=1.0)
            registry.tick()

    registry, other = (MetricRegistry({"*/n": "sum"}, RATES) for _ in range(2))
    report(registry, 3)
    registry.snapshot(1, "rollout")
    report(registry, 2)
    with registry.own_ticks():
        registry.tick()
    other.load_state_dict(json.loads(json.dumps(registry.state_dict("rollout"))), "rollout")
    report(other, 4)
    assert other.snapshot(2, "rollout").metrics["a/steps"] == 6


@pytest.mark.parametrize(("given", "steps"), [({"step": 15}, 5), ({}, 10)])
def test_a_discarded_window_ends_at_the_step_that_the_caller_names(clock, given, steps) -> None:
    """Its steps are optimizer steps, as many micro-batches as each may have."""
    registry = MetricRegistry({"*/n": "sum"}, RATES)
    clock[0] += 1.0
    reported(registry, 10)
    for _ in range(40):
        registry.tick()
    clock[0] += 9.0
    registry.discard(**given)
    clock[0] += 3.0
    found = reported(registry, 20)
    assert (found.metrics["a/rate"], found.metrics["a/steps"]) == (20.0, steps)


def test_without_any_time_there_is_no_rate(clock) -> None:
    assert "a/rate" not in reported(MetricRegistry({"*/n": "sum"}, RATES), 1).metrics


@pytest.mark.parametrize(("given", "steps"), [({"step": 50}, 10), ({}, 60)])
def test_a_training_of_some_steps_before_begins_at_them(given, steps) -> None:
    registry = MetricRegistry(derived=RATES)
    registry.load_state_dict({}, **given)
    time.sleep(0.001)
    assert reported(registry, 60).metrics["a/steps"] == steps


def test_the_steps_of_an_evaluation_in_a_loop_of_ones_own_are_its_batches_alone() -> None:
    registry = MetricRegistry(derived=RATES)
    found = []
    for batches in (3, 2):
        for _ in range(7):
            registry.report_metrics("a", loss=1.0)
            registry.tick()
        with registry.phase("eval"):
            for _ in range(batches):
                registry.report_metrics("a", loss=1.0)
                registry.tick()
            found.append(registry.snapshot(7, "eval").metrics["a/steps"])
    assert found == [3.0, 2.0]


def test_a_phase_of_the_training_goes_on_with_its_time_after_a_resume(clock) -> None:
    first, second = (MetricRegistry({"*/n": "sum"}, RATES) for _ in range(2))
    with first.phase("rollout"):
        clock[0] += 9.0
        first.report_metrics("a", n=60)
    saved = json.loads(json.dumps(first.state_dict("rollout")))
    second.load_state_dict(saved, "rollout")
    with second.phase("rollout"):
        clock[0] += 3.0
        second.report_metrics("a", n=60)
    assert second.snapshot(1, "rollout").metrics["a/rate"] == 120 / 12


def test_all_ranks_have_the_same_number_of_steps() -> None:
    """Rank 0 evaluates 3 batches, and rank 1 only 1. Rank 1 alone is in the other phase, for 2 micro-batches."""

    def run(ranks):
        registry = MetricRegistry(derived={"a/steps": lambda m: m["window.steps"]}, process_group=ranks)
        with registry.phase("eval"):
            for _ in range(3 if ranks.rank == 0 else 1):
                registry.report_metrics("a", n=1)
                registry.tick()
        evaluation = registry.snapshot(step=2, phase="eval")
        for _ in range(2):
            with registry.phase("rollout") if ranks.rank else nullcontext():
                registry.report_metrics("a", n=1)
            registry.tick()
        rollout, training = registry.snapshot(step=2, phase="rollout"), registry.snapshot(step=2)
        return [each.metrics["a/steps"] for each in (evaluation, rollout, training)]

    assert Job(2).run(run) == [[2.0, 2.0, 2.0]] * 2


def test_the_steps_of_a_phase_go_on_after_a_resume_even_if_the_first_rank_was_never_in_it() -> None:
    """Rank 1 alone is in the phase: in 2 micro-batches before the checkpoint, and in 1 after it."""

    def new(ranks):
        return MetricRegistry(derived={"a/steps": lambda m: m["window.steps"]}, process_group=ranks)

    def work(registry, rank, batches):
        for _ in range(batches):
            with registry.phase("rollout") if rank else nullcontext():
                registry.report_metrics("a", n=1)
            registry.tick()

    def save(ranks):
        registry = new(ranks)
        for _ in range(5):
            registry.tick()
        work(registry, ranks.rank, 2)
        return registry.state_dict("rollout")

    state = json.loads(json.dumps(Job(2).run(save)[0]))

    def resume(ranks):
        registry = new(ranks)
        registry.load_state_dict(state, "rollout")
        work(registry, ranks.rank, 1)
        return registry.snapshot(step=3, phase="rollout").metrics["a/steps"]

    assert Job(2).run(resume) == [3.0, 3.0]
