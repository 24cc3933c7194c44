from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from typing import Any

import pytest

from mtask_sinks import MetricRegistry
from mtask_sinks._util.warn_once import WarnOnce
from mtask_sinks.aggregation import derived
from mtask_sinks.aggregation.derived import Derived
from mtask_sinks.errors import DerivedMetricError, MetricKeyError
from mtask_sinks.testing.simulated_ranks import Job


def test_a_derived_metric_is_computed_from_reduced_values() -> None:
    registry = MetricRegistry(reducers={"qa/*": "sum"}, derived={"qa/acc": lambda m: m["qa/correct"] / m["qa/total"]})
    for correct, total in ((1, 2), (9, 10)):
        registry.report_metrics("qa", correct=correct, total=total)
    snapshot = registry.snapshot(step=1)
    assert snapshot.metrics["qa/acc"] == 10 / 12
    assert snapshot.counts["qa/acc"] == 2


def test_perplexity_is_the_exponential_of_the_mean_not_the_mean_of_exponentials() -> None:
    registry = MetricRegistry(derived={"mlm/ppl": lambda m: math.exp(m["mlm/loss"])})
    for loss in (0.0, 2.0):
        registry.report_metrics("mlm", loss=loss)
    assert registry.snapshot(step=1).metrics["mlm/ppl"] == math.exp(1.0)


def test_derived_metrics_may_build_on_each_other() -> None:
    registry = MetricRegistry(derived={"b": lambda m: m["a"] + 1, "c": lambda m: m["b"] * 2})
    registry.report_metrics(a=1.0)
    assert dict(registry.snapshot(step=1).metrics) == {"a": 1.0, "b": 2.0, "c": 4.0}


def test_a_derived_metric_that_comes_too_late_for_another_is_named_once(caplog) -> None:
    registry = MetricRegistry(derived={"b": lambda m: m["a"] * 2, "a": lambda m: m["x"] + 1, "c": lambda m: m["c"]})
    for step in (1, 2):
        registry.report_metrics(x=1.0)
        assert registry.snapshot(step).metrics == {"x": 1.0, "a": 2.0}
    assert [record.getMessage() for record in caplog.records] == [
        "derived metric 'b' uses 'a', which is not computed before it. Put 'a' before it in derived=.",
        "derived metric 'c' uses 'c', which is not computed before it. It cannot use its own value.",
    ]


def test_a_value_of_the_trainer_is_asked_for_without_the_prefix_of_the_evaluation(caplog) -> None:
    rules = {"share": lambda m: m["x"] / m["loss"], "wrong": lambda m: m["x"] / m["eval_loss"]}
    registry = MetricRegistry(derived=rules)
    for step in (1, 2):
        registry.report_metrics(x=1.0)
        assert registry.snapshot(step, logs={"loss": 4.0}).metrics == {"x": 1.0, "share": 0.25}
    (record,) = caplog.records
    assert record.getMessage().startswith("derived metric 'wrong' uses 'eval_loss', which no row so far has under this")


def test_an_input_absent_from_this_window_leaves_the_derived_metric_out() -> None:
    registry = MetricRegistry(derived={"a/double": lambda m: 2 * m["a/x"], "a/four": lambda m: 2 * m["a/double"]})
    registry.report_metrics("a", x=1.0, y=1.0)
    assert registry.snapshot(step=1).metrics["a/four"] == 4.0
    registry.report_metrics("a", y=1.0)
    assert dict(registry.snapshot(step=2).metrics) == {"a/y": 1.0}


def test_a_count_of_nonfinite_values_is_absent_from_windows_without_any() -> None:
    derived = {"a/bad": lambda m: m["a/y.nonfinite"] / 2}
    registry = MetricRegistry(nonfinite={"a/y": "skip"}, derived=derived)
    for value in (math.nan, 1.0):
        registry.report_metrics("a", y=value)
    assert registry.snapshot(1).metrics == {"a/y": 1.0, "a/y.nonfinite": 1.0, "a/bad": 0.5}
    registry.report_metrics("a", y=2.0)
    assert registry.snapshot(2).metrics == {"a/y": 2.0}
    other = MetricRegistry(nonfinite="skip", derived={"a/bad": lambda m: m["a/z.nonfinite"]})
    other.report_metrics("a", y=1.0)
    with pytest.raises(DerivedMetricError, match=r"a/z\.nonfinite"):
        other.snapshot(1)


@pytest.mark.parametrize("policy", ["propagate", "raise", {"b/*": "skip"}])
def test_a_count_of_nonfinite_values_that_the_registry_does_not_make_is_an_error(policy: Any) -> None:
    registry = MetricRegistry(nonfinite=policy, derived={"a/bad": lambda m: m["a/y.nonfinite"]})
    registry.report_metrics("a", y=1.0)
    with pytest.raises(DerivedMetricError, match=r"'a/y.nonfinite', .* MetricRegistry\(nonfinite=\{'a/y': 'skip'\}"):
        registry.snapshot(1)


