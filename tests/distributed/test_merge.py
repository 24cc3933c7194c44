from __future__ import annotations

import math
import time

import numpy as np
import pytest
from helpers.reducers import NAMES
from hypothesis import given, settings
from hypothesis import strategies as st

from mtask_sinks import MetricRegistry, Reducer, weighted
from mtask_sinks.errors import ConflictError, LogEventError, NonFiniteError
from mtask_sinks.reducers import Std
from mtask_sinks.testing.simulated_ranks import Job


def metrics_of(size, body, **settings):
    """Run `body(registry, rank)` and one snapshot on every rank, check that all are equal, and return the snapshot."""

    def run(ranks):
        registry = MetricRegistry(process_group=ranks, **settings)
        body(registry, ranks.rank)
        return registry.snapshot(step=1)

    snapshots = Job(size).run(run)
    first = snapshots[0]
    for other in snapshots[1:]:
        for part in ("metrics", "counts", "nonfinite"):
            assert repr(getattr(other, part)) == repr(getattr(first, part))  # equal to the last bit, also for NaN
    return first


def test_a_mean_is_weighted_by_what_each_rank_counted() -> None:
    def body(registry, rank):
        for _ in range([1, 3][rank]):
            registry.report_metrics("a", x=weighted([10.0, 20.0][rank], [1, 5][rank]))

    snapshot = metrics_of(2, body)
    assert snapshot.metrics["a/x"] == pytest.approx((10 * 1 + 3 * 20 * 5) / 16)
    assert snapshot.counts["a/x"] == 4


def test_ranks_may_report_other_keys_in_another_order_or_nothing() -> None:
    def body(registry, rank):
        if rank == 0:
            registry.report_metrics("a", x=1.0, y=2.0)
        if rank == 1:
            registry.report_metrics("a", y=4.0, x=3.0)
            registry.report_metrics("only_here", x=5.0)

    assert dict(metrics_of(3, body).metrics) == {"a/x": 2.0, "a/y": 3.0, "only_here/x": 5.0}


def test_micro_batches_that_one_rank_alone_had_do_not_make_its_later_reports_later() -> None:
    def run(ranks):
        registry = MetricRegistry({"*/first": "first", "*/last": "last"}, process_group=ranks)
        with registry.phase("eval"):
            for batch in range(3 if ranks.rank == 0 else 1):
                registry.report_metrics("a", first=float(batch), last=float(batch))
                registry.tick()
        registry.snapshot(step=0, phase="eval")
        for batch in range(4):
            if batch % 2 == ranks.rank:
                registry.report_metrics("a", first=10.0 + batch, last=10.0 + batch)
            registry.tick()
        return dict(registry.snapshot(step=4).metrics)

    assert Job(2).run(run) == [{"a/first": 10.0, "a/last": 13.0}] * 2


def test_two_collectives_a_log_event_with_extremes_and_one_more_for_all_values() -> None:
    job = Job(4)

    def run(ranks):
        registry = MetricRegistry({"*/p": "median", "*/s": "std"}, process_group=ranks)
        counts = []
        for step in range(4):
            for task in range(5):
                registry.report_metrics(f"t{task}", x=1.0, s=2.0)
            if step == 2 and ranks.rank == 3:
                registry.report_metrics("late", p=7.0)
            value = registry.snapshot(step).metrics.get("late/p")
            counts.append((dict(job.calls) if ranks.rank == 0 else None, value))
        return counts

    counts = job.run(run)[0]
    assert [value for _, value in counts] == [None, None, 7.0, None]
    calls = [calls for calls, _ in counts]
    assert calls[0] == {"total": 2, "gather_objects": 1, "maximum": 1}  # the names are new
    assert calls[1] == {"total": 3, "gather_objects": 1, "maximum": 2}  # nothing new
    assert calls[2] == {"total": 4, "gather_objects": 2, "maximum": 4, "gather": 1}  # a new name, all its values
    assert calls[3] == {"total": 5, "gather_objects": 2, "maximum": 5, "gather": 1}  # nothing new, no values to gather


