"""Limits what a report and a log event may cost, as counts that are the same everywhere. Times are in `benchmarks/`."""

from __future__ import annotations

import gc
import math
import subprocess
import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from helpers.accelerator import accelerated, taking_the_accelerators_way
from helpers.waiting import waiting
from helpers.watched import watched
from torch.utils._python_dispatch import TorchDispatchMode

import mtask_sinks.registry
from mtask_sinks import MetricRegistry, RunInfo, Snapshot, report_metrics, weighted
from mtask_sinks.delivery.pipeline import Delivery
from mtask_sinks.journal.records import encode
from mtask_sinks.journal.writer import Journal
from mtask_sinks.reducers import Floats, Reducer
from mtask_sinks.reporting.binding import BoundReport
from mtask_sinks.sinks import MemorySink, TensorBoardSink

FIXED_STATE = ("mean", "sum", "count", "min", "max", "std", "last", "first")


class Operators(TorchDispatchMode):
    """Counts the operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.counts[func.__name__.split(".")[0]] += 1
        return func(*args, **(kwargs or {}))


class CountedRanks:
    """Simulates two ranks that report the same, and counts the collectives and their numbers."""

    rank, size = 0, 2

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.numbers = 0

    def maximum(self, vector: Floats) -> Floats:
        self._count("maximum", vector)
        return vector

    def total(self, vector: Floats) -> Floats:
        self._count("total", vector)
        return 2 * vector

    def gather(self, vector: Floats) -> list[Floats]:
        self._count("gather", vector)
        return [vector, vector]

    def gather_objects(self, item: Any) -> list[Any]:
        self.calls.append("gather_objects")
        return [item, item]

    def _count(self, name: str, vector: Floats) -> None:
        self.calls.append(name)
        self.numbers += len(vector)


# Operators


def test_a_loss_on_the_host_takes_one_operator() -> None:
    registry = MetricRegistry()
    losses = {f"k{number}": torch.rand((), requires_grad=True) * 1 for number in range(16)}
    with Operators() as seen:
        registry.report_metrics("t", **losses)
    assert seen.counts == {"_local_scalar_dense": 16}


def test_a_weighted_loss_takes_one_more_for_a_weight_that_is_a_tensor() -> None:
    registry = MetricRegistry()
    loss, count = torch.rand((), requires_grad=True) * 1, torch.tensor(3)
    with Operators() as seen:
        registry.report_metrics("t", a=weighted(loss, 3), b=weighted(loss, count))
    assert seen.counts == {"_local_scalar_dense": 3}


def test_a_short_vector_is_read_at_once() -> None:
    registry = MetricRegistry()
    vector = torch.rand(10, requires_grad=True) * 1
    with Operators() as seen:
        registry.report_metrics("t", x=vector)
    assert not set(seen.counts) & {"_to_copy", "clone", "mean", "sum", "_local_scalar_dense"}


def test_a_log_event_runs_no_operator_when_everything_is_on_the_host() -> None:
    registry = MetricRegistry()
    for _ in range(10):
        registry.report_metrics("t", loss=torch.ones(()), vector=torch.ones(5), pair=weighted(torch.ones(()), 2))
    with Operators() as seen:
        registry.snapshot(step=1)
    assert not seen.counts


@pytest.mark.parametrize("keys", [1, 64])
def test_values_on_a_device_take_one_copy_a_report_and_one_a_log_event(keys: int) -> None:
    registry = MetricRegistry()
    values = {f"k{number}": accelerated(number / 7) for number in range(keys)}
    with taking_the_accelerators_way() as reports:
        registry.report_metrics("t", **values)
        with Operators() as reporting:
            registry.report_metrics("t", **values)
    assert reports == [keys, keys]
    assert reporting.counts["cat"] == 1
    assert not set(reporting.counts) & {"_local_scalar_dense", "_to_copy", "stack"}
    with Operators() as logging:
        registry.snapshot(step=1)
    assert logging.counts["cat"] == 1
    assert "_local_scalar_dense" not in logging.counts


# Memory


@pytest.mark.parametrize("reducer", FIXED_STATE)
def test_a_window_keeps_as_much_after_many_updates_as_after_one(reducer: str) -> None:
    registry = MetricRegistry(reducers={"*": reducer})

    def kept_after(calls: int) -> int:
        for number in range(calls):
            registry.report_metrics("t", a=float(number), b=weighted(float(number), 2), c=torch.ones(3))
        gc.collect()
        return len(waiting(registry)) + len(gc.get_objects())

    update = mtask_sinks.aggregation.accumulator.MAX_WAITING

    def grows() -> bool:
        kept_after(update)  # from now on, as many values are left in the buffers each time
        before = kept_after(update)
        # Twenty more are allowed for the objects of the test itself. One list or array per update would be 60 more.
        return kept_after(20 * update) > before + 20

    # A thread of an earlier test, such as one that looks for its server, may make objects meanwhile; but not each time.
    assert not all(grows() for _ in range(5))


@pytest.mark.parametrize("steps", [50, 2000])
def test_a_log_event_has_as_little_to_add_up_after_many_steps_as_after_few(steps: int) -> None:
    registry = MetricRegistry()
    values = {f"k{number}": float(number) for number in range(200)}
    for _ in range(steps):
        registry.report_metrics("t", **values, pair=weighted(0.5, 3), vector=torch.ones(3))
    assert len(waiting(registry)) <= 8192 + 202
    assert registry.snapshot(step=1).metrics["t/k7"] == 7.0


@pytest.mark.parametrize("odd", [weighted(1.0, 0), math.nan, torch.ones(3)])
def test_nor_does_it_after_a_value_that_is_more_than_a_sum(odd: object) -> None:
    registry = MetricRegistry()
    for number in range(2000):
        registry.report_metrics(
            "t", **{f"k{key}": odd if number % 500 == 7 else weighted(0.5, 3) for key in range(200)}
        )
    assert len(waiting(registry)) <= 8192 + 64 * 200


def test_values_that_are_more_than_a_sum_wait_for_fewer_and_larger_updates() -> None:
    class Updates(Reducer):
        merge = ("sum",)

        def update(self, state, values, weights) -> None:
            sizes.append(len(values))

        def compute(self, state) -> float:
            return 0.0

    sizes: list[int] = []
    registry = MetricRegistry(reducers={"*/x": Updates()})
    for _ in range(300_000):
        registry.report_metrics("t", x=1.0)
    assert sizes == [1024] * 292


def test_nothing_of_a_tensor_is_kept_but_its_number() -> None:
    registry = MetricRegistry()
    logits, is_held = watched(64, 100)
    loss = (logits * 2).sum()
    before = sys.getrefcount(loss)
    registry.report_metrics(loss=loss, view=logits[0, 0], row=logits[0, :5], pair=weighted(logits[0, 0], logits[1, 1]))
    assert sys.getrefcount(loss) == before
    del logits, loss
    assert not is_held()


# Ranks


@pytest.mark.parametrize("keys", [4, 4096])
def test_a_log_event_of_means_takes_one_collective_whatever_the_number_of_keys(keys: int) -> None:
    ranks = CountedRanks()
    registry = MetricRegistry(process_group=ranks, max_keys=keys)
    for step in range(3):
        ranks.calls.clear()
        registry.report_metrics("t", **{f"k{number}": float(number) for number in range(keys)})
        metrics = registry.snapshot(step).metrics
        assert len(metrics) == keys
    assert ranks.calls == ["total"]


@pytest.mark.parametrize("keys", [4, 4096])
def test_a_log_event_of_any_reducers_takes_two_collectives_whatever_the_number_of_keys(keys: int) -> None:
    ranks = CountedRanks()
    registry = MetricRegistry(
        {f"*{digit}": name for digit, name in enumerate(FIXED_STATE)}, process_group=ranks, max_keys=keys
    )
    for step in range(3):
        ranks.calls.clear()
        registry.report_metrics("t", **{f"k{number}": float(number) for number in range(keys)})
        assert len(registry.snapshot(step).metrics) == keys
    assert ranks.calls == (["maximum", "total"])


def test_a_mean_travels_as_four_numbers() -> None:
    def numbers(keys: int) -> int:
        ranks = CountedRanks()
        registry = MetricRegistry(process_group=ranks)
        for step in range(2):
            ranks.numbers = 0
            registry.report_metrics("t", **{f"k{number}": float(number) for number in range(keys)})
            registry.snapshot(step)
        return ranks.numbers

    assert numbers(101) - numbers(1) == 4 * 100


def test_only_a_new_key_costs_a_further_round() -> None:
    ranks = CountedRanks()
    registry = MetricRegistry(process_group=ranks)
    calls = []
    for names in ("a", "a", "ab", "ab"):
        ranks.calls.clear()
        registry.report_metrics("t", **dict.fromkeys(names, 1.0))
        registry.snapshot(step=1)
        calls.append(len(ranks.calls))
    assert calls == [3, 1, 3, 1]


# The journal and TensorBoard's files


def of_means(keys: int, step: int = 1) -> Snapshot:
    names = [f"task/metric_{number:03}" for number in range(keys)]
    values = np.random.default_rng(0).random(keys).tolist()
    return Snapshot(step, metrics=dict(zip(names, values, strict=True)), counts=dict.fromkeys(names, 50), time=1e9)


@pytest.mark.parametrize("keys", [1, 500])
def test_a_log_event_is_two_system_calls_in_the_journal(tmp_path, keys: int) -> None:
    journal = Journal(tmp_path / "metrics.jsonl")
    journal.begin(RunInfo(id="1"))
    journal.append(of_means(keys))
    assert _system_calls(lambda: journal.append(of_means(keys, 2))) == {"stat": 1, "write": 1}
    journal.close()


@pytest.mark.parametrize("sinks", [0, 1, 8])
def test_sinks_cost_the_training_thread_no_system_call_of_their_own(tmp_path, sinks: int) -> None:
    kinds = [type(f"Nowhere{number}", (MemorySink,), {"name": f"nowhere{number}"}) for number in range(sinks)]
    delivery = Delivery([kind() for kind in kinds])
    delivery.open(RunInfo(id="1", output_dir=str(tmp_path)))
    delivery.write(of_means(3))
    # getpid, because the delivery checks whether the process was forked.
    assert _system_calls(lambda: delivery.write(of_means(3, 2))) == {"getpid": 1, "stat": 1, "write": 1}
    delivery.close("finished")


@pytest.mark.parametrize("keys", [1, 500])
def test_a_snapshot_is_one_write_to_tensorboards_file(tmp_path, keys: int) -> None:
    sink = TensorBoardSink(tmp_path)
    sink.open(RunInfo(id="1"))
    sink.write(of_means(keys))
    assert _system_calls(lambda: sink.write(of_means(keys, 2))) == {"stat": 1, "write": 1}
    sink.close("finished")


def test_bytes_a_metric(tmp_path) -> None:
    def of_journal(keys: int) -> int:
        return len(encode(of_means(keys)))

    def of_events(keys: int) -> int:
        sink = TensorBoardSink(tmp_path / str(keys))
        sink.open(RunInfo(id="1"))
        sink.write(of_means(keys))
        (path,) = (tmp_path / str(keys)).glob("*tfevents*")
        before = path.stat().st_size
        sink.write(of_means(keys, 2))
        sink.close("finished")
        return path.stat().st_size - before

    name, digits = len("task/metric_000"), 20
    # Twice the name with quotes, colon and comma: once with a value of up to 20 digits, once with "50".
    assert of_journal(300) - of_journal(200) <= 100 * (2 * (name + 4) + digits + 2)
    # The name with its phase, a float, and five bytes for lengths and tags.
    assert of_events(300) - of_events(200) == 100 * (len("task/train/metric_000") + 4 + 5)


# Python


def test_a_report_of_floats_calls_nothing_of_ours_per_value() -> None:
    registry = MetricRegistry()
    values: dict[str, Any] = {f"k{number}": float(number) for number in range(32)}
    registry.report_metrics("t", **values)
    once = {"record": 1, "is_recompute": 1, "store": 1}
    assert _calls_of_ours(lambda: registry.report_metrics("t", **values)) == {"report_metrics": 1, **once}
    assert _calls_of_ours(lambda: BoundReport(registry)("t", **values)) == {"__init__": 1, "__call__": 1, **once}
    with registry.activate():
        assert _calls_of_ours(lambda: report_metrics("t", **values)) == {"report_metrics": 1, **once}


def test_any_other_value_takes_four_calls_of_ours_at_most() -> None:
    registry = MetricRegistry()
    kinds: dict[str, Any] = {"k0": torch.ones(()), "k5": 3, "k7": weighted(0.5, 2), "k9": torch.ones(4)}
    registry.report_metrics("t", **kinds)
    for name, value in kinds.items():
        calls = _calls_of_ours(lambda: registry.store("t", {name: value}))  # noqa: B023
        assert calls["store"] == 2  # of the registry, and of its intake
        assert calls["read"] == (type(value) is not torch.Tensor)  # the intake calls the reader of tensors directly
        assert sum(calls.values()) <= 2 + 4, (name, calls)


@pytest.mark.parametrize("ranks", [None, CountedRanks()])
def test_a_log_event_grows_by_a_few_calls_a_key(ranks: CountedRanks | None) -> None:
    def calls(keys: int) -> int:
        registry = _used(keys, ranks)
        return sum(_calls_of_ours(lambda: registry.snapshot(step=1)).values())

    assert (calls(110) - calls(10)) / 100 <= 8


@pytest.mark.parametrize("ranks", [None, CountedRanks()])
def test_a_log_event_of_means_asks_numpy_as_often_for_many_keys_as_for_few(ranks: CountedRanks | None) -> None:
    def calls(keys: int) -> int:
        registry = _used(keys, ranks)
        return _calls_of_numpy(lambda: registry.snapshot(step=1))

    assert calls(110) == calls(10)


def _used(keys: int, ranks: CountedRanks | None) -> MetricRegistry:
    """Make a registry that has had one log event, with reports for a second one."""
    registry = MetricRegistry(process_group=ranks)
    for step in range(2):
        for _ in range(50):
            registry.report_metrics("t", **{f"k{number}": np.pi for number in range(keys)})
        if not step:
            registry.snapshot(step)
    return registry


def _calls_of_numpy(run: Any) -> int:
    """Count the calls of NumPy's functions and of methods of arrays."""
    called = 0

    def note(frame: Any, event: str, function: Any) -> None:
        nonlocal called
        if event == "c_call":
            owner = getattr(function, "__self__", None)
            called += isinstance(owner, np.ndarray) or "numpy" in (getattr(function, "__module__", None) or "")

    _profiled(run, note)
    return called


