"""Reports from compiled code: the values of an eager run, without a graph break and without a recompilation."""

from __future__ import annotations

import enum
import gc
import weakref
from collections.abc import Iterator
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch
from helpers.accelerator import taking_the_accelerators_way
from helpers.watched import watched
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch._dynamo.utils import counters
from torch.utils.checkpoint import checkpoint

import mtask_sinks.compiled.handles
from mtask_sinks import MetricRegistry, report_metrics, weighted
from mtask_sinks.compiled import operator
from mtask_sinks.errors import MetricKeyError, MetricValueError
from mtask_sinks.reducers import known_reducers
from mtask_sinks.reporting.binding import bound

BACKENDS = ["eager", "aot_eager", "inductor"]


pytestmark = pytest.mark.usefixtures("fresh_compiler")


def compiled(function, backend="aot_eager", **options):
    """Compile a function, without graph breaks. Returns it and a counter of its graphs."""
    counter = CompileCounterWithBackend(backend)
    return torch.compile(function, backend=counter, fullgraph=True, **options), counter


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_kind_of_value_is_what_it_is_in_eager_code(backend: str) -> None:
    sums = ("n", "big", "flags", "python_int")
    registry = MetricRegistry(reducers={f"t/{name}": "sum" for name in sums} | {"t/median": "median", "t/last": "last"})
    array, scalar = np.array([[1.0, 2.0], [3.0, 6.0]]), np.float32(0.1)

    def step(x, mask):
        registry.report_metrics(
            "t",
            total=x.sum(),
            each=x,
            median=x,
            last=x,
            n=x.shape[0],
            python_int=2**62,
            python_float=0.1,
            python_bool=True,
            big=torch.tensor(2**24 + 1),
            flags=x > 1,
            half=x[0].to(torch.float16),
            brain=x[0].to(torch.bfloat16),
            constant=torch.tensor([0.1, 0.3], dtype=torch.float64),
            array=array,
            scalar=scalar,
            masked=weighted(x, mask),
            by_number=weighted(x.mean(), 2 * x.shape[0]),
            by_tensor=weighted(x.mean(), mask.sum()),
            of_number=weighted(7.0, 3),
            nothing=weighted(x.mean() / 0, 0),
            absent=None,
            absent_pair=weighted(None, 1),
            empty=x[:0],
        )
        return (x * 2).sum()

    run, counter = compiled(step, backend)
    mask = np.array([1.0, 0.0, 2.0])
    is_slow = backend == "inductor"  # with it, compile only one of the four graphs: the forward, for one number of rows
    batches = [np.arange(3.0 * rows).reshape(rows, 3) for rows in ((3, 3, 3) if is_slow else (2, 3, 4))]
    for batch in batches:
        result = run(torch.tensor(batch, dtype=torch.float32, requires_grad=not is_slow), torch.tensor(mask))
        if not is_slow:
            result.backward()

    everything = np.concatenate([batch.ravel() for batch in batches])
    rows = np.concatenate(batches)
    first_rows = np.stack([batch[0] for batch in batches])
    lengths = [len(batch) for batch in batches]
    means = [batch.mean() for batch in batches]
    snapshot = registry.snapshot(step=1)
    assert dict(snapshot.metrics) == {
        "t/total": pytest.approx(np.mean([batch.sum() for batch in batches])),
        "t/each": pytest.approx(everything.mean(), rel=1e-15),
        "t/median": np.median(everything),
        "t/last": batches[-1].mean(),
        "t/n": sum(lengths),
        "t/python_int": 3 * 2.0**62,
        "t/python_float": pytest.approx(0.1, rel=1e-15),
        "t/python_bool": 1.0,
        "t/big": 3 * (2**24 + 1),
        "t/flags": (everything > 1).sum(),
        "t/half": pytest.approx(first_rows.mean(), rel=1e-15),
        "t/brain": pytest.approx(first_rows.mean(), rel=1e-15),
        "t/constant": pytest.approx(0.2, rel=1e-15),
        "t/array": 3.0,
        "t/scalar": pytest.approx(float(np.float32(0.1)), rel=1e-15),
        "t/masked": pytest.approx(np.average(rows, axis=0) @ mask / mask.sum(), rel=1e-15),
        "t/by_number": pytest.approx(np.average(means, weights=lengths), rel=1e-15),
        "t/by_tensor": pytest.approx(np.mean(means), rel=1e-15),
        "t/of_number": 7.0,
    }
    assert set(snapshot.counts.values()) == {3}
    assert dict(registry.dropped) == {}
    assert counter.frame_count == (1 if is_slow else 2)  # one for the first number of rows, one for any number


