"""Checks of the calls of ``report_metrics``: how and where they are made."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from mtask_sinks.doctor.classes import expressions_of, foreign_bases, method, name_of, reached
from mtask_sinks.doctor.finding import Observation
from mtask_sinks.doctor.report_calls import ReportCall, report_calls
from mtask_sinks.doctor.script import Class, Function, Script
from mtask_sinks.doctor.settings import all_settings, number_in, values_of

_NEEDLESS = ("item", "detach", "cpu", "tolist", "numpy")
# Arguments that take a function or an object that makes a batch of samples.
_COLLATORS = ("data_collator", "collate_fn")
_COLLATES = ("__call__", "torch_call")
_READS = ("__getitem__", "__getitems__", "__iter__")


def not_imported(script: Script) -> Iterator[Observation]:
    """The script calls `report_metrics`, but does not import or define it."""
    for call in script.calls:
        name, source = call.node.func, call.source
        if not isinstance(name, ast.Name) or name.id != "report_metrics" or source.has_star:
            continue
        if name.id not in source.names and name.id not in source.bound:
            yield Observation(
                source.where(call.node),
                "the script calls report_metrics(...), but does not import or define it: the call raises NameError.",
                "Add: from mtask_sinks import report_metrics. In a flagged module, call self.report_metrics(...).",
            )


def positional_values(script: Script) -> Iterator[Observation]:
    """A call passes values by position, not by keyword."""
    for report in report_calls(script):
        args = report.node.args
        first = args[0] if args else None
        is_number = isinstance(first, ast.Constant) and not isinstance(first.value, str) and first.value is not None
        if len(args) > 1 or is_number or isinstance(first, ast.Dict):
            yield Observation(
                report.source.where(report.node),
                "report_metrics gets a value by position: only the name of the task may be positional, everything else "
                "raises an error.",
                "Pass values by keyword: report_metrics('mlm', loss=loss).",
            )


def needless_conversion(script: Script) -> Iterator[Observation]:
    """A value is converted with ``.item()``, ``.detach()`` or similar before it is reported."""
    for report in report_calls(script):
        for call in _calls_in_values(report):
            called = call.func
            if isinstance(called, ast.Attribute) and called.attr in _NEEDLESS and not call.args:
                waits = "" if called.attr == "detach" else "; on an accelerator, the call makes the host wait"
                what = f".{called.attr}() is not needed: a report keeps only the numbers of a tensor{waits}."
                yield Observation(report.source.where(call), what, "Report the tensor itself.")


def report_in_worker(script: Script) -> Iterator[Observation]:
    """A collate function or a data set reports, but runs in data-loader workers, where reports are lost."""
    workers = _workers(script)
    if workers is None:
        return
    kinds = ("function", "object") if script.uses("mtask_sinks.MetricRegistry") else ("function",)
    reports = {report.node: report for report in report_calls(script) if report.kind in kinds}
    for function in _run_in_workers(script):
        for node in expressions_of(reached(script, function)):
            report = reports.pop(node, None) if isinstance(node, ast.Call) else None
            if report is not None:
                yield Observation(
                    report.source.where(report.node),
                    f"{name_of(function)} runs in data-loader workers ({workers}), which are other processes: the "
                    "training never sees what is reported there.",
                    "Return the value with the batch, and report it in forward or compute_loss.",
                )


def _workers(script: Script) -> str | None:
    """Return how the script asks for workers; ``None`` if it does not."""
    for _, value in values_of(script, "dataloader_num_workers"):
        if number := number_in(value):
            return f"dataloader_num_workers={number}"
    for call in script.calls:
        number = number_in(call.keywords.get("num_workers"))
        if number and (script.resolve(call.source, call.node.func) or "").endswith("DataLoader"):
            return f"num_workers={number}"
    return None


def _run_in_workers(script: Script) -> Iterator[Function]:
    """Yield collate functions, and the methods of data sets that read samples."""
    for settings in all_settings(script):
        for name in _COLLATORS:
            value = settings.values.get(name)
            if isinstance(value, ast.Lambda):
                yield Function(settings.source, value, None)
            elif value is not None and (cls := script.class_of(settings.source, value)) is not None:
                yield from _methods(cls, _COLLATES)
            elif value is not None and (function := script.resolve(settings.source, value)) in script.functions:
                yield script.functions[function]
    for cls in script.classes.values():
        if any((name or "").endswith("Dataset") for name in foreign_bases(script, cls)):
            yield from _methods(cls, _READS)


def _methods(cls: Class, names: tuple[str, ...]) -> Iterator[Function]:
    found = (method(cls, name) for name in names)
    return (each for each in found if each is not None)


def _calls_in_values(report: ReportCall) -> Iterator[ast.Call]:
    """Yield the calls that compute a value, including those inside ``weighted(...)``."""
    values = [keyword.value for keyword in report.node.keywords]
    for value in values:  # the list grows in the loop
        if isinstance(value, ast.Call):
            yield value
            if isinstance(value.func, ast.Name) and value.func.id == "weighted":
                values += value.args
