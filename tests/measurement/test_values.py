"""Compares each kind of value with the numbers in it, computed by NumPy or by hand."""

from __future__ import annotations

import copy
import math
import pickle
import re
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from helpers.watched import watched

from mtask_sinks import MetricRegistry, weighted
from mtask_sinks.errors import MetricKeyError, MetricValueError
from mtask_sinks.measurement.values import read

ALL_FLOATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
ALL_INTS = [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8]


def reduced(*values: object, reducer: str = "mean") -> float | None:
    """Report these values, and return the reduced value."""
    registry = MetricRegistry(reducers={"x": reducer})
    for value in values:
        registry.report_metrics(x=value)
    return registry.snapshot(step=1).metrics.get("x")


@pytest.mark.parametrize(
    "value",
    [3, 3.0, True + 2, np.float64(3), np.float32(3), np.float16(3), np.int64(3), np.uint8(3), np.array(3.0)]
    + [torch.tensor(3, dtype=dtype) for dtype in ALL_FLOATS + ALL_INTS]
    + [torch.tensor(3.0, requires_grad=True), torch.nn.Parameter(torch.tensor(3.0)), Decimal(3), Fraction(6, 2)],
    ids=repr,
)
def test_every_kind_of_number_counts_as_itself(value: object) -> None:
    assert reduced(value, 5.0) == 4.0
    assert type(reduced(value)) is float


@pytest.mark.parametrize("value", [True, np.True_, torch.tensor(True)])
def test_truth_values_count_as_one(value: object) -> None:
    assert reduced(value, False) == 0.5