def test_a_metric_of_the_spread_is_absent_on_one_rank_and_an_error_if_the_registry_keeps_no_spread() -> None:
    derived = {"a/most": lambda m: m["a/loss.rank_max"], "a/double": lambda m: 2 * m["a/loss"]}
    registry = MetricRegistry(derived=derived, spread="*/loss")
    registry.report_metrics("a", loss=1.0)
    assert registry.snapshot(1).metrics == {"a/loss": 1.0, "a/double": 2.0}
    other = MetricRegistry(derived=derived, spread="b/*")
    other.report_metrics("a", loss=1.0)
    with pytest.raises(DerivedMetricError, match=r"does not keep .*'a/loss' per rank. Set MetricRegistry\(spread='a/l"):
        other.snapshot(1)


@pytest.mark.parametrize("tasks", [["mlm"], ["mlm", "nsp"]])
def test_a_key_that_nobody_reports_is_an_error_that_names_the_nearest(tasks: list[str]) -> None:
    registry = MetricRegistry(derived={"mlm/ppl": lambda m: math.exp(m["mlm/los"])})
    for task in tasks:
        registry.report_metrics(task, loss=1.0)
    with pytest.raises(DerivedMetricError, match=r"'mlm/ppl' refers to 'mlm/los'.*Did you mean 'mlm/loss'"):
        registry.snapshot(step=1)


def test_a_derived_metric_is_not_proposed_to_itself() -> None:
    registry = MetricRegistry(derived={"a/y": lambda m: m["a/x"]})
    registry.report_metrics("a", loss=1.0)
    with pytest.raises(DerivedMetricError, match=r"'a/y' refers to 'a/x', which nothing has reported\. Known keys"):
        registry.snapshot(step=1)


def test_a_task_that_had_no_turn_yet_is_no_error(caplog) -> None:
    registry = MetricRegistry(derived={"rare/ppl": lambda m: math.exp(m["rare/loss"])})
    registry.report_metrics("mlm", loss=1.0)
    assert dict(registry.snapshot(step=1).metrics) == {"mlm/loss": 1.0}
    registry.report_metrics("rare", loss=0.0)
    assert registry.snapshot(step=2).metrics["rare/ppl"] == 1.0
    assert "'rare/loss', which nothing has reported" in caplog.text


def test_the_message_about_a_task_that_had_no_turn_yet_is_short_and_made_once(caplog, monkeypatch) -> None:
    made = []
    monkeypatch.setattr(derived, "did_you_mean", lambda *args: made.append(args) or "")
    registry = MetricRegistry(derived={"rare/ppl": lambda m: math.exp(m["rare/loss"])})
    for step in range(3):
        registry.report_metrics("mlm", **{f"m{i:03d}": 1.0 for i in range(500)})
        assert len(registry.snapshot(step=step).metrics) == 500
    assert len(made) == 1
    assert registry.dropped == {"derived: rare/ppl": 3}
    assert "Known keys: mlm/m000, mlm/m001, " in caplog.text
    assert "mlm/m019, …. If it is reported" in caplog.text
    assert "mlm/m020" not in caplog.text


def test_the_values_of_a_window_are_not_copied_for_each_derived_metric() -> None:
    class Counted(dict[str, float]):
        iterations = 0

        def __iter__(self) -> Iterator[str]:
            self.iterations += 1
            return super().__iter__()

    functions = {f"a/y{i}": lambda m, i=i: m["a/x"] + m.get(f"a/y{i - 1}", 0.0) + len(m) for i in range(4)}
    metrics = Counted({"a/x": 1.0})
    values, _ = Derived(functions, WarnOnce(logging.getLogger())).compute(metrics, {}, known=metrics)
    assert values == {"a/y0": 2.0, "a/y1": 5.0, "a/y2": 9.0, "a/y3": 14.0}
    assert metrics.iterations <= 1


def test_an_evaluation_need_not_report_what_training_does() -> None:
    registry = MetricRegistry(derived={"a/double": lambda m: 2 * m["a/train_only"]})
    with registry.phase("eval"):
        registry.report_metrics("a", loss=1.0)
    assert dict(registry.snapshot(step=0, phase="eval").metrics) == {"a/loss": 1.0}


def test_a_registered_key_may_come_late() -> None:
    registry = MetricRegistry(derived={"a/double": lambda m: 2 * m["a/late"]})
    registry.register("a/late", "mean")
    registry.report_metrics("a", x=1.0)
    assert dict(registry.snapshot(step=1).metrics) == {"a/x": 1.0}


def test_overflow_is_infinite_and_division_by_zero_no_number() -> None:
    registry = MetricRegistry(derived={"ppl": lambda m: math.exp(m["x"]), "ratio": lambda m: m["x"] / 0})
    registry.report_metrics(x=1e6)
    metrics = registry.snapshot(step=1).metrics
    assert metrics["ppl"] == math.inf
    assert math.isnan(metrics["ratio"])


