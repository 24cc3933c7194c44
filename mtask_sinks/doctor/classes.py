"""Follows the base classes of a script's classes, and the calls of its methods and functions."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from mtask_sinks.doctor.script import Class, Function, Script

# Stop here if classes derive from each other in a circle.
_MAX_CLASSES = 200


def bases(script: Script, cls: Class) -> list[str | None]:
    """Return the base classes of a class, in order."""
    return [script.resolve(cls.source, base) for base in cls.node.bases]


def with_own_bases(script: Script, cls: Class) -> list[Class]:
    """Return a class, and those of its bases that the script defines."""
    return [each for each in resolution_order(script, cls) if isinstance(each, Class)]


def foreign_bases(script: Script, cls: Class) -> list[str | None]:
    """Return the names of a class's bases that are defined elsewhere; ``None`` for one that is unknown."""
    return [each for each in resolution_order(script, cls) if not isinstance(each, Class)]


def relatives(script: Script, cls: Class) -> list[Class]:
    """Return a class, its bases in the script, and the classes that derive from it."""
    return [
        *with_own_bases(script, cls),
        *(other for other in script.classes.values() if other is not cls and cls in with_own_bases(script, other)),
    ]


def resolution_order(script: Script, cls: Class) -> list[Class | str | None]:
    """Return a class and its bases, in the order in which Python looks for a method.

    Bases that are defined elsewhere are names, or ``None`` if unknown. This is Python's order, except in a few cases of
    multiple inheritance in which two bases share a base.
    """
    found: list[Class | str | None] = []
    waiting: list[Class | str | None] = [cls]
    while waiting and len(found) < _MAX_CLASSES:
        each = waiting.pop(0)
        found.append(each)
        if isinstance(each, Class):
            waiting[:0] = [script.classes.get(name or "", name) for name in bases(script, each)]
    return [each for place, each in enumerate(found) if each not in found[place + 1 :]]


def method(cls: Class, name: str) -> Function | None:
    """Return a method that the body of a class defines; ``None`` if it defines none of that name."""
    for part in cls.node.body:
        if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef)) and part.name == name:
            return Function(cls.source, part, cls)
    return None


def find_method(script: Script, cls: Class, name: str) -> Function | None:
    """Return the method that a class of the script has or inherits from another one; ``None`` if it has none."""
    found = (method(each, name) for each in with_own_bases(script, cls))
    return next((each for each in found if each is not None), None)


def reached(script: Script, function: Function) -> list[Function]:
    """Return a function, and the functions and methods of the script that it calls, directly or indirectly.

    A method counts as called wherever ``self.name`` appears, even if the function only passes it on.
    """
    found = [function]
    for each in found:  # the list grows in the loop
        nodes = [other.node for other in found]
        found += [called for called in _mentioned(script, each, function.cls) if called.node not in nodes]
    return found


def expressions_of(functions: list[Function]) -> Iterator[ast.expr]:
    """Yield every expression of some functions."""
    for function in functions:
        yield from (node for node in ast.walk(function.node) if isinstance(node, ast.expr))


def words_of(functions: list[Function]) -> set[str]:
    """Return the names and attributes in some functions."""
    nodes = list(expressions_of(functions))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    return names | {node.attr for node in nodes if isinstance(node, ast.Attribute)}


def name_of(function: Function) -> str:
    """Return the name of a function as a person reads it: ``collate``, ``Model.forward``."""
    name = "a lambda" if isinstance(function.node, ast.Lambda) else function.node.name
    return name if function.cls is None else f"{function.cls.node.name}.{name}"


def _mentioned(script: Script, function: Function, cls: Class | None) -> list[Function]:
    found: dict[ast.AST, Function] = {}
    for node in expressions_of([function]):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
            called = None if cls is None else find_method(script, cls, node.attr)
        elif isinstance(node, ast.Name):
            called = script.functions.get(script.resolve(function.source, node) or "")
        else:
            continue
        if called is not None:
            found[called.node] = called
    return list(found.values())
