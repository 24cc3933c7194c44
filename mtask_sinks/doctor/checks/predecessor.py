"""Checks of code that was written for hf-mtask-trainer, the predecessor of this library."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from mtask_sinks.doctor.finding import Observation
from mtask_sinks.doctor.script import Call, Script
from mtask_sinks.doctor.trainer_classes import MULTI_TASK

_PACKAGE = "hf_mtask_trainer"
_STATE = "additional_state"


def predecessor(script: Script) -> Iterator[Observation]:
    """The script imports hf-mtask-trainer, the predecessor of this library."""
    for source in script.sources:
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ImportFrom) and not node.level and _is_predecessor(node.module):
                names = ", ".join(alias.name for alias in node.names)
            elif isinstance(node, ast.Import) and any(_is_predecessor(alias.name) for alias in node.names):
                names = "HfMultiTaskTrainer"
            else:
                continue
            what = "the script imports hf_mtask_trainer, which does not run with transformers 5.2 or later."
            yield Observation(source.where(node), what, f"Change the import: from mtask_sinks import {names}.")


def additional_state(script: Script) -> Iterator[Observation]:
    """The script adds metrics to `additional_state` of hf-mtask-trainer, which this library does not have."""
    for call in _state_calls(script, "add_metrics"):
        yield Observation(
            call.source.where(call.node),
            "a trainer of mtask_sinks has no additional_state: the call raises AttributeError.",
            f"Report the same values: {_report(call)}, after: from mtask_sinks import report_metrics.",
        )


def copied_log(script: Script) -> Iterator[Observation]:
    """A method takes metrics out of `additional_state`, as `log` of hf-mtask-trainer does; here it is not needed."""
    for call in _state_calls(script, "pop_metrics", "get_metrics"):
        yield Observation(
            call.source.where(call.node),
            "a trainer of mtask_sinks has no additional_state: the call raises AttributeError, or is never made if it "
            "is under hasattr(self, 'additional_state').",
            "Remove this log, because the trainer adds the metrics to every row. If it does something else, keep that "
            "part, and call super().log(logs) in it.",
        )


def replaced_bases(script: Script) -> Iterator[Observation]:
    """The script sets `__bases__` of a Trainer class to a multi-task trainer. This changes the class in the process."""
    for source in script.sources:
        for node in ast.walk(source.tree):
            targets = node.targets if isinstance(node, ast.Assign) else []
            for target in [node.target] if isinstance(node, ast.AugAssign) else targets:
                if not isinstance(target, ast.Attribute) or target.attr != "__bases__":
                    continue
                names = [script.resolve(source, each) or "" for each in ast.walk(node) if isinstance(each, ast.expr)]
                if any(name in MULTI_TASK or name.startswith(f"{_PACKAGE}.") for name in names):
                    cls = ast.unparse(target.value)
                    last = cls.rpartition(".")[2]
                    yield Observation(
                        source.where(target),
                        f"the bases of {cls} are replaced: that changes the class for the whole process, and its other "
                        "bases are lost.",
                        f"Write your own class instead: class MultiTask{last}(MultiTaskTrainerMixin, {cls}): pass.",
                    )


def _state_calls(script: Script, *names: str) -> Iterator[Call]:
    """Yield the calls of these methods of ``additional_state``, unless the script makes such a state by itself."""
    attributes = [node for _, node in script.expressions if isinstance(node, ast.Attribute) and node.attr == _STATE]
    if any(not isinstance(node.ctx, ast.Load) for node in attributes):
        return
    for call in script.calls:
        called = call.node.func
        if not isinstance(called, ast.Attribute) or called.attr not in names:
            continue
        if isinstance(called.value, ast.Attribute) and called.value.attr == _STATE:
            yield call


def _report(call: Call) -> str:
    """Return the call of ``report_metrics`` that takes the place of ``additional_state.add_metrics(...)``."""
    text = ast.unparse(ast.Call(ast.Name("report_metrics"), call.node.args, call.node.keywords))
    return text if len(text) <= 80 else "report_metrics(...)"


def _is_predecessor(module: str | None) -> bool:
    return (module or "").partition(".")[0] == _PACKAGE