@pytest.mark.parametrize("backend", BACKENDS)
def test_of_more_values_than_one_kernel_packs_each_is_its_own(backend: str) -> None:
    registry = MetricRegistry()
    names = [f"k{number}" for number in range(150)]

    def step(x):
        values = {name: x[number] for number, name in enumerate(names)}
        values["k70"] = x[70:73] * 2  # one block among the scalars
        values["k71"] = weighted(x[71], x[149])
        registry.report_metrics("t", **values)
        return x.sum()

    run, _ = compiled(step, backend)
    numbers = np.random.default_rng(0).normal(size=(2, 150)).astype(np.float32)
    numbers[:, 149] = 1.0, 3.0
    numbers[1, 5], numbers[0, 64], numbers[0, 63] = np.nan, np.inf, -np.inf
    for row in numbers:
        run(torch.tensor(row))
    expected = {f"t/{name}": value for name, value in zip(names, numbers.astype(np.float64).mean(axis=0), strict=True)}
    expected["t/k70"] = (2 * numbers[:, 70:73].astype(np.float64)).mean()
    expected["t/k71"] = np.average(numbers[:, 71].astype(np.float64), weights=[1.0, 3.0])
    assert dict(registry.snapshot(step=1).metrics) == pytest.approx(expected, rel=1e-15, nan_ok=True)


@pytest.mark.parametrize("name", sorted(set(known_reducers())))
def test_every_reducer_gets_the_same_elements(name: str) -> None:
    traced, eager = MetricRegistry({"*": name}), MetricRegistry({"*": name})
    run, _ = compiled(lambda x: traced.report_metrics(each=x, one=x[0], pair=weighted(x, x + 1)), "eager")
    for seed in range(4):
        x = torch.tensor(np.random.default_rng(seed).normal(size=5)).abs()
        run(x)
        eager.report_metrics(each=x, one=x[0], pair=weighted(x, x + 1))
    found, expected = traced.snapshot(step=1), eager.snapshot(step=1)
    assert dict(found.metrics) == dict(expected.metrics)
    assert dict(found.counts) == dict(expected.counts)
    assert len(found.metrics) == 3


