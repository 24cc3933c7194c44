"""Checks of the modules that report."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from mtask_sinks.doctor.classes import relatives
from mtask_sinks.doctor.finding import Observation
from mtask_sinks.doctor.flags import (
    FLAG,
    defines_reports,
    derives_from_unknown,
    has_flag,
    is_flagged,
    is_known,
    may_have_flag,
)
from mtask_sinks.doctor.report_calls import is_request, report_calls
from mtask_sinks.doctor.script import Class, Script
from mtask_sinks.doctor.trainer_classes import has_trainer, is_trainer, uses_multi_task_trainer


def nothing_reports(script: Script) -> Iterator[Observation]:
    """The script uses a multi-task trainer, but nothing reports: no flag, no `report_metrics`, no ``capture=``."""
    keywords = [keyword for call in script.calls for keyword in call.node.keywords]
    # Settings from a command line, which the script does not show, may capture losses too.
    may_capture = any(each.arg == "sink_args" and not isinstance(each.value, ast.Call) for each in keywords)
    is_captured = may_capture or "capture" in script.words
    mentions = any(
        (isinstance(node, ast.Name) and node.id == "report_metrics")
        or (isinstance(node, ast.Attribute) and node.attr == "report_metrics")
        for _, node in script.expressions
    ) or any(map(is_request, script.calls))
    if not uses_multi_task_trainer(script) or report_calls(script) or has_flag(script) or mentions or is_captured:
        return
    if any(not is_known(package) for package in script.foreign) or script.unread:
        return  # an imported module may report metrics
    yield Observation(
        script.main.where(script.main.tree.body[0]),
        "the script seems to report nothing: no module sets supports_report_metrics = True, nothing calls "
        "report_metrics, and no capture= is passed.",
        "Call report_metrics('mlm', loss=...) where the losses are computed, or pass capture='*loss*' to capture named "
        "losses from the outputs of the model.",
    )


def no_flag(script: Script) -> Iterator[Observation]:
    """A class calls ``self.report_metrics`` but has no flag, so it never gets that method."""
    calls = [(report.source, report.node, report.cls) for report in report_calls(script) if report.kind == "self"]
    requests = [(call.source, call.node, call.cls) for call in script.calls if is_request(call)]
    for source, node, cls in (*calls, *requests):
        if cls is None or may_have_flag(script, cls) or not has_trainer(script):
            continue
        where, name = source.where(node), cls.node.name
        if is_trainer(script, cls):
            what = f"{name} calls self.report_metrics, but it is a trainer: only modules get that method."
            yield Observation(where, what, "Call the function: from mtask_sinks import report_metrics.")
            continue
        yield Observation(
            where,
            f"{name} calls self.report_metrics, but neither it nor its base classes set {FLAG} = True: the trainer "
            "never gives it that method.",
            f"Set {FLAG} = True in the class, or call the function: from mtask_sinks import report_metrics.",
        )


def no_guard(script: Script) -> Iterator[Observation]:
    """A class calls ``self.report_metrics`` without checking that it exists, which breaks plain inference."""
    seen: set[int] = set()
    for report in report_calls(script):
        cls = report.cls
        if report.kind != "self" or cls is None or id(cls.node) in seen:
            continue
        family = relatives(script, cls)
        if not is_flagged(family) or derives_from_unknown(script, cls) or any(map(_is_guarded, family)):
            continue
        seen.add(id(cls.node))
        yield Observation(
            report.source.where(report.node),
            f"{cls.node.name} calls self.report_metrics, which exists only while a trainer runs: a forward in plain "
            "inference raises AttributeError.",
            "Check first: if hasattr(self, 'report_metrics'): ... Or call the function, which does nothing in plain "
            "inference: from mtask_sinks import report_metrics.",
        )


def _is_guarded(cls: Class) -> bool:
    """Return whether the class mentions the method by name, as in hasattr, or handles AttributeError."""
    return defines_reports(cls) or any(
        (isinstance(node, ast.Constant) and node.value == "report_metrics")
        or (isinstance(node, ast.Name) and node.id == "AttributeError")
        for node in ast.walk(cls.node)
    )