@pytest.mark.parametrize("nothing", [None, weighted(math.nan, 0), np.array([])])
def test_a_key_that_has_no_value_yet_is_known_on_all_ranks(nothing) -> None:
    def run(ranks):
        registry = MetricRegistry(derived={"a/ppl": lambda m: math.exp(m["a/loss"])}, process_group=ranks, max_keys=2)
        with registry.phase("eval"):
            registry.report_metrics("a", acc=1.0)
        registry.snapshot(0, "eval")
        registry.report_metrics("a", acc=1.0, **({"loss": nothing} if ranks.rank else {}))
        first = dict(registry.snapshot(1).metrics)
        if not ranks.rank:
            registry.report_metrics("b", late=7.0)  # too late: max_keys is reached
        registry.report_metrics("a", loss=float(ranks.rank))
        return first, dict(registry.snapshot(2).metrics)

    assert Job(2).run(run) == [({"a/acc": 1.0}, {"a/loss": 0.5, "a/ppl": math.exp(0.5)})] * 2


def test_one_collective_a_log_event_for_what_only_adds_up() -> None:
    class Total(Reducer):
        merge = ("sum", "sum")

        def update(self, state, values, weights):
            state += values.sum(), len(values)

        def compute(self, state):
            return state[0] + state[1]

    job = Job(3)

    def run(ranks):
        registry = MetricRegistry({"*/n": "sum", "*/c": "count", "*/own": Total()}, process_group=ranks)
        rows = []
        for step in range(4):
            if (step + ranks.rank) % 2:
                registry.report_metrics("t", x=1.0 + ranks.rank, n=2, c=3.0, own=0.5)
            with registry.phase("eval"):
                registry.report_metrics("t", x=7.0)
            snapshots = registry.snapshot(step), registry.snapshot(step, "eval")
            rows.append(
                ([dict(snapshot.metrics) for snapshot in snapshots], dict(job.calls) if not ranks.rank else None)
            )
        return rows

    rows = job.run(run)[0]
    odd, even = {"t/x": 2.0, "t/n": 2.0, "t/c": 1.0, "t/own": 1.5}, {"t/x": 2.0, "t/n": 4.0, "t/c": 2.0, "t/own": 3.0}
    assert [metrics for metrics, _ in rows] == [[row, {"t/x": 7.0}] for row in (odd, even, odd, even)]
    assert [calls for _, calls in rows] == [{"total": 3 + 2 * step, "gather_objects": 1} for step in range(4)]


@pytest.mark.parametrize("keys", [4, 4096])
def test_the_payload_grows_with_the_keys_and_not_with_the_ranks(keys) -> None:
    sent = {}

    def run(ranks):
        registry = MetricRegistry(process_group=ranks, max_keys=keys)
        for step in range(2):
            registry.report_metrics("t", **{f"k{i}": 1.0 for i in range(keys)})
            before = ranks.numbers
            registry.snapshot(step)
        return ranks.numbers - before

    for size in (2, 4):
        sent[size] = Job(size).run(run)[0]
    assert sent[2] == sent[4] == 3 + keys * 4  # per mean: two sums, reports, non-finite values


def test_nan_stays_visible_whichever_rank_it_comes_from() -> None:
    class Largest(Reducer):
        merge = ("max",)

        def update(self, state, values, weights):
            state[0] = np.maximum(state[0], values.max())

        def compute(self, state):
            return float(state[0])

    def body(registry, rank):
        registry.report_metrics("a", **dict.fromkeys(NAMES, [1.0, math.nan, 3.0][rank]), own=[1.0, math.nan, 3.0][rank])
        registry.report_metrics("b", x=[math.inf, 1.0, 2.0][rank])

    snapshot = metrics_of(3, body, reducers={**{f"a/{name}": name for name in NAMES}, "a/own": Largest(), "b/x": "std"})
    finite = {name: value for name, value in snapshot.metrics.items() if not math.isnan(value)}
    assert finite == {"a/count": 3.0, "a/last": 1.0, "a/first": 1.0}
    assert dict(snapshot.nonfinite) == {**{f"a/{name}": 1 for name in [*NAMES, "own"]}, "b/x": 1}