def test_a_metric_may_be_called_as_the_end_of_a_spread_is() -> None:
    registry = MetricRegistry(derived={"a/double": lambda m: 2 * m["a/gpu.rank_max"]})
    registry.record("a", {"gpu": 1.0, "gpu.rank_max": 3.0})
    assert registry.snapshot(step=1).metrics["a/double"] == 6.0
    registry.record("a", {"gpu": 1.0})
    assert dict(registry.snapshot(step=2).metrics) == {"a/gpu": 1.0}


def test_a_function_that_fails_is_left_out_and_named_once(caplog) -> None:
    registry = MetricRegistry(derived={"log": lambda m: math.log(m["x"]), "own": lambda m: {}["mine"]})
    for step, x in enumerate((1.0, -1.0, -1.0, 1.0)):
        registry.report_metrics(x=x)
        metrics = registry.snapshot(step=step).metrics
        assert ("log" in metrics) == (x > 0)
    assert sum("'log' failed" in record.getMessage() for record in caplog.records) == 1
    assert sum("'own' failed" in record.getMessage() for record in caplog.records) == 1


def test_without_any_report_nothing_is_derived() -> None:
    assert dict(MetricRegistry(derived={"one": lambda m: 1.0}).snapshot(step=1).metrics) == {}


def test_a_derived_key_cannot_be_reported_or_registered() -> None:
    registry = MetricRegistry(derived={"mlm/ppl": lambda m: 1.0})
    with pytest.raises(MetricKeyError, match="derived"):
        registry.report_metrics("mlm", ppl=1.0)
    with pytest.raises(MetricKeyError, match="derived"):
        registry.register("mlm/ppl", "mean")


def test_what_is_no_function_is_refused() -> None:
    with pytest.raises(TypeError, match="mlm/ppl.*function"):
        MetricRegistry(derived={"mlm/ppl": "exp"})  # type: ignore[dict-item]


def test_the_loss_of_the_trainer_is_told_apart_from_a_slip_of_the_pen(caplog) -> None:
    registry = MetricRegistry(
        derived={"all/ppl": lambda m: math.exp(m["loss"]), "all/twice": lambda m: 2 * m["all/loss"]}
    )
    for step in (1, 2):
        registry.report_metrics("all", loss=1.5)
        registry.report_metrics(scale=1.0)  # so that ungrouped metrics are there
        assert dict(registry.snapshot(step).metrics) == {"all/loss": 1.5, "scale": 1.0, "all/twice": 3.0}
    (message,) = [record.getMessage() for record in caplog.records]
    assert "'loss', which the Trainer logs itself" in message
    assert "registry.snapshot(step, logs={'loss': ...})" in message
    registry.report_metrics("all", loss=1.5)
    assert registry.snapshot(3, logs={"loss": math.log(2.0)}).metrics["all/ppl"] == pytest.approx(2.0)


@pytest.mark.parametrize("derived", [{}, {"t/rate": lambda m: m["n"] / m["window.seconds"]}], ids=["none", "a rate"])
@pytest.mark.parametrize("name", ["window.seconds", "window.steps"])
def test_nobody_reports_what_a_window_has_itself(name, derived) -> None:
    registry = MetricRegistry(derived=derived)
    with pytest.raises(MetricKeyError, match="value of the window"):
        registry.record(None, {"n": 1.0, name: 5.0})
    with pytest.raises(MetricKeyError, match="value of the window"):
        MetricRegistry({name: "max"}, derived)
    registry.report_metrics("a", **{name: 5.0})
    assert registry.snapshot(step=1).metrics.keys() - {"t/rate"} == {"n", f"a/{name}"}


def test_a_metric_keeps_its_value_if_the_count_of_nan_or_an_end_of_a_spread_has_its_name(caplog) -> None:
    def body(ranks):
        registry = MetricRegistry(
            nonfinite="skip", spread="t/x", process_group=ranks, derived={"t/x.rank_max": lambda m: m["t/x"] + 10.0}
        )
        for step in (1, 2):
            registry.record("t", {"x": float(ranks.rank), "x.nonfinite": 7.0, "x.rank_min": 8.0})
            registry.record("t", {"x": math.nan})
            metrics = dict(registry.snapshot(step).metrics)
        return metrics

    expected = {"t/x": 0.5, "t/x.nonfinite": 7.0, "t/x.rank_min": 8.0, "t/x.rank_max": 10.5}
    assert Job(2).run(body) == [expected, expected]
    taken = [record.getMessage() for record in caplog.records if "is a metric of yours" in record.getMessage()]
    assert len(taken) == 2 * 3


@pytest.mark.parametrize("error", [KeyError(["a", "b"]), KeyError(), KeyError({"a": 1})], ids=repr)
def test_a_function_may_raise_an_error_about_a_key_that_is_no_text(error, caplog) -> None:
    def fails(metrics):
        raise error

    registry = MetricRegistry(derived={"t/d": fails})
    for step in (1, 2):
        registry.report_metrics("t", a=1.0)
        assert registry.snapshot(step).metrics == {"t/a": 1.0}
    assert [record.getMessage() for record in caplog.records] == [
        "derived metric 't/d' failed and is left out; training goes on."
    ]
