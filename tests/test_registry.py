from __future__ import annotations

import enum
import logging
import math
import re
import threading

import numpy as np
import pytest
import torch
from helpers.waiting import waiting

from mtask_sinks import MetricRegistry, Snapshot, weighted
from mtask_sinks.errors import ConflictError, MetricKeyError, MetricValueError, NonFiniteError, ReducerError
from mtask_sinks.reducers import Max


def test_a_window_ends_with_its_snapshot() -> None:
    registry = MetricRegistry()
    registry.report_metrics("a", x=1.0)
    assert dict(registry.snapshot(step=1).metrics) == {"a/x": 1.0}
    assert dict(registry.snapshot(step=2).metrics) == {}
    registry.report_metrics("a", x=5.0)
    assert dict(registry.snapshot(step=3).metrics) == {"a/x": 5.0}


def test_a_snapshot_says_when_and_of_what() -> None:
    registry = MetricRegistry()
    registry.report_metrics(x=1.0)
    import time

    before = time.time()
    snapshot = registry.snapshot(step=7, phase="train", epoch=0.5, logs={"loss": 2.0})
    assert isinstance(snapshot, Snapshot)
    assert (snapshot.step, snapshot.phase, snapshot.epoch, dict(snapshot.logs)) == (7, "train", 0.5, {"loss": 2.0})
    assert before <= snapshot.time <= time.time()


def test_a_task_that_did_not_report_is_absent_never_zero() -> None:
    registry = MetricRegistry()
    registry.report_metrics("a", x=1.0)
    registry.report_metrics("b", x=2.0)
    registry.snapshot(step=1)
    registry.report_metrics("a", x=3.0)
    snapshot = registry.snapshot(step=2)
    assert dict(snapshot.metrics) == {"a/x": 3.0}
    assert dict(snapshot.counts) == {"a/x": 1}


def test_coverage_counts_reports_not_elements() -> None:
    registry = MetricRegistry()
    for value in (
        torch.ones(10),
        1.0,
        None,
        torch.ones(3, 3),
        torch.tensor([]),
        weighted(1.0, 0),
        weighted(torch.ones(2), 4),
    ):
        registry.report_metrics("a", x=value)
    assert registry.snapshot(step=1).counts["a/x"] == 4


def test_one_key_is_one_metric_however_it_is_written() -> None:
    registry = MetricRegistry()
    registry.report_metrics("a/b", c=1.0)
    registry.report_metrics("a", **{"b/c": 2.0})
    registry.report_metrics(**{"a/b/c": 6.0})
    assert dict(registry.snapshot(step=1).metrics) == {"a/b/c": 3.0}


class Task(str, enum.Enum):  # noqa: UP042  # since Python 3.11, its members look different in an f-string
    PRICE = "price"


class Mode(enum.StrEnum):
    PRICE = "price"


@pytest.mark.parametrize("task", [Task.PRICE, Mode.PRICE, np.str_("price")])
def test_a_task_from_an_enumeration_is_the_string_that_it_is_equal_to(task: str) -> None:
    registry = MetricRegistry()
    registry.report_metrics(task, loss=1.0)
    registry.report_metrics("price", loss=2.0, **{task: 5.0})
    registry.report_metrics(**{task: 7.0})
    metrics = registry.snapshot(step=1).metrics
    assert dict(metrics) == {"price/loss": 1.5, "price/price": 5.0, "price": 7.0}
    assert {type(key) for key in metrics} == {str}


def test_metrics_may_be_called_like_our_arguments() -> None:
    registry = MetricRegistry()
    registry.report_metrics("t", task=1.0, state=2.0, self=3.0, name=4.0)
    assert dict(registry.snapshot(step=1).metrics) == {"t/task": 1.0, "t/state": 2.0, "t/self": 3.0, "t/name": 4.0}


