"""Checks of the names in calls of ``report_metrics``."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from mtask_sinks.doctor.finding import Observation
from mtask_sinks.doctor.report_calls import ReportCall, report_calls
from mtask_sinks.doctor.script import Script
from mtask_sinks.doctor.trainer_classes import has_trainer
from mtask_sinks.errors import MetricKeyError
from mtask_sinks.keys import MAX_KEYS, check_key, is_trainer_log

# Names of counters, which grow during a training. Those of layers, experts and tasks (layer_idx, task_id) do not.
_GROWS = re.compile(r"(^|_)(steps?|batch|batch_?(idx|index|id)|epochs?|iter|iteration|sample|uid)$", re.IGNORECASE)
_PHASES = ("train", "eval", "test")
# The last sentence of an error about a key.
_ADVICE = re.compile(r"(.*\.) (?:Try (.*)|(Shorten it))\.", re.DOTALL)


def reserved_key(script: Script) -> Iterator[Observation]:
    """An ungrouped metric has a name that the Trainer logs itself."""
    for report in report_calls(script):
        if report.kind == "object" or report.is_grouped or not has_trainer(script):
            continue
        for name, node in _names(report):
            if is_trainer_log(name):
                yield Observation(
                    report.source.where(node),
                    f"{name!r} is a name that the Trainer logs itself: the first report raises MetricKeyError.",
                    f"Report it in a task: report_metrics('my_task', {name}=...), or choose another name.",
                )


def invalid_key(script: Script) -> Iterator[Observation]:
    """The name of a task or a metric is not a valid key."""
    for report in report_calls(script):
        for text, node in [*_tasks(report), *_names(report)]:
            try:
                check_key(text)
            except MetricKeyError as error:
                advice = _ADVICE.fullmatch(str(error))
                what, better, other = (str(error), None, None) if advice is None else advice.groups()
                remedy = f"Call it {better}." if better else f"{other or 'Choose another name'}."
                yield Observation(report.source.where(node), what, remedy)


def phase_as_task(script: Script) -> Iterator[Observation]:
    """A task is called `train`, `eval` or `test`, though the trainer adds the phase to every name."""
    for report in report_calls(script):
        if report.kind == "object":
            continue
        names = [(name, node) for name, node in _names(report) if "/" in name and not report.is_grouped]
        for name, node in [*_tasks(report), *names]:
            task = name.partition("/")[0]
            if task in _PHASES:
                yield Observation(
                    report.source.where(node),
                    f"the task is called {task!r}, but the trainer adds the phase to every name: the metric is "
                    f"'{task}/…' in training and 'eval_{task}/…' in an evaluation.",
                    "Name the task by what it computes, the same in every phase: report_metrics('mlm', loss=...).",
                )
                break


def key_per_step(script: Script) -> Iterator[Observation]:
    """A key contains what looks like a step counter, so every step makes a new metric."""
    for report, node in _computed(script):
        grows = [name for name in _inside(node) if _GROWS.search(name)]
        if grows:
            yield Observation(
                report.source.where(node),
                f"the key is computed from {grows[0]!r}, which looks like a counter: each of its values makes a new "
                "metric, and the registry drops metrics beyond max_keys.",
                "Remove it from the name: every snapshot has its step already.",
            )


def computed_key(script: Script) -> Iterator[Observation]:
    """A key is computed, so the script does not show how many keys there will be."""
    for report, node in _computed(script):
        names = list(_inside(node))
        if names and not any(_GROWS.search(name) for name in names):
            yield Observation(
                report.source.where(node),
                f"the key is computed from {names[0]!r}: that is fine for layers or data sets, but the registry drops "
                f"new keys once it has max_keys ({MAX_KEYS}) of them.",
                "You need not do anything if there are few. Otherwise pass MetricRegistry(max_keys=...).",
            )


def _tasks(report: ReportCall) -> Iterator[tuple[str, ast.expr]]:
    """Yield the literal names of the task; two of them for ``"train" if self.training else "eval"``."""
    for task in report.node.args[:1]:
        for node in [task.body, task.orelse] if isinstance(task, ast.IfExp) else [task]:
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value, node


def _names(report: ReportCall) -> Iterator[tuple[str, ast.expr]]:
    """Yield the literal names of metrics."""
    for keyword in report.node.keywords:
        if keyword.arg is not None:
            yield keyword.arg, keyword.value
        elif isinstance(keyword.value, ast.Dict):
            for key in keyword.value.keys:
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    yield key.value, key


def _computed(script: Script) -> Iterator[tuple[ReportCall, ast.JoinedStr]]:
    """Yield f-strings that are the name of a task, or a key in a dict or a dict comprehension of metrics."""
    for report in report_calls(script):
        spread = [keyword.value for keyword in report.node.keywords if keyword.arg is None]
        keys = [key for value in spread if isinstance(value, ast.Dict) for key in value.keys]
        keys += [value.key for value in spread if isinstance(value, ast.DictComp)]
        for node in [*report.node.args[:1], *keys]:
            if isinstance(node, ast.JoinedStr):
                yield report, node


def _inside(node: ast.JoinedStr) -> Iterator[str]:
    """Yield the names and attributes inside the braces of an f-string."""
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute):
            yield part.attr
        elif isinstance(part, ast.Name):
            yield part.id
