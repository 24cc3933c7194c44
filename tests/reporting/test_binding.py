from __future__ import annotations

import copy
import gc
import io
import pickle
import subprocess
import sys
import threading
import weakref

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter

from mtask_sinks import MetricRegistry
from mtask_sinks.reporting import binding
from mtask_sinks.reporting.binding import bound


class Flagged(nn.Module):
    supports_report_metrics = True

    def forward(self, x: float = 1.0) -> None:
        if hasattr(self, "report_metrics"):
            self.report_metrics("t", x=x)


class Tower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.plain = nn.Linear(1, 1)
        self.deep = nn.Sequential(nn.Identity(), nn.ModuleDict({"inner": Flagged()}))


def metric(registry: MetricRegistry) -> float | None:
    return registry.snapshot(step=1).metrics.get("t/x")


def test_flagged_modules_at_any_depth_report_and_others_are_left_alone() -> None:
    model, registry = Tower(), MetricRegistry()
    with bound(model, registry):
        model.deep[1]["inner"](5.0)
        assert not hasattr(model, "report_metrics")
        assert not hasattr(model.plain, "report_metrics")
    assert metric(registry) == 5.0
    assert not hasattr(model.deep[1]["inner"], "report_metrics")


def test_only_the_bound_instance_reports_never_its_class() -> None:
    student, teacher, registry = Flagged(), Flagged(), MetricRegistry()
    with bound(student, registry):
        teacher(100.0)
        student(1.0)
        Flagged()(100.0)
        assert not hasattr(Flagged, "report_metrics")
    assert metric(registry) == 1.0


def test_the_flag_may_be_set_on_an_instance_either_way() -> None:
    on, off, registry = nn.Identity(), Flagged(), MetricRegistry()
    on.supports_report_metrics, off.supports_report_metrics = True, False
    with bound(nn.ModuleList([on, off]), registry):
        assert hasattr(on, "report_metrics")
        assert not hasattr(off, "report_metrics")


@pytest.mark.parametrize("wanted", [True, False])
def test_the_flag_may_be_a_property(wanted: bool) -> None:
    class Configured(Flagged):
        @property
        def supports_report_metrics(self) -> bool:
            return wanted

    with bound(model := Configured(), MetricRegistry()):
        assert hasattr(model, "report_metrics") == wanted


@pytest.mark.parametrize("joins", [False, True])
def test_a_module_whose_flag_raises_is_said_once_and_stops_nothing(joins, caplog) -> None:
    class Raises(nn.Module):
        @property
        def supports_report_metrics(self) -> bool:
            return self.config["report"]

    model, registry = Tower(), MetricRegistry()
    if not joins:
        model.new = Raises()
    with bound(model, registry):
        model.other = Raises()
        model.deep[1]["inner"](5.0)
    assert metric(registry) == 5.0
    (message,) = [record.getMessage() for record in caplog.records]
    assert "Raises does not report, because its supports_report_metrics cannot be read: AttributeError" in message
    binding._warn_once.counts.clear()