def test_long_windows_are_folded_on_the_way_without_losing_anything() -> None:
    registry = MetricRegistry(reducers={"n": "count", "last": "last", "first": "first", "p": "median"})
    values = np.random.default_rng(0).normal(size=5000)
    for value in values:
        registry.report_metrics(mean=float(value), n=value, last=torch.tensor(value), first=value, p=float(value))
    snapshot = registry.snapshot(step=1)
    assert snapshot.metrics["mean"] == pytest.approx(values.mean(), rel=1e-12)
    assert snapshot.metrics["p"] == np.median(values)
    assert (snapshot.metrics["n"], snapshot.metrics["last"], snapshot.metrics["first"]) == (5000, values[-1], values[0])
    assert set(snapshot.counts.values()) == {5000}


def test_memory_of_a_window_is_bounded() -> None:
    registry = MetricRegistry()
    for _ in range(5000):
        registry.report_metrics("a", x=1.0, v=torch.ones(3))
        assert len(waiting(registry)) <= 2 * 1024


@pytest.mark.parametrize("reducer", ["mean", "max", "last"])
@pytest.mark.parametrize("odd", [math.nan, weighted(1.0, 2), torch.ones(3)])
def test_memory_of_a_key_that_is_reported_more_often_than_others_is_bounded(reducer: str, odd: object) -> None:
    registry = MetricRegistry(reducers={"busy": reducer})
    registry.report_metrics(**{f"k{number}": 1.0 for number in range(200)})
    for number in range(12_000):
        registry.report_metrics(busy=odd if number % 100 == 0 else 1.0)
        assert len(waiting(registry)) <= 8192 + 1024
    assert registry.snapshot(step=1).counts["busy"] == 12_000


def test_memory_of_large_tensors_in_a_window_is_bounded() -> None:
    registry = MetricRegistry(reducers={"a/most": "max"})
    losses = torch.ones(100, 100)
    for _ in range(100):
        registry.report_metrics("a", x=losses, most=losses)
        assert sum(len(entry.values) for entry in waiting(registry)) <= 300_000
    assert registry.snapshot(step=1).counts == {"a/x": 100, "a/most": 100}


def test_a_function_reducer_past_its_bound_says_so_once(caplog) -> None:
    from mtask_sinks.reducers import FunctionReducer

    registry = MetricRegistry(reducers={"x": FunctionReducer(lambda values: float(len(values)), max_values=100)})
    for _ in range(2):
        registry.report_metrics(x=np.arange(1000.0))
        assert registry.snapshot(step=1).metrics["x"] == 100.0
    assert len(caplog.records) == 1
    assert "x: one window has more than 100 values" in caplog.text


# Phases


def test_phases_have_windows_of_their_own() -> None:
    registry = MetricRegistry()
    registry.report_metrics(x=1.0)
    with registry.phase("eval"):
        registry.report_metrics(x=10.0)
        with registry.phase("probe"):
            registry.report_metrics(x=100.0)
        registry.report_metrics(x=20.0)
    registry.report_metrics(x=3.0)
    values = {phase: registry.snapshot(step=1, phase=phase).metrics["x"] for phase in ("train", "eval", "probe")}
    assert values == {"train": 2.0, "eval": 15.0, "probe": 100.0}


def test_a_phase_ends_with_its_block_also_by_an_exception() -> None:
    registry = MetricRegistry()
    with pytest.raises(RuntimeError), registry.phase("eval"):
        raise RuntimeError
    registry.report_metrics(x=1.0)
    assert registry.snapshot(step=1).metrics["x"] == 1.0


def test_discard_forgets_one_window_only() -> None:
    registry = MetricRegistry()
    registry.report_metrics(x=1.0)
    with registry.phase("eval"):
        registry.report_metrics(x=2.0)
    assert [registry.discard("train"), registry.discard("train")] == [True, False]
    assert (len(registry.snapshot(step=1).metrics), len(registry.snapshot(step=1, phase="eval").metrics)) == (0, 1)


# Keys