@pytest.mark.parametrize("shape", [(1,), (4,), (2, 3), (65,), (2, 1, 100), (3, 0 + 2)])
@pytest.mark.parametrize("dtype", [*ALL_FLOATS, *ALL_INTS, torch.bool])
def test_each_element_of_a_tensor_counts(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    tensor = torch.randint(0, 2 if dtype is torch.bool else 50, shape, generator=generator).to(dtype)
    numbers = tensor.to(torch.float64).numpy().ravel()
    for reducer, expected in {"mean": numbers.mean(), "sum": numbers.sum(), "min": numbers.min(), "max": numbers.max(),
                              "count": numbers.size, "std": numbers.std(), "median": np.median(numbers),
                              "last": numbers.mean(), "first": numbers.mean()}.items():  # fmt: skip
        assert reduced(tensor, reducer=reducer) == pytest.approx(expected, rel=1e-12, abs=1e-12), reducer
        assert reduced(tensor.numpy() if dtype is not torch.bfloat16 else numbers, reducer=reducer) == pytest.approx(
            expected, rel=1e-12, abs=1e-12
        ), reducer


def test_elements_of_reports_of_different_size_count_alike() -> None:
    assert reduced(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([10.0]), 4.0) == (1 + 2 + 3 + 10 + 4) / 5


def test_tensors_of_every_layout_in_memory_are_read_right() -> None:
    base = torch.arange(12.0).reshape(3, 4)
    for view in (base.T, base[:, ::2], base[1], base.expand(2, 3, 4), base.flip(0)):
        assert reduced(view, reducer="sum") == view.numpy().sum()


def test_large_integers_keep_their_digits() -> None:
    assert reduced(torch.tensor(2**53 - 1), reducer="sum") == 2**53 - 1
    assert reduced(2**53 - 1, reducer="last") == 2**53 - 1


def test_an_integer_beyond_float64_is_infinite_and_spoils_nothing_else() -> None:
    assert reduced(10**400) == math.inf
    assert reduced(1, -(10**400), reducer="max") == 1.0


@pytest.mark.parametrize("nothing", [None, torch.tensor([]), torch.empty(0, 5), np.array([]), weighted(None, 3)])
def test_nothing_computed_does_not_count(nothing: object) -> None:
    assert reduced(nothing) is None
    assert reduced(nothing, 2.0, nothing) == 2.0
    assert reduced(2.0, nothing, reducer="last") == 2.0


def test_masked_elements_do_not_count_with_a_weight_either() -> None:
    values = np.ma.masked_greater(np.array([1.0, 2.0, 100.0]), 50)
    weights = np.ma.masked_equal(np.array([1.0, 3.0, 7.0]), 1)
    registry = MetricRegistry()
    registry.report_metrics("a", x=weighted(values, 3))
    registry.report_metrics("b", x=weighted(np.array([1.0, 2.0, 100.0]), weights))
    registry.report_metrics("c", x=weighted(values, weights))
    registry.report_metrics("d", x=weighted(np.ma.masked, 2))
    registry.report_metrics("e", x=weighted(values.reshape(3, 1), np.ma.masked_less(np.ones(1), 0)))
    expected = {"a/x": 1.5, "b/x": (2 * 3 + 100 * 7) / 10, "c/x": 2.0, "e/x": 1.5}
    assert dict(registry.snapshot(1).metrics) == expected


@pytest.mark.parametrize("value", [Fraction(10**400), -Fraction(10**400)])
def test_a_number_beyond_all_floats_is_infinite(value) -> None:
    assert reduced(value) == (math.inf if value > 0 else -math.inf)


def test_a_number_whose_code_fails_is_refused_as_others_are() -> None:
    class Broken:
        def __float__(self) -> float:
            raise RuntimeError("no")

    registry = MetricRegistry()
    registry.report_metrics(x=1.0)
    registry.report_metrics(x=Broken())  # a first value would raise
    assert registry.snapshot(1).metrics == {"x": 1.0}
    with pytest.raises(MetricValueError):
        registry.report_metrics(y=Broken())


def failing(*args: object, **kwargs: object) -> Any:
    raise RuntimeError("no")


WRAPS = [lambda value: value, lambda value: weighted(value, 1), lambda value: weighted(1.0, value)]
HOSTILE_TYPES = {
    "repr": type("T", (), {"__repr__": failing}),
    "attributes": type("T", (), {"__getattr__": failing}),
    "class": type("T", (), {"__class__": property(failing)}),
    "array": type("T", (), {"__array__": failing}),
    "comparison": type("T", (), {"__float__": lambda self: 2.0**2000, "__gt__": failing}),  # an OverflowError
    "iteration": type("T", (dict,), {"__iter__": failing}),
}


@pytest.mark.parametrize("kind", HOSTILE_TYPES)
@pytest.mark.parametrize("wrap", WRAPS, ids=["value", "weighted", "weight"])
def test_code_of_a_type_that_raises_does_not_stop_a_training(kind: str, wrap, caplog) -> None:
    registry = MetricRegistry()
    registry.report_metrics("t", x=1.0)
    for _ in range(2):
        registry.report_metrics("t", a=1.0, x=wrap(HOSTILE_TYPES[kind]()), z=3.0)
    assert registry.snapshot(1).metrics == {"t/x": 1.0, "t/a": 1.0, "t/z": 3.0}
    assert registry.dropped == {"refused: t/x": 2}
    assert len(caplog.records) == 1
    with pytest.raises(MetricValueError):
        registry.report_metrics("t", y=wrap(HOSTILE_TYPES[kind]()))


@pytest.mark.parametrize("wrap", WRAPS, ids=["value", "weighted", "weight"])
def test_a_tensor_whose_class_raises_is_dropped(wrap) -> None:
    class Broken(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            raise RuntimeError("no")

    registry = MetricRegistry()
    registry.report_metrics("t", a=1.0, x=wrap(torch.ones(3).as_subclass(Broken)), z=3.0)
    assert registry.snapshot(1).metrics == {"t/a": 1.0, "t/z": 3.0}
    assert registry.dropped == {"unreadable: t/x": 1}


def test_what_is_refused_takes_no_value_beside_it_with_it() -> None:
    registry = MetricRegistry()
    with pytest.raises(MetricValueError, match="t/x"):
        registry.report_metrics("t", a=1.0, x="text", z=torch.tensor([3.0]))
    with pytest.raises(MetricKeyError, match="t/no name"):
        registry.report_metrics("t", **{"b": 1.0, "no name": 2.0, "y": weighted(4.0, 2)})
    assert registry.snapshot(1).metrics == {"t/a": 1.0, "t/z": 3.0, "t/b": 1.0, "t/y": 4.0}


def test_a_message_about_a_value_is_short_and_commands_no_terminal() -> None:
    class Hostile:
        def __repr__(self) -> str:
            return "\x1b[2J" * 1000

    for value in (Hostile(), weighted([0.5] * 100_000, 1), weighted(1.0, [0.5] * 100_000), {"\x1b[2J": 1.0}):
        with pytest.raises(MetricValueError) as refusal:
            reduced(value)
        assert len(str(refusal.value)) < 600
        assert str(refusal.value).isprintable()


def test_masked_elements_of_a_masked_array_do_not_count() -> None:
    assert reduced(np.ma.masked_greater(np.array([1.0, 2.0, 100.0]), 50)) == 1.5


@pytest.mark.parametrize(
    ("value", "weight"),
    [
        (1.0, 3),
        (torch.tensor(1.0), torch.tensor(3)),
        (np.float32(1), np.int64(3)),
        (torch.tensor(1.0), 3.0),
        (1, torch.tensor(3.0)),
    ],
)
def test_a_weight_says_how_often_a_value_counts(value: object, weight: object) -> None:
    assert reduced(weighted(value, weight), weighted(4.0, 1)) == (3 * 1 + 1 * 4) / 4


@pytest.mark.parametrize("two", [Decimal(2), Fraction(2), np.int64(2), np.array([2.0]), torch.tensor([2])], ids=repr)
def test_every_kind_of_number_may_have_a_weight_or_be_one(two: object) -> None:
    assert reduced(weighted(two, 3), weighted(6.0, 1)) == (3 * 2 + 6) / 4
    for value in (1, 1.0, torch.tensor(1.0), Fraction(1)):
        assert reduced(weighted(value, two), weighted(4.0, 1)) == (2 * 1 + 4) / 3


def test_integers_of_any_size_are_weighted_as_other_numbers() -> None:
    assert reduced(weighted(2**65, 1), weighted(2**66, 3)) == (2**65 + 3 * 2**66) / 4
    assert reduced(weighted(1, 2**65), weighted(4, 2**65)) == 2.5
    assert reduced(weighted(-(10**400), 2)) == -math.inf


def test_a_report_without_weight_has_weight_one() -> None:
    assert reduced(weighted(1.0, 3), 4.0, torch.tensor([2.0, 2.0])) == (3 * 1 + 4 + 2 + 2) / 6


def test_weights_broadcast_to_the_elements() -> None:
    values = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    mask = np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 2.0]])
    expected = np.average(values, weights=mask)
    assert reduced(weighted(torch.tensor(values), torch.tensor(mask))) == pytest.approx(expected, rel=1e-15)
    assert reduced(weighted(values, mask)) == pytest.approx(expected, rel=1e-15)
    assert reduced(weighted(values, np.array([[1.0], [3.0]]))) == pytest.approx((1 + 2 + 3 + 3 * (4 + 5 + 6)) / 12)
    assert reduced(weighted(values, 7)) == pytest.approx(3.5)


