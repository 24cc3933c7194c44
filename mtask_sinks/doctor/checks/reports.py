"""Checks of the calls of ``report_metrics``."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from mtask_sinks.doctor.checks.models import has_trainer
from mtask_sinks.doctor.finding import Observation
from mtask_sinks.doctor.script import ReportCall, Script
from mtask_sinks.errors import MetricKeyError
from mtask_sinks.keys import check_key, is_trainer_log

# Names of counters, which grow during a training.
_GROWS = re.compile(r"(^|_)(steps?|batch|batch_?idx|epochs?|iter|iteration|sample|index|idx|uid|id)$", re.IGNORECASE)
_NEEDLESS = ("item", "detach", "cpu", "tolist", "numpy")


def not_imported(script: Script) -> Iterator[Observation]:
    """The script calls `report_metrics`, but does not import or define it."""
    for source, call in script.calls:
        name = call.func
        if not isinstance(name, ast.Name) or name.id != "report_metrics" or source.has_star:
            continue
        if name.id not in source.names and name.id not in source.bound:
            yield Observation(
                source.where(call),
                "the script calls report_metrics(...), but does not import or define it: the call raises NameError.",
                "Add: from mtask_sinks import report_metrics. In a flagged module, call self.report_metrics(...).",
            )


def positional_values(script: Script) -> Iterator[Observation]:
    """A call passes values by position, not by keyword."""
    for report in script.report_calls:
        source, args = report.source, report.node.args
        first = args[0] if args else None
        is_number = isinstance(first, ast.Constant) and not isinstance(first.value, str) and first.value is not None
        if len(args) > 1 or is_number:
            yield Observation(
                source.where(report.node),
                "report_metrics gets a value by position: only the name of the task may be positional, everything else "
                "raises an error.",
                "Pass values by keyword: report_metrics('mlm', loss=loss).",
            )


def reserved_key(script: Script) -> Iterator[Observation]:
    """An ungrouped metric has a name that the Trainer logs itself."""
    for report in script.report_calls:
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
    for report in script.report_calls:
        task = report.node.args[0] if report.is_grouped else None
        literals = [(task.value, task)] if isinstance(task, ast.Constant) and isinstance(task.value, str) else []
        for text, node in [*literals, *_names(report)]:
            try:
                check_key(text)
            except MetricKeyError as error:
                yield Observation(report.source.where(node), f"{error}".partition(" Try ")[0], _try(error))


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
                "new keys once it has max_keys (1000) of them.",
                "You need not do anything if there are few. Otherwise pass MetricRegistry(max_keys=...).",
            )


def needless_conversion(script: Script) -> Iterator[Observation]:
    """A value is converted with ``.item()``, ``.detach()`` or similar before it is reported."""
    for report in script.report_calls:
        for call in _calls_in_values(report):
            method = call.func
            if isinstance(method, ast.Attribute) and method.attr in _NEEDLESS and not call.args:
                waits = "" if method.attr == "detach" else "; on an accelerator, the call makes the host wait"
                what = f".{method.attr}() is not needed: a report keeps only the numbers of a tensor{waits}."
                yield Observation(report.source.where(call), what, "Report the tensor itself.")


def _calls_in_values(report: ReportCall) -> Iterator[ast.Call]:
    """Yield the calls that compute a value, including those inside ``weighted(...)``."""
    values = [keyword.value for keyword in report.node.keywords]
    for value in values:  # the list grows in the loop
        if isinstance(value, ast.Call):
            yield value
            if isinstance(value.func, ast.Name) and value.func.id == "weighted":
                values += value.args


def _names(report: ReportCall) -> Iterator[tuple[str, ast.expr]]:
    """Yield the names of metrics that the script spells out."""
    for keyword in report.node.keywords:
        if keyword.arg is not None:
            yield keyword.arg, keyword.value
        elif isinstance(keyword.value, ast.Dict):
            for key in keyword.value.keys:
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    yield key.value, key


def _computed(script: Script) -> Iterator[tuple[ReportCall, ast.JoinedStr]]:
    """Yield f-strings that are the name of a task, or a key in a dict or a dict comprehension of metrics."""
    for report in script.report_calls:
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


def _try(error: MetricKeyError) -> str:
    suggestion = str(error).partition(" Try ")[2].rstrip(".")
    return f"Call it {suggestion}." if suggestion else "Choose another name."