@pytest.mark.parametrize(("task", "name"), [("mlm loss", "x"), ("", "x"), ("a", "x y"), ("..", "x"), ("a", "x/")])
def test_an_invalid_key_is_refused_at_its_first_report(task: str, name: str) -> None:
    with pytest.raises(MetricKeyError, match="is no valid key"):
        MetricRegistry().report_metrics(task, **{name: 1.0})


@pytest.mark.parametrize("value", [1.0, torch.tensor(1.0), None, "text", torch.empty(0)])
def test_an_invalid_key_is_refused_whatever_its_value(value: object) -> None:
    with pytest.raises(MetricKeyError):
        MetricRegistry().report_metrics("a b", x=value)


@pytest.mark.parametrize("first", [torch.tensor(1.0), {"loss": 1.0}, 3, ["a"]])
def test_a_value_in_the_place_of_the_task_is_refused(first: object) -> None:
    with pytest.raises(MetricKeyError, match="name of the task.*by keyword"):
        MetricRegistry().report_metrics(first)  # type: ignore[arg-type]


def test_a_task_by_keyword_or_behind_a_value_is_told_its_place() -> None:
    remedy = "task: the name of the task comes first, without a keyword: report_metrics('mlm', loss=loss)."
    with pytest.raises(MetricValueError, match=re.escape(remedy)):
        MetricRegistry().report_metrics(task="mlm")
    with pytest.raises(MetricKeyError, match=re.escape("by keyword: report_metrics('mlm', loss=loss).")):
        MetricRegistry().report_metrics(torch.tensor(1.0), "mlm")  # type: ignore[arg-type]


def test_reserved_names_are_refused_ungrouped_and_fine_in_a_task() -> None:
    registry = MetricRegistry()
    registry.reserve(lambda key: key == "loss")
    registry.report_metrics("mlm", loss=1.0)
    with pytest.raises(MetricKeyError, match="'loss' is a name that the Trainer logs"):
        registry.report_metrics(loss=1.0)


def test_further_keys_than_allowed_are_dropped_with_one_warning_that_names_the_caller(caplog) -> None:
    registry = MetricRegistry(max_keys=np.int64(3))
    for step in range(10):
        registry.report_metrics(**{f"loss_{step}": 1.0})
    assert list(registry.snapshot(step=1).metrics) == ["loss_0", "loss_1", "loss_2"]
    assert registry.dropped == {"max_keys": 7}
    assert len(caplog.records) == 1
    assert "test_registry.py" in caplog.text
    registry.report_metrics(loss_1=5.0)
    assert registry.snapshot(step=2).metrics["loss_1"] == 5.0


def test_the_warning_of_too_many_keys_has_the_number_that_was_passed(caplog) -> None:
    registry = MetricRegistry(max_keys=1, derived={"y": lambda m: m["x"] / m["window.steps"]})
    registry.report_metrics(x=1.0)
    registry.report_metrics(z=1.0)
    assert "more than max_keys=1 distinct keys" in caplog.text


def test_tasks_made_by_number_do_not_grow_the_registry() -> None:
    registry = MetricRegistry(max_keys=2)
    for step in range(100):
        registry.report_metrics(f"task{step}", x=1.0)
    assert len(registry._phases.current.buffers) == 2


def test_the_limit_counts_keys_not_phases() -> None:
    registry = MetricRegistry(max_keys=1)
    registry.report_metrics(x=1.0)
    with registry.phase("eval"):
        registry.report_metrics(x=2.0)
    assert registry.snapshot(step=1, phase="eval").metrics["x"] == 2.0


# Policies


def test_rules_choose_the_reducer() -> None:
    registry = MetricRegistry(
        reducers={"*/n": "sum", "mlm/*": Max(), "mlm/n": "last", "lr": lambda values: values[0] * 10}
    )
    for value in (1.0, 3.0, 2.0):
        registry.report_metrics("mlm", loss=value, n=value)
        registry.report_metrics("nsp", loss=value, n=value)
        registry.report_metrics(lr=value)
    assert dict(registry.snapshot(step=1).metrics) == {"mlm/loss": 3, "mlm/n": 2, "nsp/loss": 2, "nsp/n": 6, "lr": 10}