def test_skipped_and_raised_values_are_counted_over_ranks() -> None:
    def body(registry, rank):
        registry.report_metrics("a", x=math.nan if rank else 2.0)

    assert dict(metrics_of(3, body, nonfinite="skip").metrics) == {"a/x": 2.0, "a/x.nonfinite": 2.0}

    def run(ranks):
        registry = MetricRegistry(process_group=ranks, nonfinite="raise")
        body(registry, ranks.rank)
        with pytest.raises(NonFiniteError, match=r"a/x \(2\)"):
            registry.snapshot(1)
        return True

    assert Job(3).run(run) == [True] * 3


def test_last_is_the_latest_and_among_ranks_that_of_the_lowest() -> None:
    def body(registry, rank):
        for batch in range(3):
            registry.report_metrics("both", last=float(10 * batch + rank), first=float(10 * batch + rank))
            if (batch, rank) in {(0, 2), (1, 1), (2, 2)}:
                registry.report_metrics("some", last=float(10 * batch + rank), first=float(10 * batch + rank))
            registry.tick()

    metrics = metrics_of(3, body, reducers={"*/last": "last", "*/first": "first"}).metrics
    assert dict(metrics) == {"both/last": 20.0, "both/first": 0.0, "some/last": 22.0, "some/first": 2.0}


def test_values_of_one_micro_batch_are_told_apart_by_rank_before_the_first_log_event() -> None:
    """So many reports update the state at once, before the ranks have met."""

    def body(registry, rank):
        for number in range(3000):
            registry.report_metrics("a", first=7000.0 * rank + number, last=7000.0 * rank + number)

    snapshot = metrics_of(2, body, reducers={"a/first": "first", "a/last": "last"})
    assert (snapshot.metrics, snapshot.counts) == (
        {"a/first": 0.0, "a/last": 2999.0},
        {"a/first": 6000, "a/last": 6000},
    )


def test_the_spread_is_that_of_the_ranks_own_values() -> None:
    def body(registry, rank):
        if rank != 1:
            registry.report_metrics("a", loss=float(rank))
            registry.report_metrics("a", loss=float(rank + 1))
        registry.report_metrics("b", acc=float(rank))

    metrics = metrics_of(4, body, spread="*/loss").metrics
    assert dict(metrics) == {
        "a/loss": pytest.approx(np.mean([0, 1, 2, 3, 3, 4])),
        "a/loss.rank_min": 0.5,
        "a/loss.rank_max": 3.5,
        "b/acc": 1.5,
    }
    assert {type(value) for value in metrics.values()} == {float}


def test_a_function_sees_the_values_of_all_ranks_in_their_order() -> None:
    def body(registry, rank):
        registry.report_metrics(x=[np.array([1.0, 2.0]), np.array([3.0]), None][rank])

    assert metrics_of(3, body, reducers={"x": lambda values: float(values @ [100, 10, 1])}).metrics["x"] == 123.0


def test_values_past_the_bound_are_sampled_in_proportion(caplog) -> None:
    from mtask_sinks.reducers import FunctionReducer

    def body(registry, rank):
        registry.report_metrics(x=np.full([3000, 1000][rank], float(rank)))

    reducer = FunctionReducer(lambda values: len(values) + values.mean(), max_values=800)
    value = metrics_of(2, body, reducers={"x": reducer}).metrics["x"]
    assert value == 800 + 200 / 800
    assert "more than 800 values" in caplog.text


def errors_of(size, body):
    def run(ranks):
        try:
            body(ranks)
        except Exception as error:
            return type(error), str(error)
        return None

    results = Job(size).run(run)
    assert len(set(results)) == 1, results
    return results[0]


def test_a_policy_that_differs_is_an_error_on_every_rank() -> None:
    def by_rule(ranks):
        registry = MetricRegistry({"a/*": "sum" if ranks.rank else "mean"}, process_group=ranks)
        registry.report_metrics("a", x=1.0)
        registry.snapshot(1)

    def by_registration(ranks):
        registry = MetricRegistry(process_group=ranks)
        registry.register("a/x", "sum" if ranks.rank == 2 else "max")
        registry.snapshot(1)
        if ranks.rank:
            registry.report_metrics("a", x=1.0)
        registry.snapshot(2)

    def by_function(ranks):
        function = (lambda values: values.max()) if ranks.rank else (lambda values: values.min())
        registry = MetricRegistry({"a/x": function}, process_group=ranks)
        registry.report_metrics("a", x=1.0)
        registry.snapshot(1)

    kind, text = errors_of(3, by_rule)
    assert kind is ConflictError
    assert "reducers=" in text
    assert "rank 0" in text
    assert "rank 1" in text
    kind, text = errors_of(3, by_registration)
    assert kind is ConflictError
    assert "'a/x'" in text
    assert "Sum" in text
    assert "rank 2" in text
    assert errors_of(2, by_function)[0] is ConflictError