def _system_calls(run: Any) -> Counter[str]:
    """Count the calls of each function of the operating system in this thread, except locks."""
    called: Counter[str] = Counter()

    def note(frame: Any, event: str, function: Any) -> None:
        if event == "c_call" and getattr(function, "__module__", None) == "posix" and function.__name__ != "fspath":
            called[function.__name__] += 1

    _profiled(run, note)
    return called


def _calls_of_ours(run: Any) -> Counter[str]:
    """Count the calls of each Python function of the package."""
    called: Counter[str] = Counter()

    def note(frame: Any, event: str, _: Any) -> None:
        if event == "call" and "mtask_sinks" in frame.f_globals.get("__name__", ""):
            called[frame.f_code.co_name] += 1

    _profiled(run, note)
    return called


def _profiled(run: Any, note: Any) -> None:
    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(None)


def test_the_trainer_imports_no_module_that_few_trainings_need() -> None:
    rare = ["mtask_sinks.task_health.meter", "mtask_sinks.sinks.mlflow", "mtask_sinks.sinks.wandb"]
    code = (
        f"import sys; from transformers import Trainer; rare = {{*{rare}}} - sys.modules.keys(); "
        "from mtask_sinks import HfMultiTaskTrainer; print(rare & sys.modules.keys() or 'none')"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "none"