def test_an_unknown_reducer_is_refused_when_the_registry_is_made() -> None:
    with pytest.raises(ReducerError, match="'avg' is no reducer"):
        MetricRegistry(reducers={"*": "avg"})


def test_a_key_can_be_registered_twice_alike_but_not_differently() -> None:
    registry = MetricRegistry(reducers={"b": "p95"})
    registry.register("a", "mean")
    registry.register("a", "mean")
    registry.register("b", "p95")
    with pytest.raises(ConflictError, match=r"'a' is reduced by Mean\(\).*Sum\(\)"):
        registry.register("a", "sum")


def test_a_key_cannot_change_its_reducer_after_a_report() -> None:
    registry = MetricRegistry()
    registry.report_metrics(a=1.0)
    registry.register("a", "mean")
    with pytest.raises(ConflictError):
        registry.register("a", "sum")


def test_a_pattern_cannot_be_registered() -> None:
    with pytest.raises(MetricKeyError):
        MetricRegistry().register("*/n", "sum")


def test_a_reducer_that_fails_costs_its_own_value_only(caplog) -> None:
    registry = MetricRegistry(reducers={"bad": lambda values: 1 / 0, "worse": lambda values: "much"})
    for step in range(2):
        registry.report_metrics(bad=1.0, worse=1.0, good=2.0)
        assert dict(registry.snapshot(step=step).metrics) == {"good": 2.0}
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["bad", "worse"]
    assert "ZeroDivisionError" in caplog.text


# NaN and Inf


def test_nan_propagates_by_default_and_is_counted(caplog) -> None:
    registry = MetricRegistry()
    for value in (1.0, math.nan, math.inf, torch.tensor([1.0, math.nan])):
        registry.report_metrics("a", x=value)
    snapshot = registry.snapshot(step=4)
    assert math.isnan(snapshot.metrics["a/x"])
    assert snapshot.nonfinite == {"a/x": 3}
    assert list(snapshot.metrics) == ["a/x"]
    assert "a/x: NaN or Inf was reported, for the first time in the window up to step 4" in caplog.text


def test_keys_that_become_nan_in_one_window_have_one_message(caplog) -> None:
    registry = MetricRegistry()
    for step, nans in enumerate((2, 50, 60)):
        registry.report_metrics("a", **{f"x{i:02d}": math.nan if i < nans else 1.0 for i in range(60)})
        assert len(registry.snapshot(step=step).nonfinite) == nans
    named = ", ".join(f"a/x{i:02d}" for i in range(2, 22))
    assert [record.getMessage().partition(": ")[0] for record in caplog.records] == [
        "a/x00, a/x01",
        f"{named}, …",
        ", ".join(f"a/x{i:02d}" for i in range(50, 60)),
    ]
    assert registry.dropped == {f"nonfinite: a/x{i:02d}": 3 if i < 2 else 2 if i < 50 else 1 for i in range(60)}


def test_skipped_values_leave_their_number() -> None:
    registry = MetricRegistry(nonfinite="skip")
    for value in (1.0, math.nan, 3.0, math.inf, torch.tensor([2.0, -math.inf])):
        registry.report_metrics("a", x=value)
    snapshot = registry.snapshot(step=1)
    assert dict(snapshot.metrics) == {"a/x": 2.0, "a/x.nonfinite": 3.0}
    assert snapshot.counts["a/x"] == 3


def test_a_window_of_nothing_but_nan_leaves_only_the_number() -> None:
    registry = MetricRegistry(nonfinite={"a/*": "skip"})
    registry.report_metrics("a", x=math.nan)
    registry.report_metrics("b", x=math.nan)
    metrics = registry.snapshot(step=1).metrics
    assert set(metrics) == {"a/x.nonfinite", "b/x"}
    assert math.isnan(metrics["b/x"])