def test_a_registration_on_one_rank_is_taken_over_by_the_others_if_it_can_be() -> None:
    def body(registry, rank):
        if rank == 1:
            registry.register("a/x", "sum")
            registry.report_metrics("a", x=2.0)
            registry.report_metrics("a", x=3.0)

    assert metrics_of(3, body).metrics["a/x"] == 5.0

    def unsendable(ranks):
        registry = MetricRegistry(process_group=ranks)
        if ranks.rank == 1:
            registry.register("a/x", lambda values: values.max())
            registry.report_metrics("a", x=2.0)
        registry.snapshot(1)

    kind, text = errors_of(3, unsendable)
    assert kind is ConflictError
    assert "Register it on every rank" in text


def test_ranks_at_different_log_events_are_told() -> None:
    def run(ranks):
        registry = MetricRegistry(process_group=ranks)
        with pytest.raises(LogEventError, match="rank"):
            registry.snapshot(1, phase="train" if ranks.rank else "eval")
        return True

    assert Job(2).run(run) == [True, True]


@pytest.mark.parametrize("spread", [(), "*"])
@pytest.mark.parametrize(("call", "arguments"), [("state_dict", {}), ("end_epoch", {"step": 1})])
def test_a_rank_that_saves_or_ends_an_epoch_alone_is_told(call, arguments, spread) -> None:
    """Else its numbers would be added to the snapshot of the others, and be off by one window from then on."""

    def run(ranks):
        registry = MetricRegistry(process_group=ranks, per_epoch="*", spread=spread)
        registry.report_metrics("a", x=1.0)
        registry.snapshot(0)
        with pytest.raises(LogEventError, match=r"snapshot\(phase='train'\)" if ranks.rank else call):
            registry.snapshot(1) if ranks.rank else getattr(registry, call)(**arguments)
        return True

    assert Job(2).run(run) == [True, True]


def test_more_than_max_keys_are_dropped_everywhere_alike(caplog) -> None:
    job = Job(2)

    def run(ranks):
        registry = MetricRegistry(process_group=ranks, max_keys=3)
        rows = []
        for step in range(3):
            names = ["d", "e"] if ranks.rank else ["a", "b", "c"]
            registry.report_metrics(**dict.fromkeys(names, 1.0))
            rows.append(sorted(registry.snapshot(step).metrics))
        return rows, registry.dropped.get("max_keys", 0), dict(job.calls)

    (rows, dropped, calls), (other_rows, other_dropped, _) = job.run(run)
    assert rows == other_rows == [["a", "b", "c"]] * 3
    assert (dropped, other_dropped) == (0, 6)  # the first snapshot dropped the reports that this rank had made
    assert [record.getMessage().split(". ")[0] for record in caplog.records] == [
        "more than max_keys=3 distinct keys are reported (d, e)"
    ]
    assert calls["gather_objects"] == 1


def test_new_keys_do_not_take_the_place_of_those_of_a_checkpoint() -> None:
    """After a resume, each rank has room for its new key, but both together have one too many."""

    def run(ranks):
        before = MetricRegistry({"*": "sum"}, process_group=ranks, max_keys=3)
        before.report_metrics(x=1.0, y=1.0)
        before.snapshot(1)
        registry = MetricRegistry({"*": "sum"}, process_group=ranks, max_keys=3)
        registry.load_state_dict(before.state_dict(), step=1)
        registry.report_metrics(**{"ab"[ranks.rank]: 5.0}, x=1.0, y=1.0)
        window, training = registry.snapshot(2), registry.overall(2)
        return dict(window.metrics), dict(training.metrics), sorted(registry.state_dict()["spans"]["training"]["keys"])

    values = {"a": 5.0, "x": 2.0, "y": 2.0}, {"a": 5.0, "x": 4.0, "y": 4.0}, ["a", "x", "y"]
    assert Job(2).run(run) == [values] * 2


