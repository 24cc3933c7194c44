"""`first` and `last` of a window that is resumed, on any number of ranks before and after."""

from __future__ import annotations

import json

import pytest

from mtask_sinks import MetricRegistry
from mtask_sinks.testing.simulated_ranks import Job

RULES = {"*/first": "first", "*/last": "last"}


def save(size: int, reports, ticks: int) -> dict:
    """The window that `size` ranks save after a number of micro-batches, each of which reports."""

    def run(ranks):
        registry = MetricRegistry(RULES, process_group=ranks)
        for batch in range(max(ticks, 1)):
            for task, value in reports(batch, ranks.rank).items():
                registry.report_metrics(task, first=value, last=value)
            if ticks:
                registry.tick()
        return registry.state_dict()

    return json.loads(json.dumps(Job(size).run(run)[0]))


def resume(size: int, state: dict, reports, ticks: int) -> dict[str, float]:
    def run(ranks):
        registry = MetricRegistry(RULES, process_group=ranks)
        registry.load_state_dict(state)
        for batch in range(max(ticks, 1)):
            for task, value in reports(batch, ranks.rank).items():
                registry.report_metrics(task, first=value, last=value)
            if ticks:
                registry.tick()
        return dict(registry.snapshot(step=1).metrics)

    found = Job(size).run(run)
    assert all(each == found[0] for each in found)
    return found[0]


@pytest.mark.parametrize("before", [1, 2, 3])
@pytest.mark.parametrize("after", [1, 2, 3])
@pytest.mark.parametrize("ticks", [0, 1, 3])
def test_the_first_is_of_before_and_the_last_of_after(before, after, ticks) -> None:
    """The lowest rank's value counts: 101 before, 201 (or, in the third micro-batch, 203) after."""
    state = save(before, lambda batch, rank: {"all": 101.0 + batch + 10 * rank}, ticks)
    found = resume(after, state, lambda batch, rank: {"all": 201.0 + batch + 10 * rank}, ticks)
    # Without ticks all values are of one micro-batch, of which the first report of the lowest rank is the first.
    assert found["all/first"] == 101.0
    assert found["all/last"] == 201.0 + max(ticks, 1) - 1


@pytest.mark.parametrize("before", [1, 2])
@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_key_that_one_rank_reports(before, after) -> None:
    """The highest rank alone reports `part`."""
    state = save(before, lambda batch, rank: {"part": 101.0} if rank == before - 1 else {}, 1)
    found = resume(after, state, lambda batch, rank: {"part": 211.0} if rank == after - 1 else {}, 1)
    assert (found["part/first"], found["part/last"]) == (101.0, 211.0)


def test_a_loop_without_ticks() -> None:
    state = save(1, lambda batch, rank: {"a": 7.0}, 0)
    found = resume(2, state, lambda batch, rank: {"a": 10.0} if rank else {}, 0)
    assert (found["a/first"], found["a/last"]) == (7.0, 10.0)


@pytest.mark.parametrize("order", [("train", "eval"), ("eval", "train")])
@pytest.mark.parametrize("is_empty", [True, False])
def test_the_state_of_another_phase_does_not_turn_back_the_time(order, is_empty) -> None:
    def run(ranks):
        source = MetricRegistry(RULES, process_group=ranks)
        states = {}
        if not is_empty:
            with source.phase("eval"):
                source.report_metrics("a", first=1.0, last=1.0)
        states["eval"] = source.state_dict("eval")
        for batch in range(5):
            source.tick()
            source.report_metrics("a", first=10.0 + batch, last=10.0 + batch)
        states["train"] = source.state_dict()
        resumed = MetricRegistry(RULES, process_group=ranks)
        for phase in order:
            resumed.load_state_dict(states[phase], phase)
        resumed.report_metrics("a", first=99.0, last=99.0)
        with resumed.phase("eval"):
            resumed.report_metrics("a", first=98.0, last=98.0)
        return dict(resumed.snapshot(step=1).metrics), dict(resumed.snapshot(step=1, phase="eval").metrics)

    for train, evaluation in Job(2).run(run):
        assert train == {"a/first": 10.0, "a/last": 99.0}
        assert evaluation == {"a/first": 98.0 if is_empty else 1.0, "a/last": 98.0}


def test_a_value_is_reported_by_nobody_unless_somebody_reported_it() -> None:
    """What is between two equal times would be added up: 312 of 101 and 211."""
    for before in (1, 2, 3):
        for after in (1, 2, 3):
            state = save(before, lambda batch, rank: {"a": 101.0}, 2)
            found = resume(after, state, lambda batch, rank: {"a": 211.0}, 2)
            assert {*found.values()} <= {101.0, 211.0}


@pytest.mark.parametrize("after", ["the window", "a log event", "an epoch"])
def test_what_is_reported_after_a_resume_is_later_even_if_another_rank_had_more_micro_batches(after) -> None:
    """Rank 1 saves after 9 micro-batches, and the first rank, whose state all ranks load, after 2."""

    def source(ranks):
        registry = MetricRegistry(RULES, process_group=ranks, per_epoch="*")
        for batch in range(9 if ranks.rank else 2):
            if batch > 5:
                registry.report_metrics("a", first=10.0 + batch, last=10.0 + batch)
            registry.tick()
        if after == "a log event":
            registry.snapshot(step=1)
        if after == "an epoch":
            registry.end_epoch(step=1)
        return registry.state_dict()

    state = json.loads(json.dumps(Job(2).run(source)[0]))

    def resumed(ranks):
        registry = MetricRegistry(RULES, process_group=ranks, per_epoch="*")
        registry.load_state_dict(state)
        if not ranks.rank:
            registry.report_metrics("a", first=99.0, last=99.0)
        window = dict(registry.snapshot(step=2).metrics)
        return window, dict(registry.overall(step=2).metrics)

    both = {"a/first": 16.0, "a/last": 99.0}
    window = {"a/first": 99.0, "a/last": 99.0} if after == "a log event" else both
    assert Job(2).run(resumed) == [(window, both)] * 2
