"""Tells which classes of a script have the flag ``supports_report_metrics``, or may have it."""

from __future__ import annotations

import ast
import sys

from mtask_sinks.doctor.classes import foreign_bases, relatives
from mtask_sinks.doctor.script import Class, Script

FLAG = "supports_report_metrics"

# Packages whose modules have no flag.
_KNOWN = frozenset(
    [
        *("accelerate", "datasets", "diffusers", "evaluate", "huggingface_hub", "mtask_sinks", "numpy", "pandas"),
        *("peft", "safetensors", "scipy", "sentence_transformers", "sklearn", "tokenizers", "torch", "torchmetrics"),
        *("torchvision", "tqdm", "transformers", "trl"),
    ]
)


def has_flag(script: Script) -> bool:
    """Return whether any class has the flag, or may have it."""
    return any(_sets_flag(source.tree) for source in script.sources)


def is_flagged(classes: list[Class]) -> bool:
    """Return whether one of these classes sets the flag."""
    return any(_sets_flag(each.node) for each in classes)


def may_have_flag(script: Script, cls: Class) -> bool:
    """Return whether a class has the flag or the method, or may get one of them from code outside of the script."""
    family = relatives(script, cls)
    if is_flagged(family) or any(defines_reports(each) for each in family):
        return True
    # The flag may be set from outside: Model.supports_report_metrics = True, setattr, a decorator.
    is_decorated = any(each.node.decorator_list for each in family)
    return derives_from_unknown(script, cls) or _sets_flag_of_others(script) or is_decorated


def defines_reports(cls: Class) -> bool:
    """Return whether a class defines ``report_metrics`` by itself, or assigns it."""
    if any(isinstance(part, ast.FunctionDef) and part.name == "report_metrics" for part in cls.node.body):
        return True
    assigned = [node for node in ast.walk(cls.node) if isinstance(node, ast.Assign | ast.AnnAssign)]
    return any(_name(target) == "report_metrics" for node in assigned for target in _targets(node))


def derives_from_unknown(script: Script, cls: Class) -> bool:
    """Return whether a base class is unknown: neither in the script nor in a package whose modules have no flag."""
    return any(name is None or not is_known(name) for name in foreign_bases(script, cls))


def is_known(name: str) -> bool:
    """Return whether a dotted name is of a package whose modules have no flag."""
    package = name.partition(".")[0]
    return package in sys.stdlib_module_names or package in _KNOWN


def _sets_flag_of_others(script: Script) -> bool:
    return any(
        (isinstance(node, ast.Attribute) and node.attr == FLAG and not isinstance(node.ctx, ast.Load))
        or (isinstance(node, ast.Constant) and node.value == FLAG)
        for _, node in script.expressions
    )


def _sets_flag(tree: ast.AST) -> bool:
    for node in ast.walk(tree):
        targets = _targets(node)
        value = getattr(node, "value", None)
        is_false = isinstance(value, ast.Constant) and not value.value
        if any(_name(target) == FLAG for target in targets) and not is_false:
            return True
    return any(isinstance(node, ast.Constant) and node.value == FLAG for node in ast.walk(tree))


def _targets(node: ast.AST) -> list[ast.expr]:
    return node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []


def _name(node: ast.expr) -> str | None:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else None