def test_weight_zero_means_nothing_was_there() -> None:
    assert reduced(weighted(math.nan, 0), 2.0) == 2.0
    assert reduced(weighted(math.nan, 0)) is None
    assert reduced(weighted(9.0, 0), weighted(2.0, 1), weighted(9.0, 0), reducer="last") == 2.0


@pytest.mark.parametrize("weight", [-1, math.nan, math.inf, None, "3", [1.0]])
def test_what_is_no_weight_is_refused(weight: object) -> None:
    with pytest.raises(MetricValueError, match="weight"):
        reduced(weighted(1.0, weight))


def test_a_weight_of_the_wrong_shape_is_refused_with_both_shapes() -> None:
    with pytest.raises(MetricValueError, match=r"\(3,\).*\(2,\)"):
        reduced(weighted(torch.ones(2), torch.ones(3)))


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        ("0.5", "number"),
        ([1.0, 2.0], "np.array"),
        ((1.0,), "np.array"),
        ({"loss": 1.0}, r"\*\*{\"x\.loss\": …}"),
        (object(), "number"),
        (np.array(["a"]), "dtype"),
        (np.array([object()]), "dtype"),
    ],
)
def test_other_types_are_refused_with_key_and_advice(value: object, advice: str) -> None:
    with pytest.raises(MetricValueError, match=rf"(?s)^x: .*{advice}"):
        reduced(value)