def test_raise_raises_at_the_log_event_not_at_the_report() -> None:
    registry = MetricRegistry(nonfinite={"a/x": "raise"})
    registry.report_metrics("a", x=math.nan, y=math.nan)
    with pytest.raises(NonFiniteError, match=r"up to step 5 \(train\): a/x \(1\)"):
        registry.snapshot(step=5)
    registry.report_metrics("a", x=1.0)
    assert registry.snapshot(step=6).metrics["a/x"] == 1.0


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="'ignore'.*propagate, skip, raise"):
        MetricRegistry(nonfinite="ignore")  # type: ignore[arg-type]


# Directions


def test_a_registry_has_the_directions_that_it_was_given() -> None:
    rules = {"*/bias": "min", "a/x": "max", "a/acc": None}
    registry = MetricRegistry(directions=rules)
    assert registry.directions == {"*/bias": "min", "a/x": "max", "a/acc": None}
    rules["late"] = "max"
    assert "late" not in registry.directions
    with pytest.raises(TypeError):
        registry.directions["late"] = "max"  # type: ignore[index]
    assert MetricRegistry().directions == {}


def test_an_unknown_direction_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'\*/bias': 'smaller'.*allowed are 'min' .*, 'max' .* and None"):
        MetricRegistry(directions={"a/x": "max", "*/bias": "smaller"})  # type: ignore[dict-item]
    with pytest.raises(MetricKeyError):
        MetricRegistry(directions={"a bias": "min"})


# Values of the wrong type


def test_a_wrong_value_is_refused_at_first_and_dropped_later(caplog) -> None:
    registry = MetricRegistry()
    with pytest.raises(MetricValueError, match="a/x"):
        registry.report_metrics("a", x="0.5")
    registry.report_metrics("a", x=1.0)
    for step in range(3):
        registry.report_metrics("a", x="0.5", y=2.0)
        registry.snapshot(step=step)
    assert registry.dropped == {"refused: a/x": 3}
    assert len(caplog.records) == 1
    assert "test_registry.py" in caplog.text


def test_a_wrong_value_in_evaluation_is_dropped_if_training_went_well() -> None:
    registry = MetricRegistry()
    registry.report_metrics(x=1.0)
    registry.snapshot(step=1)
    with registry.phase("eval"):
        registry.report_metrics(x="n/a")
    assert registry.dropped == {"refused: x": 1}


# Arguments of a wrong type


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("reducers", value) for value in ("sum", ["mean"], {"mlm/loss"})),
        *(("derived", value) for value in ("a/b", [max], {"a": lambda: 1.0}, {"a": lambda m, n: 1.0})),
        *(("nonfinite", value) for value in (None, ["skip"], True)),
        *(("spread", value) for value in (True, [1], None)),
        *(("per_epoch", value) for value in (True, [1], 3)),
        *(("max_keys", value) for value in ("100", 0, -1, 10.0, None)),
        *(("process_group", value) for value in (3, [0, 1], "gloo")),
    ],
)
def test_an_argument_of_a_wrong_type_is_named_with_what_to_pass(name, value) -> None:
    with pytest.raises((TypeError, ValueError), match=rf"{name}.*pass"):
        MetricRegistry(**{name: value})


@pytest.mark.parametrize("name", ["reducers", "nonfinite", "directions"])
def test_a_key_that_is_no_string_is_refused(name) -> None:
    policy = {"reducers": "sum", "nonfinite": "skip", "directions": "min"}[name]
    with pytest.raises(MetricKeyError, match="3 is no valid key: it is of type int"):
        MetricRegistry(**{name: {3: policy}})


def test_a_rank_outside_of_a_new_process_group_may_pass_what_torch_gives_it() -> None:
    registry = MetricRegistry(process_group=torch.distributed.GroupMember.NON_GROUP_MEMBER)
    registry.report_metrics(x=2.0)
    assert registry.snapshot(step=1).metrics == {"x": 2.0}


# Threads