def test_ranks_whose_limits_of_keys_differ_take_the_larger_one() -> None:
    def run(ranks):
        registry = MetricRegistry(process_group=ranks, max_keys=[2, 4][ranks.rank])
        rows = []
        for step in range(2):
            registry.report_metrics(**dict.fromkeys(["d", "e", "f"] if ranks.rank else ["a", "b"], 1.0))
            rows.append(sorted(registry.snapshot(step).metrics))
        return rows

    assert Job(2).run(run) == [[["a", "b", "d", "e"]] * 2] * 2


@pytest.mark.parametrize("has_derived", [(True, True), (True, False)])
def test_too_many_keys_do_not_drop_the_time_of_the_window(has_derived) -> None:
    """Each rank alone has room for its keys, but both together have one too many."""

    def run(ranks):
        derived = {"speed": lambda m: m["a"] / m["window.seconds"]} if has_derived[ranks.rank] else {}
        registry = MetricRegistry(derived=derived, process_group=ranks, max_keys=3)
        rows = []
        for step in range(2):
            registry.report_metrics(**dict.fromkeys(["c", "d"] if ranks.rank else ["a", "b"], 1.0))
            rows.append(dict(registry.snapshot(step).metrics))
        return rows

    first, second = Job(2).run(run)
    assert [sorted(row.keys() - {"speed"}) for row in first] == [["a", "b", "c"]] * 2
    assert all("speed" in row for row in first)
    if all(has_derived):
        assert first == second  # every rank divides by the same time


@pytest.mark.parametrize("by_rule", [True, False])
def test_too_many_keys_do_not_drop_a_registered_one(by_rule) -> None:
    """As on one rank: a registered key has its place before the first report."""

    def run(ranks):
        rules = {"reducers": {"task/n": "sum"}} if by_rule else {}
        derived = {"task/double": lambda m: 2 * m["task/n"]}
        registry = MetricRegistry(derived=derived, process_group=ranks, max_keys=3, **rules)
        if not by_rule and ranks.rank:
            registry.register("task/n", "sum")
        registry.report_metrics(**dict.fromkeys(["c", "d"] if ranks.rank else ["a", "b"], 1.0))
        first = sorted(registry.snapshot(0).metrics)
        registry.report_metrics("task", n=float(ranks.rank))
        return first, dict(registry.snapshot(1).metrics)

    assert Job(2).run(run) == [(["a", "b"], {"task/n": 1.0, "task/double": 2.0})] * 2


def test_a_reducer_that_fails_on_one_rank_leaves_its_key_out_on_all(caplog) -> None:
    class Fragile(Reducer):
        merge = ("sum",)

        def update(self, state, values, weights):
            if values.max() > 5:
                raise RuntimeError("too large")
            state[0] += values.sum()

        def compute(self, state):
            return float(state[0])

    def body(registry, rank):
        registry.report_metrics("a", x=10.0 if rank else 1.0, y=1.0)

    assert dict(metrics_of(2, body, reducers={"a/x": Fragile()}).metrics) == {"a/y": 1.0}
    assert "too large" in caplog.text


def test_a_derived_metric_is_computed_from_what_all_ranks_reported() -> None:
    def body(registry, rank):
        registry.report_metrics("a", **({"correct": 3.0} if rank else {"total": 4.0}))

    snapshot = metrics_of(2, body, reducers={"*": "sum"}, derived={"a/acc": lambda m: m["a/correct"] / m["a/total"]})
    assert snapshot.metrics["a/acc"] == 0.75


def test_no_collective_without_other_ranks() -> None:
    job = Job(1)

    def run(ranks):
        registry = MetricRegistry(process_group=ranks, spread="*")
        registry.report_metrics(x=1.0)
        return dict(registry.snapshot(1).metrics)

    assert job.run(run) == [{"x": 1.0}]
    assert not job.calls


value = st.floats(-1e6, 1e6)
report = st.tuples(
    st.sampled_from(["a/x", "a/y", "b/x"]),
    st.one_of(value, st.lists(value, min_size=1, max_size=4)),
    st.one_of(st.none(), st.floats(0.1, 100)),
)


