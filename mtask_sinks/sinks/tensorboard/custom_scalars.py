"""Charts of TensorBoard's tab Custom Scalars: which there are for the metrics that were reported."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from mtask_sinks.keys import backend_name, split_key

#: Of a kind each. The layout is written anew with each new chart, and a page of hundreds is of no use.
MAX_CHARTS = 128

_TAG = "custom_scalars__config__"


@dataclass(frozen=True, slots=True)
class Charts:
    """The charts of a run; more as more metrics are reported.

    >>> charts = Charts().with_metrics(["mlm/loss", "nsp/loss", "mlm/acc", "lr_scale"], "train")
    >>> charts.by_phase, charts.by_task
    ((('train', 'loss'), ('train', 'acc')), (('mlm', 'loss'), ('nsp', 'loss'), ('mlm', 'acc')))
    >>> charts.with_metrics(["nsp/loss", "mlm/loss"], "train") is charts        # nothing new
    True

    Attributes:
        by_phase: phase and name of each metric, for a chart of all tasks.
        by_task: task and name of each metric, for a chart of all phases.
        seen: by phase, the metrics that there are charts of, or need none.
    """

    by_phase: tuple[tuple[str, str], ...] = ()
    by_task: tuple[tuple[str, str], ...] = ()
    seen: Mapping[str, frozenset[str]] = field(default_factory=dict, compare=False)

    def with_metrics(self, keys: Collection[str], phase: str) -> Charts:
        """These, and those for further metrics; equal to these if there is nothing new. Ungrouped metrics have none."""
        before = self.seen.get(phase, frozenset())
        if before.issuperset(keys):
            return self
        seen = {**self.seen, phase: before.union(keys)}
        named = [_parts(key, phase) for key in keys if split_key(key)[0]]
        parts = [parts for parts in named if parts is not None]
        by_phase = dict.fromkeys([*self.by_phase, *((phase, name) for _, phase, name in parts)])
        by_task = dict.fromkeys([*self.by_task, *((task, name) for task, _, name in parts)])
        if len(by_phase) == len(self.by_phase) and len(by_task) == len(self.by_task):
            return replace(self, seen=seen)
        return Charts(tuple(by_phase)[:MAX_CHARTS], tuple(by_task)[:MAX_CHARTS], seen)

    def summary(self, is_overlay: bool) -> Any:
        """The layout, as a value of an event: the last one of a run holds."""
        from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
        from tensorboard.compat.proto.tensor_pb2 import TensorProto
        from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto

        metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="custom_scalars"))
        text = self._layout(is_overlay).SerializeToString()
        tensor = TensorProto(dtype="DT_STRING", string_val=[text], tensor_shape=TensorShapeProto())
        return Summary.Value(tag=_TAG, metadata=metadata, tensor=tensor)

    def _layout(self, is_overlay: bool) -> Any:
        from tensorboard.plugins.custom_scalar.layout_pb2 import Category, Layout

        phases = sorted(dict.fromkeys(phase for phase, _ in self.by_phase), key=lambda phase: phase != "train")
        categories = [
            Category(
                title=f"tasks side by side: {phase}",
                chart=[
                    _chart(name, _of_all_tasks(phase, name, is_overlay)) for of, name in self.by_phase if of == phase
                ],
            )
            for phase in phases
        ]
        if not is_overlay:  # there a tag does not tell the task
            categories += [
                Category(
                    title=task,
                    chart=[
                        _chart(f"{task} {name}", _of_all_phases(task, name)) for of, name in self.by_task if of == task
                    ],
                    closed=True,
                )
                for task in dict.fromkeys(task for task, _ in self.by_task)
            ]
        return Layout(category=categories)


@lru_cache(maxsize=4096)
def _parts(key: str, phase: str) -> tuple[str, str, str] | None:
    """Task, phase and name as they are in the tag; ``None`` if that was so long that it was cut before the name."""
    parts = backend_name(key, phase).split("/", 2)
    return (parts[0], parts[1], parts[2]) if len(parts) == 3 else None


def _chart(title: str, pattern: str) -> Any:
    from tensorboard.plugins.custom_scalar.layout_pb2 import Chart, MultilineChartContent

    return Chart(title=title, multiline=MultilineChartContent(tag=[pattern]))


def _of_all_tasks(phase: str, name: str, is_overlay: bool) -> str:
    flat = rf"[^/]+/{re.escape(phase)}/{re.escape(name)}$"
    # A task that has a sub-run is told by that, and its names are one segment; there may be others.
    return rf"{flat}|{re.escape(phase)}/{re.escape(name.replace('/', '.'))}$" if is_overlay else flat


def _of_all_phases(task: str, name: str) -> str:
    return rf"{re.escape(task)}/[^/]+/{re.escape(name)}$"