class Block(nn.Module):
    """Reports at its start and at its end, once per forward."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        report_metrics("start", n=1.0, x=x.detach().mean())
        x = torch.relu(torch.tanh(self.linear(x)) * 2)
        report_metrics("end", n=torch.ones((), dtype=torch.long), each=x)
        return x


def _plain(block: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return block(x)


def _reentrant(block: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return checkpoint(block, x, use_reentrant=True)


def _non_reentrant(block: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return checkpoint(block, x, use_reentrant=False)


class Stack(nn.Module):
    def __init__(self, forward) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.run = forward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = self.run(block, x)
        return x.sum()


def in_parts(model: Stack, backend: str, **options) -> nn.Module:
    for block in model.blocks:
        block.compile(backend=backend, **options)
    return model


def as_a_whole(model: Stack, backend: str, **options) -> nn.Module:
    return torch.compile(model, backend=backend, **options)


def trained(model: nn.Module, steps: int = 3, **rules: str) -> tuple[dict[str, float], dict[str, int]]:
    registry = MetricRegistry(reducers={"*/n": "sum", **rules})
    with registry.activate():
        for seed in range(steps):
            torch.manual_seed(seed)
            model(torch.randn(2, 4, requires_grad=True)).backward()
    snapshot = registry.snapshot(step=1)
    return dict(snapshot.metrics), dict(snapshot.counts)


# Each way with a fast backend, and some with inductor, which takes seconds to generate code.
WAYS = [
    *((*way, "aot_eager") for way in product([_plain, _reentrant, _non_reentrant], [in_parts, as_a_whole])),
    (_reentrant, in_parts, "inductor"),
    (_non_reentrant, as_a_whole, "inductor"),
]


@pytest.mark.parametrize(("forward", "compile_it", "backend"), WAYS)
def test_a_checkpointed_forward_reports_once_whatever_is_compiled(forward, compile_it, backend: str) -> None:
    torch.manual_seed(0)
    model = Stack(forward)
    metrics, counts = trained(model)
    assert metrics["start/n"] == metrics["end/n"] == 2 * 3
    found, found_coverage = trained(compile_it(model, backend, fullgraph=True))
    assert found == pytest.approx(metrics, rel=1e-6)
    assert found_coverage == counts == dict.fromkeys(metrics, 6)
    assert not counters["graph_break"]


def test_a_number_that_changes_compiles_once_more_and_not_every_time() -> None:
    registry = MetricRegistry()

    def step(x, scale):
        registry.report_metrics(scale=scale, scaled=weighted(x.mean(), scale))
        return x * 2

    run, counter = compiled(step)
    scales = [0.5, 1.25, 2.5, 7.0, 11.0, 0.1]
    for scale in scales:
        run(torch.full((3,), scale), scale)
    metrics = registry.snapshot(step=1).metrics
    assert metrics["scale"] == pytest.approx(np.mean(scales), rel=1e-15)
    assert metrics["scaled"] == pytest.approx(np.average(scales, weights=scales), rel=1e-6)
    assert counter.frame_count == 2


def test_a_report_without_tensors_counts_each_call_and_not_the_trace() -> None:
    registry = MetricRegistry(reducers={"n": "sum"})
    run, counter = compiled(lambda x: (registry.report_metrics(n=1), x + 1)[1])
    for _ in range(5):
        run(torch.ones(2))
    assert registry.snapshot(step=1).metrics["n"] == 5
    assert counter.frame_count == 1


def test_a_constant_tensor_is_not_reported_by_the_tracer() -> None:
    registry = MetricRegistry(reducers={"n": "sum"})
    constant = {"dtype": torch.float64}
    run, _ = compiled(lambda x: (registry.report_metrics(n=torch.tensor(1.0, **constant)), x + 1)[1], "inductor")
    for _ in range(3):
        run(torch.ones(2, requires_grad=True))
    assert registry.snapshot(step=1).metrics["n"] == 3


def test_reports_do_not_show_in_dynamos_account_of_breaks_and_recompilations() -> None:
    registry = MetricRegistry()

    def step(x):
        report_metrics("a", x=x)
        registry.report_metrics("b", x=x)
        return x * 2

    with registry.activate():
        explained = torch._dynamo.explain(step)(torch.ones(2))
        assert (explained.graph_count, explained.graph_break_count) == (1, 0)
        run, counter = compiled(step)
        for _ in range(20):
            run(torch.ones(2))
    assert counter.frame_count == 1
    assert registry.snapshot(step=1).counts == {"a/x": 21, "b/x": 21}


def test_the_window_is_the_one_at_the_time_of_the_run() -> None:
    registry = MetricRegistry()
    run, counter = compiled(lambda x: (registry.report_metrics(x=x), x)[1])
    run(torch.tensor(1.0))
    for value in (5.0, 7.0):
        with registry.phase("eval"):
            run(torch.tensor(value))
    run(torch.tensor(2.0))
    assert registry.snapshot(step=1).metrics["x"] == 1.5
    assert registry.snapshot(step=1, phase="eval").metrics["x"] == 6.0
    assert counter.frame_count == 1


def test_the_registry_is_the_one_at_work() -> None:
    run, counter = compiled(lambda x: (report_metrics(x=x), x)[1])
    run(torch.tensor(100.0))
    registries = [MetricRegistry(), MetricRegistry()]
    for _ in range(3):
        for number, registry in enumerate(registries):
            with registry.activate():
                run(torch.tensor(float(number)))
        run(torch.tensor(100.0))
    assert [registry.snapshot(step=1).metrics["x"] for registry in registries] == [0.0, 1.0]
    assert counter.frame_count == 3  # one graph without a registry, one for each registry, and none per change


def test_a_trainer_after_another_needs_no_compilation_and_leaves_nothing_behind() -> None:
    class Model(nn.Module):
        supports_report_metrics = True

        def forward(self, x):
            self.report_metrics("toy", x=x)
            return x * 2

    model = Model()
    run, counter = compiled(model)
    for number in range(12):
        registry = MetricRegistry()
        for _ in range(2):  # bound again, as for an evaluation
            with registry.activate(), bound(model, registry):
                run(torch.tensor(float(number)))
        snapshot = registry.snapshot(step=1)
        assert (snapshot.metrics["toy/x"], snapshot.counts["toy/x"]) == (number, 2)
    assert counter.frame_count == 2  # two handles take turns: the old registry still exists when the next is made
    reference, handle = weakref.ref(registry), registry.handle
    del registry
    gc.collect()
    assert reference() is None
    assert mtask_sinks.compiled.handles.find_reporter(handle) is None


def test_two_living_registries_have_two_handles() -> None:
    registries = [MetricRegistry() for _ in range(50)]
    assert len({registry.handle for registry in registries}) == 50


def test_compiled_code_whose_registry_is_gone_goes_on() -> None:
    registry = MetricRegistry()
    for handle in (10**9, registry.handle):  # the first handle belongs to no registry
        operator.report_op(torch.ones(1, dtype=torch.float64), [], handle, "t\nx\tscalar")
    assert registry.snapshot(step=1).counts == {"t/x": 1}


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_invalid_key_is_an_error_as_in_eager_code(backend: str) -> None:
    registry = MetricRegistry()
    run, _ = compiled(lambda x: (registry.report_metrics("mlm", **{"my loss": x}), x)[1], backend)
    with pytest.raises(MetricKeyError, match="Try 'mlm/my_loss'"):
        run(torch.ones(()))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_warning_about_a_report_names_the_file_that_has_it(backend: str, caplog) -> None:
    registry = MetricRegistry(max_keys=1)

    def step(x):
        registry.report_metrics("t", a=x.mean(), b=x.sum())
        return x * 2

    compiled(step, backend)[0](torch.ones(3))
    assert registry.snapshot(step=1).metrics == {"t/a": 1.0}
    assert registry.dropped == {"max_keys": 1}
    assert f"distinct keys are reported (at {__file__}:{step.__code__.co_firstlineno}" in caplog.text


class Task(str, enum.Enum):  # noqa: UP042  # since Python 3.11, its members look different in an f-string
    PRICE = "price"


class Mode(enum.StrEnum):
    PRICE = "price"


@pytest.mark.parametrize("task", [Task.PRICE, Mode.PRICE])
def test_a_task_from_an_enumeration_breaks_no_graph(task: str) -> None:
    registry = MetricRegistry()

    def step(x):
        registry.report_metrics(task, loss=x.sum(), **{task: x})
        return x * 2

    run, counter = compiled(step, "eager")
    run(torch.tensor([1.0, 3.0]))
    assert dict(registry.snapshot(step=1).metrics) == {"price/loss": 4.0, "price/price": 2.0}
    assert counter.frame_count == 1


def test_a_weight_that_is_no_weight_is_an_error_as_in_eager_code() -> None:
    registry = MetricRegistry()
    run, _ = compiled(lambda x, weight: (registry.report_metrics(x=weighted(x, weight)), x)[1], "eager")
    with pytest.raises(MetricValueError, match="finite number >= 0"):
        run(torch.ones(()), torch.tensor(-1.0))


@pytest.mark.parametrize(
    ("task", "metrics", "error"),
    [
        ("mlm", {"loss": "low"}, MetricValueError),
        ("mlm", {"loss": [1.0]}, MetricValueError),
        ("mlm", {"loss": weighted(torch.ones(2), torch.ones(3))}, MetricValueError),
        ("mlm", {"loss": weighted(1.0, None)}, MetricValueError),
        ("mlm", {"lo\nss": 1.0}, MetricKeyError),
        ("m\tlm", {"loss": 1.0}, MetricKeyError),
        ("", {"loss": 1.0}, MetricKeyError),
        (3, {"loss": 1.0}, MetricKeyError),
    ],
)
def test_what_the_graph_cannot_hold_is_left_to_eager_code_and_its_errors(task, metrics, error) -> None:
    registry = MetricRegistry()

    def step(x):
        registry.report_metrics(task, **metrics)
        return x * 2

    with pytest.raises(error) as expected:
        step(torch.ones(2))
    with pytest.raises(error) as found:
        torch.compile(step, backend="eager")(torch.ones(2))
    assert str(found.value) == str(expected.value)
    torch.compiler.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported, match="report_what_only_eager_code_can_read"):
        torch.compile(step, backend="eager", fullgraph=True)(torch.ones(2))


def test_a_number_of_another_type_counts_and_breaks_the_graph() -> None:
    registry = MetricRegistry()
    run = torch.compile(lambda x: (registry.report_metrics(half=Fraction(1, 2)), x * 2)[1], backend="eager")
    assert run(torch.ones(1)) == 2
    assert registry.snapshot(step=1).metrics["half"] == 0.5


@pytest.mark.parametrize("number", [3, 2**63 - 1, -(2**63), 2**65, -(2**65)])
def test_an_integer_of_any_size_counts(number: int) -> None:
    registry = MetricRegistry()

    def step(x, number):
        registry.report_metrics(x=number, weight=weighted(x.sum(), abs(number)))
        return x * 2

    assert torch.compile(step, backend="eager")(torch.ones(1), number) == 2
    assert registry.snapshot(step=1).metrics == {"x": float(number), "weight": 1.0}


def test_a_count_that_is_read_from_a_tensor_breaks_no_graph() -> None:
    registry = MetricRegistry()

    def step(x):
        registry.report_metrics(acc=weighted(x.mean(), (x > 0).sum().item()))
        return x * 2

    with torch._dynamo.config.patch(capture_scalar_outputs=True):
        run, counter = compiled(step, "eager")
        for values in ([1.0, 2.0, -1.0], [4.0, -2.0, -1.0]):
            run(torch.tensor(values))
    assert counter.frame_count == 1
    expected = pytest.approx((2 * (2 / 3) + 1 * (1 / 3)) / 3)
    assert registry.snapshot(step=1).metrics == {"acc": expected}


def test_a_comparison_with_a_size_that_changes_breaks_no_graph() -> None:
    registry = MetricRegistry(reducers={"is_long": "sum"})

    def step(x):
        is_long = x.shape[0] > 3
        registry.report_metrics(is_long=is_long, loss=weighted(x.sum(), is_long), share=weighted(is_long, x.shape[0]))
        return x * 2

    run, counter = compiled(step, "eager", dynamic=True)
    for size in (2, 3, 4, 5, 6):
        run(torch.ones(size))
    assert counter.frame_count == 1
    assert registry.snapshot(step=1).metrics == {"is_long": 3, "loss": (4 + 5 + 6) / 3, "share": (4 + 5 + 6) / 20}


def test_a_comparison_with_a_number_that_is_read_from_a_tensor_breaks_no_graph() -> None:
    registry = MetricRegistry()

    def step(x):
        registry.report_metrics(is_positive=x.sum().item() > 0)
        return x * 2

    with torch._dynamo.config.patch(capture_scalar_outputs=True):
        run, counter = compiled(step, "eager")
        for value in (1.0, -2.0, 3.0, 4.0):
            run(torch.full((2,), value))
    assert counter.frame_count == 1
    assert registry.snapshot(step=1).metrics == {"is_positive": 0.75}


def test_a_weight_in_an_array_of_one_element_breaks_no_graph() -> None:
    registry = MetricRegistry()

    def step(x):
        registry.report_metrics(loss=weighted(x.sum(), x[:1]), other=weighted(0.5, np.array([[3.0]])))
        return x * 2

    run, counter = compiled(step, "eager")
    for values in ([1.0, 2.0], [3.0, 4.0]):
        run(torch.tensor(values))
    assert counter.frame_count == 1
    assert registry.snapshot(step=1).metrics == {"loss": (1 * 3 + 3 * 7) / (1 + 3), "other": 0.5}


def test_tensors_without_numbers_are_dropped_and_counted() -> None:
    registry = MetricRegistry()

    def step(x):
        meta, pair = torch.empty(2, device="meta"), weighted(x, x.to(torch.complex64))
        registry.report_metrics(good=x, complex=x.to(torch.complex64), meta=meta, pair=pair)
        return x * 2

    run, _ = compiled(step)
    for _ in range(3):
        run(torch.ones(2))
    assert dict(registry.snapshot(step=1).metrics) == {"good": 1.0}
    assert registry.dropped == {"unreadable: complex": 3, "unreadable: meta": 3, "unreadable: pair": 3}


def test_under_vmap_a_report_is_dropped_and_counted_and_under_grad_it_counts() -> None:
    registry = MetricRegistry()

    def total(x):
        registry.report_metrics("t", loss=x.sum(), n=1)
        return x.sum()

    run, _ = compiled(lambda x: (torch.func.vmap(total)(x), torch.func.grad(total)(x[0]))[0])
    assert run(torch.ones(2, 3)).tolist() == [3.0, 3.0]
    snapshot = registry.snapshot(step=1)
    assert dict(snapshot.metrics) == {"t/loss": 3.0, "t/n": 1.0}
    assert registry.dropped["unreadable: t/loss"] == 1


def test_inductor_would_run_a_report_between_two_cuda_graphs(monkeypatch) -> None:
    """There is no GPU here, so inductor is asked how it would split the graph if its device were one."""
    import torch._inductor.config as config
    from torch._inductor.scheduler import BaseSchedulerNode, Scheduler

    split, should_partition = {}, Scheduler.should_partition

    def noted(self, node):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(BaseSchedulerNode, "is_gpu", lambda _: True)
            split[str(getattr(node.node, "op_overload", None))] = bool(should_partition(self, node))
        return should_partition(self, node)

    monkeypatch.setattr(Scheduler, "should_partition", noted)
    registry = MetricRegistry()

    def step(x):
        registry.report_metrics("t", loss=(x * 2).mean())
        return (x * 3).sum()

    run, _ = compiled(step, "inductor")
    with config.patch({"triton.cudagraphs": True, "custom_should_partition_ops": ["another::operator"]}):
        assert [run(torch.ones(4)).item(), run(torch.full((4,), 2.0)).item()] == [12.0, 24.0]
        assert config.custom_should_partition_ops == ["another::operator", "mtask_sinks::report"]
    assert split == {"mtask_sinks.report.default": True, "None": False}
    assert registry.snapshot(step=1).metrics["t/loss"] == 3.0


@pytest.mark.parametrize("way", ["method", "function", "registry"])
def test_where_a_graph_breaks_in_a_loop_reports_are_not_compiled_by_themselves(way: str) -> None:
    registry = MetricRegistry(reducers={"*/n": "sum"})

    class Tasks(nn.Module):
        supports_report_metrics = True

        def forward(self, losses, tasks):
            report = {"method": self.report_metrics, "function": report_metrics, "registry": registry.report_metrics}
            for number in range(4):
                rows = tasks == number
                if rows.any():  # here the graph breaks
                    report[way](f"task{number}", loss=weighted(losses[rows].mean(), rows.sum()), n=rows.sum())
            return losses * 2

    model, counter = Tasks(), CompileCounterWithBackend("eager")
    run = torch.compile(model, backend=counter)
    losses, tasks = torch.arange(12.0), torch.arange(12) % 3
    with bound(model, registry), registry.activate():
        for step in range(3):
            run(losses + step, tasks)
    expected = {f"task{number}/loss": float(np.mean(range(number, 12, 3)) + 1) for number in range(3)}
    assert dict(registry.snapshot(step=1).metrics) == expected | {f"task{number}/n": 12.0 for number in range(3)}
    assert counter.frame_count == 0


def test_without_the_private_api_the_values_are_right_and_the_graph_breaks(monkeypatch) -> None:
    monkeypatch.delattr(torch.library, "_register_effectful_op")
    monkeypatch.setattr(operator, "report_op", operator.define("mtask_sinks_without_effects"))
    assert operator.report_op is None
    torch.manual_seed(0)
    for forward in (_plain, _reentrant, _non_reentrant):
        model = Stack(forward)
        expected = trained(model)
        found = trained(as_a_whole(model, "aot_eager"))
        assert found[0] == pytest.approx(expected[0], rel=1e-6)
        assert found[1] == expected[1]
    assert sum(counters["graph_break"].values()) > 0


def test_a_report_during_a_backward_hook_of_compiled_code_counts() -> None:
    registry = MetricRegistry(reducers={"n": "sum"})
    run, _ = compiled(lambda gradient: (registry.report_metrics(n=gradient.sum()), gradient)[1], "inductor")
    x = torch.ones(3, requires_grad=True)
    y = x * 2
    y.register_hook(run)
    y.sum().backward()
    assert registry.snapshot(step=1).metrics["n"] == 3


def test_no_graph_no_buffer_and_no_registry_is_kept_alive() -> None:
    registry = MetricRegistry()
    run, _ = compiled(lambda x: (registry.report_metrics(loss=(x * 2).sum(), view=x[0, 0], row=x[0]), (x * 3).sum())[1])
    logits, is_held = watched(500, 100)
    for _ in range(3):
        run(logits).backward()
    logits.grad = None
    del logits
    gc.collect()
    assert not is_held()


class TestOnADevice:
    """Without an accelerator, vectors on the host use its code path: a patch says that they make the host wait."""

    @pytest.fixture(autouse=True)
    def _wait(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.setattr(operator, "must_wait", lambda packed: True)
        with taking_the_accelerators_way():
            yield

    @pytest.mark.parametrize("name", sorted(set(known_reducers())))
    def test_every_reducer_gets_the_same_elements(self, name: str) -> None:
        traced, eager = MetricRegistry({"*": name}), MetricRegistry({"*": name})

        def report(registry, x):
            registry.report_metrics(each=x, one=x[0], pair=weighted(x, x + 1), count=3, zero=weighted(x[0], 0))
            registry.report_metrics(scalar_pair=weighted(x[0], x[1]), none=None, empty=x[:0])

        run, _ = compiled(lambda x: report(traced, x), "eager")
        for seed in range(4):
            x = torch.tensor(np.random.default_rng(seed).normal(size=5)).abs()
            run(x)
            report(eager, x)
        found, expected = traced.snapshot(step=1), eager.snapshot(step=1)
        assert dict(found.metrics) == dict(expected.metrics)
        assert dict(found.counts) == dict(expected.counts)
        assert len(found.metrics) == 5

    def test_the_vector_is_copied_once_and_read_at_the_log_event(self, monkeypatch) -> None:
        registry = MetricRegistry()
        packed = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
        for _ in range(4):
            operator.report_op(packed, [2], registry.handle, "t\nblock\tblock\none\tscalar")
            packed += 1  # as a compiled graph does when it reuses its buffers
        assert registry._phases.current.devices._numbers == 12
        metrics = registry.snapshot(step=1).metrics
        assert dict(metrics) == {"t/block": 1.5 + 1.5, "t/one": 3 + 1.5}

    def test_the_order_of_reporting_holds_among_graphs_and_eager_code(self) -> None:
        for reducer, expected in (("first", 1.0), ("last", 5.0)):
            registry = MetricRegistry(reducers={"x": reducer})
            run, _ = compiled(lambda x, registry=registry: registry.report_metrics(x=x), "eager")
            for number in range(1, 6):
                if number % 2:
                    registry.report_metrics(x=float(number))
                else:
                    run(torch.tensor(float(number)))
            assert registry.snapshot(step=1).metrics["x"] == expected

    def test_keys_past_the_limit_are_dropped_and_counted(self) -> None:
        registry = MetricRegistry(max_keys=2)
        run, _ = compiled(lambda x: registry.report_metrics(a=x, b=x, c=x + 1, d=x + 2), "eager")
        for _ in range(2):
            run(torch.tensor(1.0))
        assert dict(registry.snapshot(step=1).metrics) == {"a": 1.0, "b": 1.0}
        assert registry.dropped == {"max_keys": 4}

    def test_an_invalid_key_is_an_error(self) -> None:
        registry = MetricRegistry()
        run, _ = compiled(lambda x: registry.report_metrics(**{"my loss": x}), "eager")
        with pytest.raises(MetricKeyError, match="my loss"):
            run(torch.ones(()))

    def test_a_recompute_does_not_count(self) -> None:
        torch.manual_seed(0)
        metrics, _ = trained(in_parts(Stack(_non_reentrant), "aot_eager"))
        assert metrics["start/n"] == metrics["end/n"] == 6

    def test_phases_do_not_mix(self) -> None:
        registry = MetricRegistry()
        run, _ = compiled(lambda x: registry.report_metrics(x=x), "eager")
        run(torch.tensor(1.0))
        with registry.phase("eval"):
            run(torch.tensor(5.0))
        assert registry.snapshot(step=1, phase="eval").metrics["x"] == 5.0
        assert registry.snapshot(step=1).metrics["x"] == 1.0


def test_numbers_are_as_many_as_their_names() -> None:
    registry = MetricRegistry()
    layout = "t\na\tscalar\nb\tscalar"
    operator.report_op(torch.tensor([1.0, 2.0], dtype=torch.float64), [], registry.handle, layout)
    with pytest.raises(ValueError, match="shorter"):
        operator.report_op(torch.tensor([1.0], dtype=torch.float64), [], registry.handle, layout)
    assert registry.snapshot(step=1).metrics == {"t/a": 1.0, "t/b": 2.0}


def test_a_reason_that_is_given_again_and_again_keeps_no_traceback() -> None:
    registry = MetricRegistry()
    layout = "t\nx\tunreadable: it is complex"
    for _ in range(3):
        operator.report_op(torch.empty(0, dtype=torch.float64), [], registry.handle, layout)
    assert registry.dropped == {"unreadable: t/x": 3}
    assert operator._parse(layout).others["x"].__traceback__ is None
