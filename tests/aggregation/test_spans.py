"""Values over several windows, against NumPy on all values at once."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from helpers.reducers import NAMES

from mtask_sinks import MetricRegistry, weighted
from mtask_sinks.reducers import Reducer, TimedReducer, ValuesReducer

WEIGHTED = ("mean", "sum", "total", "std")


def expected(name: str, values: np.ndarray, weights: np.ndarray) -> float:
    if name in ("sum", "total"):
        return float(math.fsum(values * weights))
    mean = math.fsum(values * weights) / math.fsum(weights)
    return {
        "mean": lambda: mean,
        "std": lambda: math.sqrt(math.fsum(weights * (values - mean) ** 2) / math.fsum(weights)),
        "min": values.min,
        "max": values.max,
        "count": lambda: len(values),
        "first": lambda: values[0],
        "last": lambda: values[-1],
        "median": lambda: np.median(values),
        "p90": lambda: np.quantile(values, 0.9),
    }[name]()


def resumed(registry: MetricRegistry, reducers, **settings) -> MetricRegistry:
    other = MetricRegistry(reducers, **settings)
    other.load_state_dict(json.loads(json.dumps(registry.state_dict())))
    return other


@pytest.mark.parametrize("has_ticks", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_the_value_over_the_training_is_that_of_all_reports(name: str, has_ticks: bool) -> None:
    random = np.random.default_rng(7)
    reducers = {"a/x": name}
    registry = MetricRegistry(reducers)
    values, weights = random.normal(50.0, 9.0, 200), random.uniform(0.5, 3.0, 200)
    if name not in WEIGHTED:
        weights[:] = 1.0
    for step, (value, weight) in enumerate(zip(values, weights, strict=True), start=1):
        registry.report_metrics("a", x=weighted(value, weight))
        if has_ticks:
            registry.tick()
        if random.random() < 0.2:
            registry.snapshot(step)
        if random.random() < 0.1:  # in the middle of a window too
            registry = resumed(registry, reducers)
    registry.snapshot(200)
    overall = registry.overall(200)
    assert overall.metrics["a/x"] == pytest.approx(expected(name, values, weights), rel=1e-12)
    assert (overall.phase, overall.step, overall.counts["a/x"]) == ("overall", 200, 200)


@pytest.mark.parametrize(("name", "value"), [("mean", 2.0), ("max", 3.0), ("median", 2.0)])
def test_the_values_that_were_left_out_of_the_training_are_those_of_all_windows(name: str, value: float) -> None:
    registry = MetricRegistry({"a/x": name}, nonfinite="skip")
    for step, values in enumerate([(1.0, math.nan), (math.nan, math.inf, 3.0)], start=1):
        for each in values:
            registry.report_metrics("a", x=each)
        registry.snapshot(step)
    overall = registry.overall(2)
    assert (overall.metrics["a/x"], dict(overall.nonfinite)) == (value, {"a/x": 3})


def test_a_reducer_that_changes_the_state_as_it_computes_changes_no_later_value() -> None:
    class Mean(Reducer):
        merge = ("sum", "sum")

        def update(self, state, values, weights):
            state += [weights @ values, weights.sum()]

        def compute(self, state):
            state[0] /= state[1]
            return float(state[0])

    registry = MetricRegistry({"a/x": Mean()})
    for step, value in enumerate((2.0, 4.0), start=1):
        registry.report_metrics("a", x=value)
        registry.report_metrics("a", x=value)
        registry.snapshot(step)
    assert [registry.overall(2).metrics["a/x"] for _ in range(2)] == [3.0, 3.0]


def test_a_key_that_a_resumed_registry_refuses_leaves_the_others_what_they_had() -> None:
    registry = MetricRegistry()
    registry.report_metrics("a", x=1.0, y=2.0)
    registry.snapshot(1)
    later = resumed(registry, None, derived={"a/x": lambda metrics: metrics["a/y"] ** 2})
    later.report_metrics("a", y=4.0)
    later.snapshot(2)
    assert later.overall(2).metrics == {"a/x": 9.0, "a/y": 3.0}


def test_values_over_an_epoch_go_across_the_windows_of_the_training() -> None:
    settings = {"per_epoch": ["*/n", "a/*"]}
    reducers = {"*/n": "sum", "*/last": "last"}
    registry = MetricRegistry(reducers, **settings)
    found, windows = [], []
    for step in range(1, 16):
        registry.report_metrics("a", loss=float(step), last=step)
        registry.report_metrics("b", loss=1.0, n=step)
        registry.tick()
        if step % 4 == 0:
            windows.append(dict(registry.snapshot(step).metrics))
        if step % 5 == 0:
            found.append(registry.end_epoch(step, epoch=step / 5))
        registry = resumed(registry, reducers, **settings)
    steps = [np.arange(1, 6), np.arange(6, 11), np.arange(11, 16)]
    assert [dict(each.metrics) for each in found] == [
        {"a/loss": each.mean(), "a/last": each[-1], "b/n": each.sum()} for each in steps
    ]
    assert [(each.phase, each.step, each.epoch, dict(each.counts)) for each in found] == [
        ("epoch", step, step / 5, {"a/loss": 5, "a/last": 5, "b/n": 5}) for step in (5, 10, 15)
    ]
    assert [each["b/n"] for each in windows] == [1 + 2 + 3 + 4, 5 + 6 + 7 + 8, 9 + 10 + 11 + 12]
    assert [each["a/last"] for each in windows] == [4, 8, 12]
    registry.snapshot(15)
    assert registry.overall(15).metrics["b/n"] == 120


def test_values_over_an_epoch_have_no_other_key_if_they_are_computed_from_all() -> None:
    registry = MetricRegistry(derived={"a/twice": lambda metrics: 2 * metrics["a/x"]}, per_epoch="a/twice")
    registry.report_metrics("a", x=3.0, y=math.nan)
    epoch = registry.end_epoch(step=1)
    assert (epoch.metrics, epoch.counts, epoch.nonfinite) == ({"a/twice": 6.0}, {"a/twice": 1}, {})


def test_a_total_goes_on_over_windows_and_is_there_when_nothing_is_reported() -> None:
    reducers = {"*/n": "total"}
    registry = MetricRegistry(reducers)
    assert dict(registry.snapshot(0).metrics) == {}
    registry.report_metrics("a", n=weighted(3.0, 2.0))
    assert dict(registry.snapshot(1).metrics) == {"a/n": 6.0}
    registry.report_metrics("b", loss=1.0)
    assert dict(registry.snapshot(2).metrics) == {"b/loss": 1.0, "a/n": 6.0}
    registry.report_metrics("a", n=4)
    registry = resumed(registry, reducers)
    registry.report_metrics("a", n=5)
    snapshot = registry.snapshot(3)
    assert (dict(snapshot.metrics), dict(snapshot.counts)) == ({"a/n": 15.0}, {"a/n": 2})  # since the last snapshot
    again = registry.snapshot(3)
    assert (dict(again.metrics), dict(again.counts)) == ({"a/n": 15.0}, {"a/n": 0})
    with registry.phase("eval"):
        registry.report_metrics("a", n=100)
    assert registry.snapshot(3, "eval").metrics["a/n"] == 100.0
    assert registry.overall(3).metrics["a/n"] == 15.0
    registry.load_state_dict({})
    assert dict(registry.snapshot(0).metrics) == {}


def test_a_long_training_keeps_a_bounded_uniform_sample_and_says_so(caplog) -> None:
    registry = MetricRegistry({"a/x": "median", "a/y": "median"})
    for step in range(60):
        registry.report_metrics("a", x=np.arange(1000.0) + 1000 * step, y=float(step))
        registry.snapshot(step)
    assert not caplog.records
    kept = json.dumps(registry.state_dict())
    assert len(json.loads(kept)["spans"]["training"]["keys"]["a/x"]["state"]) in (8192, 8193)
    overall = registry.overall(60)
    # The standard error of a median of 8,192 uniform values is 0.5 / sqrt(8192) of the range.
    assert abs(overall.metrics["a/x"] - 30_000) < 5 * 60_000 * 0.5 / math.sqrt(8192)
    assert overall.metrics["a/y"] == 29.5
    (message,) = [record.getMessage() for record in caplog.records]
    assert message == "a/x: the value over a whole training comes from a uniform sample of 8192 values."


def test_windows_with_samples_of_their_own_join_by_what_they_saw() -> None:
    def share_of_ones(values):
        return float(np.mean(values))

    registry = MetricRegistry({"a/x": share_of_ones})
    registry.report_metrics("a", x=np.ones(300_000))  # more than a window keeps
    registry.snapshot(1)
    registry.report_metrics("a", x=np.zeros(100_000))
    registry.snapshot(2)
    assert registry.overall(2).metrics["a/x"] == pytest.approx(0.75, abs=1e-3)


def test_derived_metrics_and_policies_hold_over_the_training(caplog) -> None:
    registry = MetricRegistry(
        {"a/n": "sum"}, {"a/per": lambda m: m["a/loss"] / m["a/n"]}, nonfinite={"a/loss": "skip", "a/raise": "raise"}
    )
    for step, loss in enumerate((2.0, math.nan, 4.0)):
        registry.report_metrics("a", loss=loss, n=1)
        registry.snapshot(step)
    overall = registry.overall(3)
    assert dict(overall.metrics) == {"a/loss": 3.0, "a/n": 3.0, "a/per": 1.0, "a/loss.nonfinite": 1.0}
    assert dict(overall.nonfinite) == {"a/loss": 1}
    assert registry.dropped == {"nonfinite: a/loss": 1}  # not once more for the whole training


def test_a_reducer_that_fails_in_one_window_has_no_value_over_the_training(caplog) -> None:
    class Fails(Reducer):
        merge = ("sum",)

        def update(self, state, values, weights):
            if (values < 0).any():
                raise ValueError("negative")
            state[0] += values.sum()

        def compute(self, state):
            return float(state[0])

    registry = MetricRegistry({"a/x": Fails()})
    for value in (1.0, -1.0, 2.0):
        registry.report_metrics("a", x=value)
        registry.snapshot(1)
    assert "a/x" not in registry.overall(3).metrics


def test_a_reducer_of_ones_own_that_needs_times() -> None:
    class Latest(TimedReducer):
        """As `last`, with the sum of all values beside it."""

        merge = ("max", "sum", "sum")

        def update(self, state, values, weights, times=None):
            state[2] += values.sum()
            if times[-1] >= state[0]:
                state[:2] = times[-1], values[-1]

        def align(self, state, agreed):
            if state[0] != agreed[0]:
                state[1] = 0.0

        def compute(self, state):
            return float(1000 * state[1] + state[2])

    registry = MetricRegistry({"a/x": Latest()})
    for step, value in enumerate((1.0, 2.0, 3.0)):
        registry.report_metrics("a", x=value)
        registry.tick()
        registry.snapshot(step)
    assert registry.overall(3).metrics["a/x"] == 3000 + 6
    # The same micro-batch in two windows: of the two values the later one counts.
    registry.load_state_dict({})
    for value in (1.0, 2.0):
        registry.report_metrics("a", x=value)
        registry.snapshot(1)
    assert registry.overall(1).metrics["a/x"] // 1000 == 2


def test_values_over_the_training_that_cannot_be_loaded_are_named_even_if_no_window_is_open(caplog) -> None:
    registry = MetricRegistry({"a/last": "last"})
    registry.report_metrics("a", x=1.0, last=2.0, more=3.0)
    registry.snapshot(step=1)
    state = registry.state_dict()
    assert "keys" not in state or state["keys"] == {}
    resumed = MetricRegistry({"a/x": "max", "a/last": "last"}, max_keys=2)
    resumed.load_state_dict(state)
    told = [message.split(" in the checkpoint")[0] for message in caplog.messages]
    assert told == ["a/more: its values", "a/x: its values"]
    assert "no room for further keys" in caplog.messages[0]
    assert dict(resumed.overall(step=1).metrics) == {"a/last": 2.0}


@pytest.mark.parametrize(("before", "after"), [("mean", "max"), ("max", "mean"), ("max", "min"), ("last", "first")])
def test_numbers_of_one_reducer_are_never_taken_for_those_of_another(caplog, before: str, after: str) -> None:
    registry = MetricRegistry({"a/x": before})
    for value in (1.0, 3.0):
        registry.report_metrics("a", x=value)
    registry.snapshot(step=1)
    registry.report_metrics("a", x=5.0)
    resumed = MetricRegistry({"a/x": after})
    resumed.load_state_dict(registry.state_dict())
    resumed.report_metrics("a", x=7.0)
    assert (dict(resumed.snapshot(2).metrics), dict(resumed.overall(2).metrics)) == ({"a/x": 7.0}, {"a/x": 7.0})
    (message,) = caplog.messages
    assert message == (
        "a/x: its values in the checkpoint cannot be loaded and are left out: the saved state belongs to the reducer "
        f"{before.title()}, not to {after.title()}"
    )


def test_samples_serve_any_reducer_that_needs_all_values(caplog) -> None:
    registry = MetricRegistry({"a/x": "median"})
    for value in (1.0, 2.0, 9.0):
        registry.report_metrics("a", x=value)
    resumed = MetricRegistry({"a/x": lambda values: values.max()})
    resumed.load_state_dict(registry.state_dict())
    assert (dict(resumed.snapshot(1).metrics), caplog.messages) == ({"a/x": 9.0}, [])


def test_a_checkpoint_of_another_reducer_or_an_impossible_key_is_no_error(caplog) -> None:
    registry = MetricRegistry({"a/x": "mean", "a/y": "max"})
    registry.report_metrics("a", x=1.0, y=2.0)
    registry.snapshot(1)
    state = registry.state_dict()
    state["spans"]["training"]["keys"]["not a key"] = state["spans"]["training"]["keys"]["a/x"]
    other = MetricRegistry({"a/x": "mean", "a/y": "median"})
    other.load_state_dict(state)
    assert dict(other.overall(1).metrics) == {"a/x": 1.0}


@pytest.mark.parametrize("parts", [2, 3])
def test_a_sample_of_a_training_that_was_resumed_stands_for_all_its_values(parts: int) -> None:
    reducers = {"a/x": lambda values: values.mean()}
    registry = MetricRegistry(reducers)
    for part in range(parts):
        registry = resumed(registry, reducers)
        registry.report_metrics("a", x=np.full(20_000, float(part)))
        registry.snapshot(part + 1)
    # Each part has the same number of values. The error of the mean of 8,192 of them is at most a few 0.01.
    assert registry.overall(parts).metrics["a/x"] == pytest.approx((parts - 1) / 2, abs=0.03)
    assert registry.overall(parts).counts["a/x"] == parts


def test_a_small_sample_of_before_a_resume_counts_by_what_it_has_seen() -> None:
    class Mean(ValuesReducer):
        def reduce_values(self, values):
            return values.mean()

    stopped, resumed = MetricRegistry({"a/x": Mean(max_values=100)}), MetricRegistry({"a/x": Mean()})
    stopped.report_metrics("a", x=np.zeros(20_000))
    stopped.snapshot(1)
    resumed.load_state_dict(json.loads(json.dumps(stopped.state_dict())))
    resumed.report_metrics("a", x=np.ones(20_000))
    resumed.snapshot(2)
    assert resumed.overall(2).metrics["a/x"] == 0.5


def test_a_function_that_changes_its_array_changes_nothing_else() -> None:
    def deviation(values):
        values -= values.mean()
        return math.sqrt((values**2).mean())

    registry = MetricRegistry({"a/x": deviation})
    registry.report_metrics("a", x=np.array([1.0, 3.0]))
    registry.snapshot(1)
    assert [registry.overall(1).metrics["a/x"] for _ in range(2)] == [1.0, 1.0]
    registry.report_metrics("a", x=np.array([5.0, 7.0]))
    registry.snapshot(2)
    assert registry.overall(2).metrics["a/x"] == np.std([1.0, 3.0, 5.0, 7.0])


def test_a_window_in_which_an_epoch_ended_keeps_all_its_values_over_a_resume(caplog) -> None:
    """As many as the reducer takes. Only values over an epoch or a training come from a sample."""
    first, second = np.random.default_rng(0).lognormal(size=(2, 10_000))

    def registry() -> MetricRegistry:
        return MetricRegistry({"*/x": "median"}, per_epoch="*/x")

    stopped, resumed = registry(), registry()
    stopped.report_metrics("a", x=first)
    stopped.end_epoch(step=5)
    caplog.clear()
    resumed.load_state_dict(json.loads(json.dumps(stopped.state_dict())), step=5)
    resumed.report_metrics("a", x=second)
    assert resumed.snapshot(step=7).metrics["a/x"] == np.median([first, second])
    assert not caplog.messages
