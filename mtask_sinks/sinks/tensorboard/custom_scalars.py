"""Defines the charts that TensorBoard's tab Custom Scalars shows for the reported metrics."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from mtask_sinks.keys import HEALTH, OVERALL, backend_name, phase_segment, split_key
from mtask_sinks.sinks.tensorboard.health_charts import health_category
from mtask_sinks.sinks.tensorboard.relative import PREFIX, relative_tag
from mtask_sinks.sinks.tensorboard.text_values import string_value

#: Largest number of charts by phase, and of charts by task. Each new chart writes the layout again, and nobody reads
#: hundreds of charts.
MAX_CHARTS = 128

_TAG = "custom_scalars__config__"

# The first parts of the tags of the Trainer's own values, and of ungrouped metrics.
_TRAINER_LOGS = ("train", "eval", "test")


@dataclass(frozen=True, slots=True)
class Charts:
    """The charts of a run. `with_metrics` adds charts for further metrics.

    >>> charts = Charts().with_metrics(["mlm/loss", "nsp/loss", "mlm/acc", "lr_scale"], "train")
    >>> charts.by_phase, charts.by_task
    ((('train', 'loss'), ('train', 'acc')), (('mlm', 'loss'), ('nsp', 'loss'), ('mlm', 'acc')))
    >>> charts.with_metrics(["nsp/loss", "mlm/loss"], "train") is charts        # nothing new
    True

    Attributes:
        by_phase: phase and name of each metric. Each pair has one chart, with the curves of all tasks.
        by_task: task and name of each metric. Each pair has one chart, with the curves of all phases.
        relative: phase and name of each metric that has a chart of relative values, with the curves of all tasks.
        seen: phase → metrics that need no further chart.
    """

    by_phase: tuple[tuple[str, str], ...] = ()
    by_task: tuple[tuple[str, str], ...] = ()
    relative: tuple[tuple[str, str], ...] = ()
    seen: Mapping[str, frozenset[str]] = field(default_factory=dict, compare=False)

    def with_metrics(self, keys: Collection[str], phase: str) -> Charts:
        """Return these charts and those of further metrics. If no chart is new, the result equals this object.

        Ungrouped metrics have no charts. Values over a whole training have none, because they make no curve.
        """
        if phase == OVERALL:
            return self
        before = self.seen.get(phase, frozenset())
        if before.issuperset(keys):
            return self
        seen = {**self.seen, phase: before.union(keys)}
        found = [_tag_parts(key, phase) for key in keys if split_key(key)[0]]
        tags = [parts for parts in found if parts is not None]
        by_phase = dict.fromkeys([*self.by_phase, *((phase, name) for _, phase, name in tags)])
        by_task = dict.fromkeys([*self.by_task, *((task, name) for task, _, name in tags)])
        if len(by_phase) == len(self.by_phase) and len(by_task) == len(self.by_task):
            return replace(self, seen=seen)
        return replace(self, by_phase=tuple(by_phase)[:MAX_CHARTS], by_task=tuple(by_task)[:MAX_CHARTS], seen=seen)

    def with_tags(self, tags: Collection[str], task: str = "") -> Charts:
        """Return these charts, and charts for the metrics of tasks with these tags. Tags of other values get no charts.

        Args:
            tags: the tags of one sub-run.
            task: the task of the sub-run, whose tags do not contain it; empty for the run itself.
        """
        charts = self
        for tag in tags:
            prefix, _, rest = tag.partition("/")
            phase, _, name = rest.partition("/") if not task else (prefix, "", rest)
            if prefix == PREFIX:
                phase, name = rest.split("/")[:2]
                charts = charts.with_relative([f"{task or prefix}/{name}"], phase)
            elif name and (task or prefix not in _TRAINER_LOGS):
                charts = charts.with_metrics([f"{task or prefix}/{name}"], phase)
        return charts

    def with_relative(self, keys: Collection[str], phase: str) -> Charts:
        """Return these charts and charts of relative values for further metrics."""
        names = dict.fromkeys((phase_segment(phase), split_key(key)[1]) for key in keys)
        if all(name in self.relative for name in names):
            return self
        return replace(self, relative=tuple(dict.fromkeys([*self.relative, *names]))[:MAX_CHARTS])

    def summary(self, is_overlay: bool) -> Any:
        """Return the layout as a value of an event. TensorBoard shows the last layout of a run."""
        return string_value(_TAG, self._layout(is_overlay).SerializeToString(), plugin="custom_scalars")

    def _layout(self, is_overlay: bool) -> Any:
        from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

        phases = sorted(dict.fromkeys(phase for phase, _ in self.by_phase), key=lambda phase: phase != "train")
        health = health_category(self.by_task, is_overlay)
        categories = [] if health is None else [health]
        categories += [self._phase_category(phase, is_overlay) for phase in phases]
        if not is_overlay:  # in the overlay layout, tags do not contain the task
            tasks = dict.fromkeys(task for task, _ in self.by_task if health is None or task != HEALTH)
            categories += [self._task_category(task) for task in tasks]
        return Layout(category=categories)

    def _phase_category(self, phase: str, is_overlay: bool) -> Any:
        from tensorboard.plugins.custom_scalar.layout_pb2 import Category

        names = [name for each, name in self.by_phase if each == phase]
        charts = []
        for name in names:
            charts.append(_chart(name, _all_tasks_pattern(phase, name, is_overlay)))
            if (phase, name) in self.relative:
                charts.append(_chart(f"{name}, relative to the first value", _relative_pattern(phase, name)))
        return Category(title=f"tasks side by side: {phase}", chart=charts)

    def _task_category(self, task: str) -> Any:
        from tensorboard.plugins.custom_scalar.layout_pb2 import Category

        names = [name for each, name in self.by_task if each == task]
        charts = [_chart(f"{task} {name}", _all_phases_pattern(task, name)) for name in names]
        return Category(title=task, chart=charts, closed=True)


@lru_cache(maxsize=4096)
def _tag_parts(key: str, phase: str) -> tuple[str, str, str] | None:
    """Return task, phase and name as in the tag; ``None`` if the tag was too long and its name was cut off."""
    parts = backend_name(key, phase).split("/", 2)
    return (parts[0], parts[1], parts[2]) if len(parts) == 3 else None


def _chart(title: str, pattern: str) -> Any:
    from tensorboard.plugins.custom_scalar.layout_pb2 import Chart, MultilineChartContent

    return Chart(title=title, multiline=MultilineChartContent(tag=[pattern]))


def _all_tasks_pattern(phase: str, name: str, is_overlay: bool) -> str:
    """Return a pattern that matches the tags of one metric in one phase, for all tasks."""
    flat = rf"(?!{PREFIX}/)[^/]+/{re.escape(phase)}/{re.escape(name)}$"
    # In the overlay layout, the tags of a task with a sub-run do not contain the task, and its names have '.' in place
    # of '/'. Tasks without a sub-run keep the flat tags.
    return rf"{flat}|{re.escape(phase)}/{re.escape(name.replace('/', '.'))}$" if is_overlay else flat


def _relative_pattern(phase: str, name: str) -> str:
    """Return a pattern that matches the tags of relative values of one metric in one phase, for all tasks."""
    tag = re.escape(relative_tag(phase, name.replace("/", ".")))
    return rf"{tag}(/[^/]+)?$"


def _all_phases_pattern(task: str, name: str) -> str:
    """Return a pattern that matches the tags of one metric of one task, in all phases that have curves."""
    return rf"{re.escape(task)}/(?!{OVERALL}/)[^/]+/{re.escape(name)}$"