def test_reports_from_many_threads_all_count() -> None:
    registry = MetricRegistry(reducers={"*": "count"})

    def report() -> None:
        for number in range(3000):
            registry.report_metrics("a", **{f"k{number % 7}": 1.0, "v": torch.ones(2)})

    threads = [threading.Thread(target=report) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    snapshot = registry.snapshot(step=1)
    assert snapshot.metrics["a/v"] == 4 * 3000 * 2
    assert sum(value for key, value in snapshot.metrics.items() if key != "a/v") == 4 * 3000
    assert logging.getLogger("mtask_sinks").level == logging.NOTSET


@pytest.mark.parametrize("step", ["1", 1.5, None, True, torch.tensor(1.5)])
def test_a_step_that_is_no_whole_number_is_refused_and_changes_nothing(step) -> None:
    registry = MetricRegistry()
    registry.report_metrics("mlm", loss=2.0)
    calls = (
        registry.snapshot,
        registry.overall,
        registry.end_epoch,
        lambda step: registry.load_state_dict({}, step=step),
    )
    for call in calls:
        with pytest.raises(TypeError, match=r"step=.*: pass the number of optimizer steps taken so far"):
            call(step)
    assert registry.snapshot(step=4).metrics == {"mlm/loss": 2.0}


def test_a_step_and_an_epoch_of_numpy_or_torch_become_plain_numbers() -> None:
    registry = MetricRegistry()
    found = registry.snapshot(np.int64(3), epoch=np.float32(0.5)), registry.snapshot(torch.tensor(4))
    assert [(type(each.step), each.step) for each in found] == [(int, 3), (int, 4)]
    assert (type(found[0].epoch), found[0].epoch) == (float, 0.5)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"epoch": "1"}, "epoch='1': pass the number of epochs done"),
        ({"logs": ["loss"]}, r"logs=\['loss'\]: pass a mapping such as"),
        ({"phase": 3}, "3 is no phase: pass its name, a string such as 'eval'"),
    ],
)
def test_other_wrong_arguments_of_a_snapshot_are_named(given, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        MetricRegistry().snapshot(1, **given)


def test_a_phase_that_is_no_string_is_refused_everywhere() -> None:
    registry = MetricRegistry()
    calls = (registry.state_dict, registry.discard, lambda phase: registry.load_state_dict({}, phase))
    for call in calls:
        with pytest.raises(TypeError, match="None is no phase"):
            call(None)
    with pytest.raises(TypeError, match="None is no phase"), registry.phase(None):
        pass
    with pytest.raises(TypeError, match="state=None: pass a mapping such as the result of state_dict"):
        registry.load_state_dict(None)


def test_a_snapshot_of_a_phase_that_never_began_says_which_phases_there_are(caplog) -> None:
    registry = MetricRegistry()
    with registry.phase("eval"):
        pass  # a phase without reports is no mistake
    assert not registry.snapshot(1, "eval").metrics and not caplog.records
    assert not registry.snapshot(1, "evla").metrics
    [record] = caplog.records
    assert "snapshot(phase='evla') is empty" in record.message and "train, eval." in record.message


def test_a_checkpoint_around_the_saved_state_is_refused_and_the_window_goes_on() -> None:
    registry = MetricRegistry()
    registry.report_metrics("mlm", loss=2.0)
    checkpoint = {"model": {}, "metrics": registry.state_dict()}
    with pytest.raises(ValueError, match=r"got a dict with 'model', 'metrics', which state_dict\(\) did not make"):
        registry.load_state_dict(checkpoint)
    registry.load_state_dict(checkpoint["metrics"])
    assert registry.snapshot(step=1).metrics == {"mlm/loss": 2.0}


def test_a_saved_key_for_which_there_is_no_room_is_named_with_the_reason(caplog) -> None:
    saving = MetricRegistry()
    saving.report_metrics("mlm", loss=2.0, accuracy=0.5)
    registry = MetricRegistry(max_keys=1)
    registry.load_state_dict(saving.state_dict())
    assert registry.snapshot(step=1).metrics == {"mlm/loss": 2.0}
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith("mlm/accuracy: ")
    assert message.endswith("the registry has no room for further keys")