@settings(max_examples=60)
@given(
    batches=st.lists(st.lists(st.lists(report, max_size=3), min_size=8, max_size=8), min_size=1, max_size=4),
    size=st.integers(2, 8),
    reducers=st.fixed_dictionaries({key: st.sampled_from(NAMES) for key in ("a/x", "a/y", "b/x")}),
)
def test_ranks_together_equal_one_flat_computation(batches, size, reducers) -> None:
    """``batches`` is micro-batch → rank → reports. The flat computation uses only plain lists and NumPy."""

    def body(registry, rank):
        for batch in batches:
            for key, values, weight in batch[rank]:
                given = np.array(values) if isinstance(values, list) else values
                registry.report_metrics(**{key: given if weight is None else weighted(given, weight)})
            registry.tick()

    snapshot = metrics_of(size, body, reducers=reducers)
    expected, counts = {}, {}
    for key, name in reducers.items():
        reports = [
            (number, rank, np.atleast_1d(values), weight or 1.0)
            for number, batch in enumerate(batches)
            for rank in range(size)
            for there, values, weight in batch[rank]
            if there == key
        ]
        if reports:
            counts[key] = len(reports)
            expected[key] = flat(name, reports)
    assert dict(snapshot.counts) == counts
    assert dict(snapshot.metrics) == pytest.approx(expected, rel=1e-9, abs=1e-6)


def flat(name, reports):
    values = np.concatenate([values for _, _, values, _ in reports])
    weights = np.concatenate([np.full(len(values), weight) for _, _, values, weight in reports])
    if name == "first":
        return reports[0][2].mean()
    if name == "last":
        batch, rank, *_ = min(reports, key=lambda report: (-report[0], report[1]))
        return [values.mean() for there, of, values, _ in reports if (there, of) == (batch, rank)][-1]
    mean = np.average(values, weights=weights)
    return {
        "mean": mean,
        "sum": weights @ values,
        "total": weights @ values,
        "count": len(values),
        "min": values.min(),
        "max": values.max(),
        "std": np.sqrt(np.average((values - mean) ** 2, weights=weights)),
        "median": np.median(values),
        "p90": np.percentile(values, 90),
    }[name]


def test_a_reducer_that_fails_for_the_spread_of_one_rank_stops_no_rank(caplog) -> None:
    def body(registry, rank):
        registry.report_metrics("a", x=[1.0, 5.0, 3.0][rank])
        if rank == 0:
            registry.report_metrics("a", x=2.0)

    settings = {"reducers": {"a/x": lambda values: np.sort(values)[-2]}, "spread": "a/x"}
    snapshot = metrics_of(3, body, **settings)  # only the first rank has two values
    assert dict(snapshot.metrics) == {"a/x": 3.0, "a/x.rank_min": 1.0, "a/x.rank_max": 1.0}
    assert sum("failed on this rank" in message for message in caplog.messages) == 2


def test_a_reducer_that_cannot_align_on_one_rank_stops_no_rank() -> None:
    class Picky(Std):
        def align(self, state, merged):
            if state[1] > 2:
                raise ValueError("too many")
            super().align(state, merged)

    def body(registry, rank):
        for value in range([1, 5][rank]):
            registry.report_metrics("a", x=float(value), y=2.0)

    assert dict(metrics_of(2, body, reducers={"a/x": Picky()}).metrics) == {"a/y": 2.0}


def windows_of(size, body, **settings):
    """Run `body(registry, rank)` on every rank, which returns snapshots, and check that all ranks have equal ones."""

    def run(ranks):
        return body(MetricRegistry(process_group=ranks, **settings), ranks.rank)

    first, *others = Job(size).run(run)
    for other in others:
        assert [dict(each.metrics) for each in other] == [dict(each.metrics) for each in first]
    return [dict(each.metrics) for each in first]