def test_a_metric_object_is_refused_with_the_hint_to_compute() -> None:
    class Accuracy:
        def compute(self) -> float:
            return 1.0

    with pytest.raises(MetricValueError, match=r"Accuracy\(…\)\.compute\(\)"):
        reduced(Accuracy())


@pytest.mark.parametrize(
    "tensor",
    [torch.tensor(1 + 2j), torch.eye(2).to_sparse(), torch.empty(3, device="meta"), np.complex64(1j), np.array([1j])],
    ids=["complex", "sparse", "meta", "np.complex", "np.complex array"],
)
def test_what_has_no_readable_numbers_is_dropped_counted_and_said_once(tensor: object, caplog) -> None:
    registry = MetricRegistry()
    for _ in range(3):
        registry.report_metrics("t", x=tensor, y=1.0)
    assert dict(registry.snapshot(step=1).metrics) == {"t/y": 1.0}
    assert registry.dropped == {"unreadable: t/x": 3}
    assert [record.getMessage()[:5] for record in caplog.records] == ["t/x: "]


def test_keys_whose_values_cannot_be_read_count_towards_the_limit(caplog) -> None:
    registry = MetricRegistry(max_keys=3)
    for step in range(100):
        registry.report_metrics("t", **{f"x{step}": torch.empty(3, device="meta")})
    assert registry.dropped == {"unreadable: t/x0": 1, "unreadable: t/x1": 1, "unreadable: t/x2": 1, "max_keys": 97}
    assert len(caplog.records) == 4


def test_a_tensor_without_numbers_raises_no_error_even_if_its_key_is_not_valid() -> None:
    registry = MetricRegistry()
    registry.report_metrics("t", **{"x y": torch.empty(3, device="meta")})
    assert registry.dropped == {"unreadable: t/x y": 1}


def test_a_report_under_vmap_is_dropped(caplog) -> None:
    registry = MetricRegistry()

    def double(x: torch.Tensor) -> torch.Tensor:
        registry.report_metrics(x=x, y=x.repeat(100), z=2.0)
        return 2 * x

    assert torch.func.vmap(double)(torch.arange(3.0)).tolist() == [0.0, 2.0, 4.0]
    assert dict(registry.snapshot(step=1).metrics) == {"z": 2.0}
    for key in "xy":
        assert f"{key}: dropped a tensor: it is traced (fake or transformed), which holds no numbers." in caplog.text


def test_a_report_under_func_grad_counts() -> None:
    registry = MetricRegistry()

    def square(x: torch.Tensor) -> torch.Tensor:
        table = torch.stack([x, x + 1]).repeat(50, 1)
        registry.report_metrics(x=x * 1.0, row=table[0], table=table, pair=weighted(table[:1], torch.tensor([1, 0])))
        return x * x

    assert torch.func.grad(square)(torch.tensor(3.0)) == 6.0
    assert torch.func.jvp(square, (torch.tensor(3.0),), (torch.tensor(1.0),)) == (9.0, 6.0)
    snapshot = registry.snapshot(step=1)
    assert dict(snapshot.metrics) == {"x": 3.0, "row": 3.5, "table": 3.5, "pair": 3.0}
    assert set(snapshot.counts.values()) == {2}


