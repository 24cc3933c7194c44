"""Compares a compiled forward that reports 32 values with the same forward that returns them."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from benchmarks.rows import Row, at_most
from benchmarks.side_by_side import excess, take_turns
from mtask_sinks import MetricRegistry

VALUES, STEPS = 32, 50

Record = Callable[..., Any]


class Stack(nn.Module):
    """Has eight layers, passes the means of parts of its activations to ``record``, and returns what that returns."""

    def __init__(self, record: Record) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(64, 64) for _ in range(8))
        self.record = record

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        values = {}
        for depth, layer in enumerate(self.layers):
            x = torch.relu(layer(x))
            for part in range(VALUES // len(self.layers)):
                values[f"act_{depth}_{part}"] = x[part].mean()
        return x.sum(), self.record(**values)


def returned(**values: Tensor) -> dict[str, Tensor]:
    """Return the values as outputs of the graph, and do nothing with them. No way of reporting can cost less."""
    return {name: value.detach() for name, value in values.items()}


def nothing(**values: Tensor) -> None:
    """Use no value, so that the compiler leaves out their computation."""


def measure(quick: bool) -> list[Row]:
    """Measure, and return the rows."""
    torch.set_num_threads(1)
    torch.compiler.reset()
    counters.clear()
    registry, broken = MetricRegistry(), MetricRegistry()
    ways: dict[str, Record] = {
        "nothing": nothing,
        "returned": returned,
        "ours": registry.report_metrics,
        "disabled": torch.compiler.disable(broken.report_metrics),  # type: ignore[no-untyped-call]
    }
    steps: dict[str, Callable[[], object]] = {}
    graphs, breaks = {}, {}
    for name, record in ways.items():
        counters.clear()
        torch.manual_seed(0)
        steps[name] = _turn(torch.compile(_with_own_code(name)(record), fullgraph=name != "disabled"))
        for _ in range(3):
            steps[name]()
        graphs[name] = counters["stats"]["unique_graphs"]
        breaks[name] = sum(counters["graph_break"].values())
    times = take_turns(steps, 10 if quick else 60)
    plain = f"of {median(times['returned']) / STEPS * 1e6:.0f} us per step"
    microseconds = {name: excess(times, name, "returned") / STEPS * 1e6 for name in ("ours", "disabled")}
    registry.snapshot(step=1)
    return [
        at_most("compiled step, 32 values: reporting them, compared with returning them", microseconds["ours"], 50,
                "{:.0f} us", plain),
        at_most("compiled step: graph breaks", breaks["ours"], 0, "{:.0f}"),
        at_most("compiled step: recompilations", graphs["ours"] - 1, 0, "{:.0f}"),
        Row("compiled step, 32 values, under torch.compiler.disable: reporting them, compared with returning them", "",
            f"{microseconds['disabled']:.0f} us, {graphs['disabled']} graphs, {breaks['disabled']} breaks"),
    ]  # fmt: skip


def _with_own_code(name: str) -> type[Stack]:
    """Return a subclass with its own code object, so that no contestant uses a graph compiled for another."""
    code = Stack.forward.__code__.replace(co_name=f"forward_{name}")
    return type(name, (Stack,), {"forward": FunctionType(code, globals())})


def _turn(model: Any) -> Callable[[], object]:
    batch = torch.randn(32, 64)

    def run() -> object:
        for _ in range(STEPS):
            loss, values = model(batch)
            loss.backward()
        return values

    return run
