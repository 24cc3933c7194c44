"""Finds the calls of ``report_metrics`` in a script."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from mtask_sinks.doctor.script import Call, Class, Script
from mtask_sinks.doctor.source import Source


@dataclass(frozen=True)
class ReportCall:
    """A call of ``report_metrics``.

    Attributes:
        source, node: where it is.
        kind: ``self``: the method of a module; ``function``: the function of this library; ``object``: a method of
            anything else, such as a registry.
        cls: the class around the call; ``None`` if there is none.
    """

    source: Source
    node: ast.Call
    kind: str
    cls: Class | None

    @property
    def is_grouped(self) -> bool:
        """Whether the call names a task, or may name one."""
        return bool(self.node.args)


def report_calls(script: Script) -> list[ReportCall]:
    """Return every call of ``report_metrics``.

    >>> import tempfile
    >>> from pathlib import Path
    >>> path = Path(tempfile.mkdtemp(), "train.py")
    >>> _ = path.write_text("import mtask_sinks as ms\\nms.report_metrics('mlm', loss=loss)")
    >>> [(report.kind, report.node.lineno) for report in report_calls(Script(path))]
    [('function', 2)]
    """
    found = ((call, _kind(script, call)) for call in script.calls)
    return [ReportCall(call.source, call.node, kind, call.cls) for call, kind in found if kind is not None]


def is_request(call: Call) -> bool:
    """Return whether a call asks a module for the method: ``getattr(self, "report_metrics", None)``."""
    arguments = call.node.args[:2]
    return isinstance(call.node.func, ast.Name) and [call.node.func.id, *map(ast.unparse, arguments)] == [
        "getattr",
        "self",
        "'report_metrics'",
    ]


def _kind(script: Script, call: Call) -> str | None:
    called = call.node.func
    target = script.resolve(call.source, called) or ""
    if target == "mtask_sinks.report_metrics":
        return "function"
    # Other packages have functions of this name, such as kubeflow.katib.
    is_foreign = any(target.startswith(f"{package}.") for package in call.source.foreign)
    if isinstance(called, ast.Attribute) and called.attr == "report_metrics" and not is_foreign:
        return "self" if isinstance(called.value, ast.Name) and called.value.id == "self" else "object"
    return None