def test_a_report_of_fake_tensors_is_dropped() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    registry = MetricRegistry()
    with FakeTensorMode():
        registry.report_metrics(x=torch.ones(()), y=torch.ones(3), w=weighted(torch.ones(()), 2))
    assert dict(registry.snapshot(step=1).metrics) == {}
    assert set(registry.dropped) == {"unreadable: x", "unreadable: y", "unreadable: w"}


def test_a_report_while_torch_fx_traces_a_model_is_dropped() -> None:
    registry = MetricRegistry()

    class Model(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            registry.report_metrics(x=x, total=x.sum(), n=x.shape[0], pair=weighted(x, 2), share=weighted(0.5, x.sum()))
            return x * 2

    traced = torch.fx.symbolic_trace(Model())
    assert traced(torch.ones(2)).tolist() == [2.0, 2.0]
    assert dict(registry.snapshot(step=1).metrics) == {}
    assert registry.dropped == {f"unreadable: {key}": 1 for key in ("x", "total", "n", "pair", "share")}


@pytest.mark.parametrize("is_dynamic", [False, True])
def test_a_report_while_a_model_is_exported_is_dropped(is_dynamic) -> None:
    registry = MetricRegistry()

    class Reports(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale, self.offset = torch.nn.Parameter(torch.ones(())), torch.ones(2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            registry.report_metrics("t", total=x.sum(), row=x, mean=weighted(x.sum(), x.shape[0]), of=weighted(x, 1.0))
            registry.report_metrics("t", table=x.expand(100, -1), scale=self.scale, doubled=self.offset * 2)
            if is_dynamic:  # otherwise these are numbers
                registry.report_metrics("t", n=x.shape[0], weight=weighted(1.0, x.shape[0]))
            return x * self.scale

    sizes = {"x": {0: torch.export.Dim("n")}} if is_dynamic else None
    exported = torch.export.export(Reports(), (torch.ones(3),), dynamic_shapes=sizes)
    assert exported.module()(torch.full((3,), 2.0)).tolist() == [2.0, 2.0, 2.0]
    assert dict(registry.snapshot(step=1).metrics) == {}
    assert len(registry.dropped) == (9 if is_dynamic else 7)


def test_a_report_while_make_fx_traces_does_not_stop_the_tracing() -> None:
    from torch.fx.experimental.proxy_tensor import make_fx

    registry = MetricRegistry()

    def double(x: torch.Tensor) -> torch.Tensor:
        registry.report_metrics(x=x.sum(), y=x)
        return 2 * x

    traced = make_fx(double)(torch.ones(2))
    assert traced(torch.full((2,), 3.0)).tolist() == [6.0, 6.0]


def test_what_was_reported_does_not_change_with_its_buffer() -> None:
    registry = MetricRegistry()
    buffer, array, scalar = torch.zeros(3), np.zeros(100), torch.zeros(())
    for number in range(1, 5):
        buffer.fill_(number), array.fill(number), scalar.fill_(number)
        registry.report_metrics(
            buffer=buffer, big=torch.from_numpy(array), array=array, scalar=scalar, w=weighted(buffer, 1)
        )
    assert dict(registry.snapshot(step=1).metrics) == dict.fromkeys(("buffer", "big", "array", "scalar", "w"), 2.5)


def test_no_graph_and_no_storage_survives_the_report() -> None:
    registry = MetricRegistry(reducers={"*": "median"})
    logits, is_held = watched(1000, 100)
    registry.report_metrics(
        loss=(logits * 2).sum(),
        view=logits[0, 0],
        row=logits[0],
        short=logits[0, :5],
        detached=logits.detach()[:, 0],
        weighted=weighted(logits[:, 0], logits[:, 1].abs()),
    )
    del logits
    assert not is_held()


def test_a_weight_beyond_all_floats_drops_its_value_and_no_other(caplog: pytest.LogCaptureFixture) -> None:
    registry = MetricRegistry()
    for value in (weighted(1.0, 10**400), weighted(2.0, 3), weighted(4.0, 1)):
        registry.report_metrics(x=value)
    assert registry.snapshot(step=1).metrics["x"] == (2 * 3 + 4) / 4
    assert registry.dropped == {"invalid weight: x": 1}
    assert "a weight is a number >= 0" in caplog.text


@pytest.mark.parametrize(
    ("value", "remedy"),
    [
        ([0.5, 1.5], "a list cannot be reported: pass np.array(…) to report its elements, or give each"),
        ([torch.ones(2, requires_grad=True)] * 3, "pass torch.stack(…) to report its elements, or give each"),
        ([torch.ones(2), torch.ones(3)], "a list cannot be reported: give each of its values its own name."),
        ((torch.ones(()), 4), "a tuple cannot be reported: pass weighted(value, weight) if the second"),
        ((torch.ones(()),) * 2, "is a weight, pass torch.stack(…) to report its elements, or give each"),
        ((0.5, 4), "is a weight, pass np.array(…) to report its elements, or give each"),
    ],
)
def test_the_remedy_for_a_list_works_for_what_is_in_it(value, remedy: str) -> None:
    with pytest.raises(MetricValueError, match=re.escape(remedy)):
        MetricRegistry().report_metrics(x=value)


def test_a_tuple_of_the_callers_is_not_taken_for_a_weighted_value() -> None:
    registry = MetricRegistry()
    for value in ((1.0, 3), (1.0, 3, None), (1.0, 2, 3, 4), ()):
        with pytest.raises(MetricValueError, match="a tuple cannot be reported"):
            registry.report_metrics(x=value)
    assert registry.snapshot(step=1).metrics == {}


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_a_weighted_value_survives_being_copied(copied) -> None:
    assert reduced(copied(weighted(1.0, 3)), copied(weighted(torch.tensor(4.0), torch.tensor(1)))) == (3 + 4) / 4


@pytest.mark.parametrize(
    ("tensor", "advised"),
    [
        (torch.eye(2).to_sparse(), "to_dense"),
        (torch.nested.nested_tensor([torch.ones(2), torch.zeros(3)], layout=torch.jagged), "values"),
        (torch.nested.nested_tensor([torch.ones(2), torch.zeros(3)], layout=torch.strided), "values"),
        (torch.quantize_per_tensor(torch.tensor([0.0, 0.5]), 0.25, 0, torch.quint8), "dequantize"),
    ],
)
def test_what_the_warning_of_a_tensor_advises_can_be_reported(tensor: torch.Tensor, advised: str, caplog) -> None:
    assert reduced(tensor) is None
    assert f"report tensor.{advised}() or a number" in caplog.text
    numbers = getattr(tensor, advised)()
    assert reduced(numbers) == pytest.approx(numbers.numpy().mean())


@pytest.mark.parametrize(
    "nothing",
    [np.array([]), torch.empty(0), weighted(np.array([]), 1.0), weighted(None, np.ma.array([1.0, 2.0], mask=[0, 1]))],
)
def test_a_value_without_elements_is_none(nothing) -> None:
    assert read(nothing) is None


@pytest.mark.parametrize("kind", [np.ones, torch.ones])
def test_a_weight_with_more_dimensions_than_its_value_is_refused(kind) -> None:
    with pytest.raises(MetricValueError, match=r"the weight has shape \(1, 1\), the value \(4,\)"):
        read(weighted(kind(4), kind((1, 1))))


@pytest.mark.parametrize(
    ("weight", "said"),
    [
        (np.ones(3), "the weight has shape"),
        (torch.ones(3), "the weight has shape"),
        ([[1.0], [1.0, 2.0]], "is no weight"),
        (np.array(2.0, dtype=object), "is no weight"),
    ],
)
def test_what_is_no_weight_of_a_number_is_refused(weight, said: str) -> None:
    with pytest.raises(MetricValueError, match=said):
        read(weighted(2.0, weight))


def test_a_dict_is_refused_with_an_example_however_many_keys_it_has() -> None:
    for value, example in (({}, "part"), ({"k" * 50: 1.0}, "k" * 40)):
        with pytest.raises(MetricValueError, match=rf'"x.{example}": …'):
            MetricRegistry().report_metrics(x=value)
