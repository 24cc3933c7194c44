"""Checks of the modules that report."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator

from mtask_sinks.doctor.finding import Observation
from mtask_sinks.doctor.script import Class, Script

FLAG = "supports_report_metrics"

# Packages whose modules have no flag.
_KNOWN = frozenset(
    [
        *(
            "accelerate",
            "datasets",
            "diffusers",
            "evaluate",
            "huggingface_hub",
            "mtask_sinks",
            "numpy",
            "pandas",
            "peft",
        ),
        *("safetensors", "scipy", "sentence_transformers", "sklearn", "tokenizers", "torch", "torchmetrics"),
        *("torchvision", "tqdm", "transformers", "trl"),
    ]
)
_MULTI_TASK = ("mtask_sinks.HfMultiTaskTrainer", "mtask_sinks.MultiTaskTrainerMixin")


def uses_multi_task_trainer(script: Script) -> bool:
    """Whether the script uses a trainer of this library."""
    return script.uses(*_MULTI_TASK)


def nothing_reports(script: Script) -> Iterator[Observation]:
    """The script uses a multi-task trainer, but nothing reports: no flag, no `report_metrics`, no ``capture=``."""
    is_captured = any(keyword.arg == "capture" for _, call in script.calls for keyword in call.keywords)
    mentions = any(_name(node) == "report_metrics" for _, node in script.expressions)
    if not uses_multi_task_trainer(script) or script.report_calls or has_flag(script) or mentions or is_captured:
        return
    if any(not _is_known(package) for package in script.foreign) or script.unread:
        return  # an imported module may report metrics
    yield Observation(
        script.main.where(script.main.tree.body[0]).rpartition(":")[0],
        "the script seems to report nothing: no module sets supports_report_metrics = True, nothing calls "
        "report_metrics, and no capture= is passed.",
        "Call report_metrics('mlm', loss=...) where the losses are computed, or pass capture='*loss*' to capture named "
        "losses from the outputs of the model.",
    )


def no_flag(script: Script) -> Iterator[Observation]:
    """A class calls ``self.report_metrics`` but has no flag, so it never gets that method."""
    for report in script.report_calls:
        cls = report.cls
        if report.kind != "self" or cls is None or _may_have_flag(script, cls) or not has_trainer(script):
            continue
        yield Observation(
            report.source.where(report.node),
            f"{cls.node.name} calls self.report_metrics, but neither it nor its base classes set {FLAG} = True: the "
            "trainer never gives it that method.",
            f"Set {FLAG} = True in the class, or call the function: from mtask_sinks import report_metrics.",
        )


def no_guard(script: Script) -> Iterator[Observation]:
    """A class calls ``self.report_metrics`` without checking that it exists, which breaks plain inference."""
    seen: set[int] = set()
    for report in script.report_calls:
        cls = report.cls
        if report.kind != "self" or cls is None or id(cls.node) in seen:
            continue
        relatives = script.relatives(cls)
        if not _is_flagged(relatives) or _derives_from_unknown(script, cls) or any(map(_is_guarded, relatives)):
            continue
        seen.add(id(cls.node))
        yield Observation(
            report.source.where(report.node),
            f"{cls.node.name} calls self.report_metrics, which exists only while a trainer runs: a forward in plain "
            "inference raises AttributeError.",
            "Check first: if hasattr(self, 'report_metrics'): ... Or call the function report_metrics, which does "
            "nothing in plain inference.",
        )


def has_flag(script: Script) -> bool:
    """Whether any class has the flag, or may have it."""
    return any(_sets_flag(source.tree) for source in script.sources)


def has_trainer(script: Script) -> bool:
    """Whether the script uses a Trainer class. A file without one may be a module of another script."""
    return any(name.endswith(("Trainer", "TrainerMixin")) for name in script.used)


def _may_have_flag(script: Script, cls: Class) -> bool:
    relatives = script.relatives(cls)
    if _is_flagged(relatives) or any(_defines_method(each.node) for each in relatives):
        return True
    # The flag may be set from outside: Model.supports_report_metrics = True, setattr, a decorator.
    is_decorated = any(each.node.decorator_list for each in relatives)
    return _derives_from_unknown(script, cls) or _sets_flag_of_others(script) or is_decorated


def _is_flagged(classes: list[Class]) -> bool:
    return any(_sets_flag(each.node) for each in classes)


def _derives_from_unknown(script: Script, cls: Class) -> bool:
    """Whether a base class is unknown: neither in the script nor in a package whose modules have no flag."""
    return any(name is None or not _is_known(name) for name in script.ancestors(cls)[1])


def _sets_flag_of_others(script: Script) -> bool:
    return any(
        (isinstance(node, ast.Attribute) and node.attr == FLAG and not isinstance(node.ctx, ast.Load))
        or (isinstance(node, ast.Constant) and node.value == FLAG)
        for _, node in script.expressions
    )


def _sets_flag(tree: ast.AST) -> bool:
    for node in ast.walk(tree):
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        value = getattr(node, "value", None)
        is_false = isinstance(value, ast.Constant) and not value.value
        if any(_name(target) == FLAG for target in targets) and not is_false:
            return True
    return any(isinstance(node, ast.Constant) and node.value == FLAG for node in ast.walk(tree))


def _name(node: ast.expr) -> str | None:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else None


def _defines_method(node: ast.ClassDef) -> bool:
    return any(isinstance(part, ast.FunctionDef) and part.name == "report_metrics" for part in node.body)


def _is_guarded(cls: Class) -> bool:
    """Whether the class mentions the method by name, as in hasattr, or handles AttributeError."""
    return _defines_method(cls.node) or any(
        (isinstance(node, ast.Constant) and node.value == "report_metrics")
        or (isinstance(node, ast.Name) and node.id == "AttributeError")
        for node in ast.walk(cls.node)
    )


def _is_known(name: str) -> bool:
    package = name.partition(".")[0]
    return package in sys.stdlib_module_names or package in _KNOWN