def test_a_wrapper_that_passes_attributes_on_is_not_mistaken_for_flagged() -> None:
    class Wrapper(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def __getattr__(self, name: str):
            try:
                return super().__getattr__(name)
            except AttributeError:
                return getattr(super().__getattr__("inner"), name)

    inner, registry = Flagged(), MetricRegistry()
    wrapper = Wrapper(inner)
    assert wrapper.supports_report_metrics
    with bound(wrapper, registry):
        assert "report_metrics" not in vars(wrapper)
        inner(2.0)
    assert metric(registry) == 2.0


def test_a_class_with_a_method_of_that_name_keeps_it_and_a_warning_says_so_once(caplog) -> None:
    class Own(Flagged):
        def report_metrics(self, task: str, x: float) -> None:
            self.seen = x

    model, registry = Own(), MetricRegistry()
    for _ in range(2):  # a training, and an evaluation in it
        with bound(nn.ModuleList([model, Own()]), registry):
            model(3.0)
    assert model.seen == 3.0
    assert metric(registry) is None
    assert caplog.text.count("method report_metrics of its own") == 1


def test_bindings_nest_and_come_undone_in_order() -> None:
    model, first, second = Flagged(), MetricRegistry(), MetricRegistry()
    with bound(model, first):
        with bound(model, second):
            model(2.0)
        model(1.0)
    assert (metric(first), metric(second)) == (1.0, 2.0)
    assert not hasattr(model, "report_metrics")


def test_an_exception_undoes_the_binding() -> None:
    model = Flagged()
    with pytest.raises(RuntimeError), bound(model, MetricRegistry()):
        raise RuntimeError
    assert not hasattr(model, "report_metrics")


def test_a_module_used_twice_in_a_model_is_bound_once() -> None:
    shared, registry = Flagged(), MetricRegistry()
    model = nn.ModuleList([shared, shared])
    with bound(model, registry):
        shared(1.0)
    assert registry.snapshot(step=1).counts == {"t/x": 1}
    assert not hasattr(shared, "report_metrics")


def test_a_copy_made_while_bound_is_silent_and_harmless() -> None:
    model, registry = Tower(), MetricRegistry()
    with bound(model, registry):
        ema = copy.deepcopy(model)
        ema.deep[1]["inner"](100.0)
        model.deep[1]["inner"](1.0)
    ema.deep[1]["inner"](100.0)
    assert metric(registry) == 1.0


def test_a_copy_can_be_bound_itself() -> None:
    model, first, second = Flagged(), MetricRegistry(), MetricRegistry()
    with bound(model, first):
        twin = copy.deepcopy(model)
    with bound(twin, second):
        twin(2.0)
    assert metric(second) == 2.0


@pytest.mark.parametrize("make", [lambda model: Flagged(), lambda model: copy.deepcopy(model.deep[1]["inner"])])
@pytest.mark.parametrize(
    "join",
    [
        lambda model, new: setattr(model, "new", new),
        lambda model, new: model.add_module("new", new),
        lambda model, new: model.deep[1].update({"new": new}),
        lambda model, new: model.deep.append(nn.Sequential(nn.Identity(), new)),
        lambda model, new: model.deep.__setitem__(0, new),
    ],
)
def test_a_module_that_joins_the_model_reports_from_then_on(make, join) -> None:
    model, outer, inner = Tower(), MetricRegistry(), MetricRegistry()
    with bound(model, outer):
        with bound(model, inner):
            join(model, new := make(model))
            new(2.0)
        new(3.0)
    new(100.0)
    assert (metric(inner), metric(outer)) == (2.0, 3.0)


@pytest.mark.parametrize("is_teacher", [False, True])
def test_a_copy_that_joins_the_model_is_said_once_unless_its_flag_is_off(is_teacher, caplog) -> None:
    model, registry = Tower(), MetricRegistry()
    with bound(model, registry):
        for name in ("first", "second"):
            copied = copy.deepcopy(model.deep[1]["inner"])
            copied.supports_report_metrics = not is_teacher
            setattr(model, name, copied)
        model.new = Flagged()
        model.first(100.0)
        model.new(0.0)
    assert metric(registry) == (0.0 if is_teacher else 50.0)
    messages = [record.getMessage() for record in caplog.records]
    assert [message.partition(",")[0] for message in messages] == ([] if is_teacher else ["a copy of Flagged"])


def test_a_module_that_joins_another_model_does_not_report() -> None:
    model, other, registry = Tower(), Tower(), MetricRegistry()
    with bound(model, registry):
        other.new = Flagged()
        other.copied = copy.deepcopy(model)
        other.new(100.0)
        other.copied.deep[1]["inner"](100.0)
        model.deep[1]["inner"](1.0)
    model.new = Flagged()
    assert not hasattr(model.new, "report_metrics")
    assert metric(registry) == 1.0


def test_a_module_that_joins_twice_ends_like_the_others() -> None:
    model, registry = Tower(), MetricRegistry()
    with bound(model, registry):
        model.first = model.second = model.deep[1]["inner"]
    assert not hasattr(model.first, "report_metrics")


def test_a_module_that_a_forward_has_replaced_is_not_kept() -> None:
    model, registry = Tower(), MetricRegistry()
    with bound(model, registry):
        model.new = Flagged()
        old = weakref.ref(model.new)
        model.new = Flagged()
        gc.collect()
        assert old() is None
        model.new(2.0)
    assert metric(registry) == 2.0
    assert not hasattr(model.new, "report_metrics")


def test_bindings_begin_and_end_in_several_threads_at_once() -> None:
    def run() -> None:
        for _ in range(3000):
            with bound(model, registry):
                pass

    model, registry = nn.Identity(), MetricRegistry()
    threads = [threading.Thread(target=run) for _ in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not binding._bindings


@pytest.mark.parametrize("fullgraph", [False, True])
def test_code_that_builds_modules_is_compiled_once_with_bindings_and_without(fullgraph) -> None:
    class Builds(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.act = nn.ReLU()
            return self.act(x)

    torch._dynamo.reset()
    graphs = CompileCounter()
    model = Builds()
    model.act = nn.ReLU()
    compiled = torch.compile(model, backend=graphs, fullgraph=fullgraph)
    compiled(torch.ones(1))
    without = graphs.frame_count
    with bound(model, MetricRegistry()):
        compiled(torch.ones(1))
        compiled(torch.ones(1))
    compiled(torch.ones(1))
    assert graphs.frame_count == without == 1


def test_a_pickle_made_while_bound_loads_and_runs_without_this_library(tmp_path) -> None:
    module = tmp_path / "somemodel.py"
    module.write_text(
        "from torch import nn\n"
        "class Model(nn.Module):\n"
        "    supports_report_metrics = True\n"
        "    def forward(self):\n"
        "        if hasattr(self, 'report_metrics'):\n"
        "            self.report_metrics('t', x=1.0)\n"
        "        return 7\n"
    )
    make = (
        "import pickle, torch, somemodel\n"
        "from mtask_sinks import MetricRegistry\n"
        "from mtask_sinks.reporting.binding import bound\n"
        "model = somemodel.Model()\n"
        "with bound(model, MetricRegistry()):\n"
        "    torch.save(model, 'model.pt')\n"
        "    pickle.dump(model, open('model.pkl', 'wb'))\n"
    )
    load = (
        "import sys; sys.modules['mtask_sinks'] = None\n"
        "import pickle, torch\n"
        "print(torch.load('model.pt', weights_only=False)(), pickle.load(open('model.pkl', 'rb'))())\n"
    )
    run = {"cwd": tmp_path, "check": True, "capture_output": True, "text": True, "env": {"PYTHONPATH": str(tmp_path)}}
    subprocess.run([sys.executable, "-c", make], **run)
    assert subprocess.run([sys.executable, "-c", load], **run).stdout.split() == ["7", "7"]


def test_after_the_binding_a_model_saves_as_if_it_had_never_been() -> None:
    model = Flagged()
    before = pickle.dumps(model)
    with bound(model, MetricRegistry()):
        model()
    assert pickle.dumps(model) == before
    buffer = io.BytesIO()
    torch.save(model, buffer)
    assert b"mtask_sinks" not in buffer.getvalue()


def test_no_model_is_fine() -> None:
    registry = MetricRegistry()
    with bound(None, registry):
        registry.report_metrics(x=1.0)
    assert registry.snapshot(step=1).metrics["x"] == 1.0


def test_state_dict_and_parameters_do_not_notice() -> None:
    model = Tower()
    before = list(model.state_dict()), len(list(model.modules()))
    with bound(model, MetricRegistry()):
        assert (list(model.state_dict()), len(list(model.modules()))) == before


class PassesOn(nn.Module):
    """A wrapper that passes the attributes that are set on to the module that it wraps."""

    supports_report_metrics = True

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        super().__setattr__("inner", inner)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self.inner, name, value)


def test_a_wrapper_that_passes_attributes_on_reports_and_leaves_nothing_behind() -> None:
    inner, registry = nn.Linear(1, 1), MetricRegistry()
    wrapper = PassesOn(inner)
    with bound(wrapper, registry):
        wrapper.report_metrics("a", loss=2.0)
        assert not hasattr(inner, "report_metrics")
    assert registry.snapshot(step=1).metrics == {"a/loss": 2.0}
    assert not hasattr(inner, "report_metrics") and not hasattr(wrapper, "report_metrics")


def test_modules_that_are_built_while_no_model_is_bound_report_nothing() -> None:
    registry = MetricRegistry()
    with bound(None, registry):
        nn.Sequential(module := Flagged())
        module()
    assert metric(registry) is None