@pytest.mark.parametrize("reducer", ["mean", "max", "median"])
def test_the_spread_of_a_window_has_its_reports_before_and_after_the_end_of_an_epoch(reducer) -> None:
    parts = {0: ([1.0, 2.0], [6.0]), 1: ([4.0], [5.0, 12.0])}

    def body(registry, rank):
        before, after = parts[rank]
        found = []
        for _ in range(2):
            for value in before:
                registry.report_metrics("a", x=value)
            registry.end_epoch(step=1)
            for value in after:
                registry.report_metrics("a", x=value)
            found.append(registry.snapshot(step=2))
        registry.report_metrics("a", x=float(rank))
        registry.end_epoch(step=3)  # with logging_strategy="epoch", nothing comes after it
        return [*found, registry.snapshot(step=3)]

    of = {"mean": np.mean, "max": np.max, "median": np.median}[reducer]
    own = [of([1.0, 2.0, 6.0]), of([4.0, 5.0, 12.0])]
    window = {"a/x": of([1.0, 2.0, 6.0, 4.0, 5.0, 12.0]), "a/x.rank_min": min(own), "a/x.rank_max": max(own)}
    last = {"a/x": of([0.0, 1.0]), "a/x.rank_min": 0.0, "a/x.rank_max": 1.0}
    found = windows_of(2, body, reducers={"a/x": reducer}, spread="a/x", per_epoch="a/x")
    assert found == [pytest.approx(window), pytest.approx(window), pytest.approx(last)]


def test_a_window_that_was_resumed_has_no_spread_and_the_next_one_has() -> None:
    def body(registry, rank):
        registry.report_metrics("a", x=[1.0, 4.0][rank])
        registry.load_state_dict(registry.state_dict())
        found = []
        for _ in range(2):
            registry.report_metrics("a", x=[1.0, 4.0][rank])
            found.append(registry.snapshot(step=1))
        return found

    assert windows_of(2, body, spread="a/x") == [
        {"a/x": 2.5},
        {"a/x": 2.5, "a/x.rank_min": 1.0, "a/x.rank_max": 4.0},
    ]


def test_a_window_that_was_resumed_has_no_spread_if_an_epoch_ends_in_it() -> None:
    def body(registry, rank):
        registry.report_metrics("a", x=[1.0, 4.0][rank])
        registry.load_state_dict(registry.state_dict())
        registry.report_metrics("a", x=[2.0, 9.0][rank])
        registry.end_epoch(step=1)
        registry.report_metrics("a", x=[3.0, 5.0][rank])
        return [registry.snapshot(step=1)]

    assert windows_of(2, body, spread="a/x", per_epoch="a/x") == [{"a/x": 4.0}]


def test_after_a_discarded_window_value_and_spread_are_of_later_reports_alone() -> None:
    """The discarded window was resumed, or an epoch ended in it."""

    def body(registry, rank):
        found = []
        for ends_epoch in (False, True):
            registry.report_metrics("a", x=[100.0, 700.0][rank])
            if ends_epoch:
                registry.end_epoch(step=1)
            else:
                registry.load_state_dict(registry.state_dict())
            registry.discard()
            registry.report_metrics("a", x=[1.0, 4.0][rank])
            found.append(registry.snapshot(step=1))
        return found

    later = {"a/x": 2.5, "a/x.rank_min": 1.0, "a/x.rank_max": 4.0}
    assert windows_of(2, body, spread="a/x", per_epoch="a/x") == [later, later]


def test_with_a_spread_for_all_keys_every_rank_divides_by_the_same_time() -> None:
    def body(registry, rank):
        registry.report_metrics("a", n=10.0)
        time.sleep(0.02 * rank)
        return [registry.snapshot(step=1)]

    derived = {"a/rate": lambda m: m["a/n"] / m["window.seconds"]}
    (window,) = windows_of(3, body, reducers={"a/n": "sum"}, derived=derived, spread="*")
    assert window["a/rate"] < 30 / 0.02


def test_a_derived_metric_can_use_the_spread() -> None:
    def body(registry, rank):
        registry.report_metrics("a", loss=[1.0, 5.0, 3.0][rank])

    derived = {
        "a/range": lambda m: m["a/loss.rank_max"] - m["a/loss.rank_min"],
        "a/relative": lambda m: m["a/range"] / m["a/loss"],
        "b/keys": lambda m: len(list(m)),  # an iteration has no ends of a spread
    }
    snapshot = metrics_of(3, body, derived=derived, spread="*/loss")
    assert dict(snapshot.metrics) == {
        "a/loss": 3.0,
        "a/range": 4.0,
        "a/relative": 4 / 3,
        "b/keys": 3,
        "a/loss.rank_min": 1.0,
        "a/loss.rank_max": 5.0,
    }
