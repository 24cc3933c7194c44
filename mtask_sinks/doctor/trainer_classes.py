"""Tells which classes of a script are trainers, and which of their methods run in place of others."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from mtask_sinks.doctor.classes import expressions_of, foreign_bases, method, reached, resolution_order
from mtask_sinks.doctor.script import Class, Function, Script

MIXIN = "mtask_sinks.MultiTaskTrainerMixin"
MULTI_TASK = ("mtask_sinks.HfMultiTaskTrainer", MIXIN)

_PACKAGES = ("transformers", "trl", "sentence_transformers", "setfit")


def uses_multi_task_trainer(script: Script) -> bool:
    """Return whether the script uses a trainer of this library."""
    return script.uses(*MULTI_TASK)


def has_trainer(script: Script) -> bool:
    """Return whether the script uses a Trainer class. A file without one may be a module of another script."""
    return any(name.endswith(("Trainer", "TrainerMixin")) for name in script.used)


def trainer_name(script: Script, name: str | None) -> str | None:
    """Return the Trainer class that a name refers to, directly or through a class of the script; else ``None``."""
    if name in script.classes:
        cls: Class = script.classes[name]
        found = (trainer_name(script, base) for base in foreign_bases(script, cls))
        return cls.node.name if any(found) else None
    package, last = (name or "").partition(".")[0], (name or "").rpartition(".")[2]
    return last if package in _PACKAGES and last.endswith("Trainer") else None


def is_trainer(script: Script, cls: Class) -> bool:
    """Return whether a class derives from a Trainer class, of this library or of another one."""
    return any(name in MULTI_TASK or trainer_name(script, name) for name in foreign_bases(script, cls))


def is_multi_task(script: Script, cls: Class) -> bool:
    """Return whether a class derives from a trainer of this library."""
    return any(name in MULTI_TASK for name in foreign_bases(script, cls))


def replacing_methods(script: Script, name: str, *, even_behind_ours: bool = False) -> Iterator[Function]:
    """Yield the methods of multi-task trainers that replace the Trainer's: they do not call ``super()``.

    Args:
        name: name of the methods.
        even_behind_ours: also look at bases that come after the mixin, because the mixin's method calls theirs.
    """
    seen: list[ast.AST] = []
    for cls in script.classes.values():
        order = resolution_order(script, cls)
        ours = next((place for place, each in enumerate(order) if each in MULTI_TASK), None)
        if ours is None:
            continue
        for each in order if even_behind_ours else order[:ours]:
            found = method(each, name) if isinstance(each, Class) else None
            if found is None or calls_base(script, found, name):
                continue
            if found.node not in seen:
                seen.append(found.node)
                yield found
            break  # Python never calls the methods of later bases


def calls_base(script: Script, function: Function, name: str) -> bool:
    """Return whether a method calls its base's method, directly or not: ``super().name``, ``Trainer.name(self)``."""
    return any(_is_of_base(node, name) for node in expressions_of(reached(script, function)))


def _is_of_base(node: ast.expr, name: str) -> bool:
    if isinstance(node, ast.Attribute) and node.attr == name and isinstance(node.value, ast.Call):
        return isinstance(node.value.func, ast.Name) and node.value.func.id == "super"
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == name and node.args:
        return isinstance(node.args[0], ast.Name) and node.args[0].id == "self"
    return False
